//! Takes secrets out of text that others have written: a driver's error, a panic's message, a name.
//!
//! Drivers put into their errors what they were given, and that may be a URL with a password. What the pool itself prints or
//! logs goes through here. The error in `source()` is the driver's own and stays as it is.

use std::borrow::Cow;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Words before `=` or `:` whose value nobody is to see. Compared without case, and also as the end of a longer word, as in
/// `sslpassword` or `db_password`; `pass` only where a word begins, because of `bypass`.
const SECRET_WORDS: [&str; 9] =
    ["password", "passwd", "pwd", "pass", "secret", "token", "api_key", "apikey", "access_key"];

/// The text without passwords of URLs (`scheme://user:password@host`) and without the values of words like `password` and
/// `token` (`password=...`, `"token": "..."`).
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    // Nearly all texts have neither, and are not copied.
    if !text.contains("://") && !text.contains(['=', ':']) {
        return Cow::Borrowed(text);
    }
    let Some(mut clean) = masked(text) else { return Cow::Borrowed(text) };
    // What was a URL may be none any more, and no longer hide what stands behind it. There is an end of it: each round either
    // takes away more of the text or changes nothing.
    while let Some(cleaner) = masked(&clean).filter(|cleaner| *cleaner != clean) {
        clean = cleaner;
    }
    Cow::Owned(clean)
}

/// The text with a mask in the place of each secret, if there is one.
fn masked(text: &str) -> Option<String> {
    let mut secrets = user_infos(text);
    secrets.extend(values(text));
    if secrets.is_empty() {
        return None;
    }
    secrets.sort_unstable();
    let mut clean = String::with_capacity(text.len());
    let mut from = 0;
    let mut host_until = 0;
    for Secret { start, end, host_before } in secrets {
        if start >= from {
            clean.push_str(text.get(from..start).unwrap_or_default());
            clean.push_str(MASK);
            from = end;
            host_until = host_before;
        } else if start >= host_until {
            from = from.max(end);
        }
    }
    clean.push_str(text.get(from..).unwrap_or_default());
    Some(clean)
}

/// Where a secret stands.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Secret {
    start: usize,
    end: usize,
    /// What begins within this one and before that place, and reaches beyond this one, reaches into the name of a host.
    host_before: usize,
}

/// Where URLs have passwords: from the first colon after `://` to the last `@` of the URL. One that nobody has encoded may
/// hold anything but white space and what URLs are quoted with.
fn user_infos(text: &str) -> Vec<Secret> {
    text.match_indices("://")
        .filter_map(|(at, separator)| {
            let scheme = text.get(..at)?;
            let before = scheme.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
            let quoted = before.ends_with('\'');
            let begin = at + separator.len();
            let rest = text.get(begin..)?;
            let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '`' | '<' | '>') || quoted && c == '\'';
            let url = rest.get(..rest.find(ends).unwrap_or(rest.len()))?;
            let at = url.rfind('@')?;
            let colon = url.get(..at)?.find(':')?;
            let path = url.find(['/', '?', '#']).unwrap_or(url.len());
            let secret = Secret { start: begin + colon + 1, end: begin + at, host_before: begin + path };
            (secret.start < secret.end).then_some(secret)
        })
        .collect()
}

/// Where values of secret words stand.
fn values(text: &str) -> Vec<Secret> {
    let lower = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for word in SECRET_WORDS {
        for (at, _) in lower.match_indices(word) {
            let within = lower.get(..at).is_some_and(|before| before.ends_with(|c: char| c.is_ascii_alphanumeric()));
            if let Some(span) = value_after(text, at + word.len()).filter(|_| word != "pass" || !within) {
                found.push(span);
            }
        }
    }
    found
}

/// The value that follows a word: after `=` or `:`, with quotes and blanks around them, and `Some(` before it.
fn value_after(text: &str, word_end: usize) -> Option<Secret> {
    let rest = text.get(word_end..)?;
    let sign = rest.trim_start_matches([' ', '"', '\'']);
    let value = sign.strip_prefix(['=', ':'])?.trim_start_matches(' ');
    let value = value.strip_prefix("Some(").unwrap_or(value);
    let begin = text.len() - value.len();
    let (start, end) = match value.chars().next()? {
        quote @ ('"' | '\'') => (begin + 1, begin + 1 + quoted_end(value.get(1..)?, quote)),
        _ => (begin, begin + bare_end(value)),
    };
    (start < end).then_some(Secret { start, end, host_before: 0 })
}

/// Where a quoted value ends: at the quote, unless that is escaped or doubled.
fn quoted_end(value: &str, quote: char) -> usize {
    let mut chars = value.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at;
        }
    }
    value.len()
}

/// Where a value without quotes ends: at white space, or where a separator and another `word=` follow.
fn bare_end(value: &str) -> usize {
    let ends = |at: usize, c: char| {
        let next = value.get(at + c.len_utf8()..).unwrap_or_default().trim_start_matches([' ', '"', '\'']);
        let word = next.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        c.is_whitespace()
            || matches!(c, '&' | ';' | ',')
                && word.len() < next.len()
                && word.trim_start_matches([' ', '"', '\'']).starts_with(['=', ':'])
    };
    value.char_indices().find(|&(at, c)| ends(at, c)).map_or(value.len(), |(at, _)| at)
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_a_url_or_a_setting_is_left() {
        for (text, clean) in [
            ("cannot reach redis://user:s3cr3t@db:6379/0", "cannot reach redis://user:***@db:6379/0"),
            ("postgres://a:p@ss:w@rd@host/db, then", "postgres://a:***@host/db, then"),
            ("redis://:s3cr3t@db", "redis://:***@db"),
            ("host=db password=s3cr3t user=a", "host=db password=*** user=a"),
            ("host=db password='s3 cr3t' user=a", "host=db password='***' user=a"),
            (r#"{"Token": "s3cr3t", "n": 1}"#, r#"{"Token": "***", "n": 1}"#),
            ("http://db/?user=a&db_password=s3cr3t&x=1", "http://db/?user=a&db_password=***&x=1"),
            ("Server=db;Pwd=s3cr3t;Uid=a", "Server=db;Pwd=***;Uid=a"),
            ("mysql://a:password=s3cr3t@db", "mysql://a:***@db"),
            ("http://db:80/?password=s3cr3t@s3cr3t", "http://db:***"),
            (r#"token=a"password="s3cr3t s3cr3t""#, "token=***"),
            ("pass://&pass:s3cr3t@s3cr3t", "pass:***&pass:***"),
            ("redis://:o'brien@db", "redis://:***@db"),
            ("no route to 'redis://:s3cr3t@db'", "no route to 'redis://:***@db'"),
            ("password=a,b;c host=db", "password=*** host=db"),
            ("/?password=a&b&user=c", "/?password=***&user=c"),
            (r"password='it\'s secret' user=a", "password='***' user=a"),
            ("password='it''s secret' user=a", "password='***' user=a"),
            (r#"{"password":"a\"sesame"}"#, r#"{"password":"***"}"#),
            (r#"Info { user: "a", pass: Some("open sesame") }"#, r#"Info { user: "a", pass: Some("***") }"#),
            // Rather too much than too little: nobody can tell where a password ends that was not encoded.
            ("http://host:8080/path?at=a@b", "http://host:***@b"),
            ("two: redis://:s3cr3t@a redis://:s3cr3t@b", "two: redis://:***@a redis://:***@b"),
        ] {
            assert_eq!(redact(text), clean);
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "Connection refused (os error 111)",
            "password authentication failed for user \"app\"",
            "no such database: app",
            "redis://db:6379/0 is away",
            "a mailbox, a@b.c, and 10:30",
            "bypass: true",
            "",
        ] {
            assert!(matches!(redact(text), Cow::Borrowed(same) if same == text), "{text} -> {}", redact(text));
        }
    }
}
