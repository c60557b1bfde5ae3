//! Takes secrets out of text that others have written: a driver's error, a panic's message, a name.
//!
//! Drivers put into their errors what they were given, and that may be a URL with a password. What the pool itself prints or
//! logs goes through here. The error in `source()` is the driver's own and stays as it is.

use std::borrow::Cow;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Words before `=` or `:` whose value nobody is to see. Compared without case, and also as the end of a longer word, as in
/// `sslpassword` or `db_password`; `pass` only where a word begins, because of `bypass`.
const SECRET_WORDS: [&str; 10] =
    ["password", "passwd", "pwd", "pass", "passphrase", "secret", "token", "api_key", "apikey", "access_key"];

/// Those that say so only of a parameter of a URL: elsewhere they are words like others, as in `duplicate key: 5`.
const SECRET_PARAMETERS: [&str; 7] = ["key", "auth", "sig", "signature", "jwt", "credential", "credentials"];

/// Schemes in which a user that stands alone is one. In others it may be a token, as in `https://TOKEN@host`.
const SCHEMES_OF_USERS: [&str; 6] = ["postgres", "postgresql", "mysql", "mariadb", "mongodb", "mongodb+srv"];

/// Whether the value of a URL's parameter is a secret by the parameter's name. One that is encoded hides what it is.
pub(crate) fn is_secret_parameter(name: &str) -> bool {
    let bare: String = name.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    name.contains('%') || SECRET_WORDS.iter().chain(&SECRET_PARAMETERS).any(|secret| bare.ends_with(secret))
}

/// Whether the user of a URL without a password may be a secret itself. A colon that somebody has encoded may have been meant
/// as one.
pub(crate) fn is_secret_user(scheme: &str, user: &str) -> bool {
    let has_users = SCHEMES_OF_USERS.iter().any(|known| known.eq_ignore_ascii_case(scheme));
    !user.is_empty() && (!has_users || user.to_ascii_uppercase().contains("%3A"))
}

/// The text without passwords of URLs (`scheme://user:password@host`), without users of URLs that may be tokens
/// (`scheme://token@host`), without the values of parameters that are called like a secret (`?key=...`), and without the
/// values of words like `password` and `token` anywhere (`password=...`, `"token": "..."`).
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
    secrets.extend(parameters(text));
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

/// Where URLs have passwords, and users that may be tokens.
fn user_infos(text: &str) -> Vec<Secret> {
    let mut found = Vec::new();
    for (at, separator) in text.match_indices("://") {
        let (before, scheme) = scheme_at_end(text.get(..at).unwrap_or_default());
        let begin = at + separator.len();
        let rest = text.get(begin..).unwrap_or_default();
        let url = rest.get(..url_end(rest, before.ends_with('\''))).unwrap_or_default();
        let path = url.find(['/', '?', '#']).unwrap_or(url.len());
        found.extend(lone_user(scheme, url.get(..path).unwrap_or_default(), begin));
        found.extend(password(url, begin, path));
    }
    found
}

/// What stands before a scheme, and the scheme.
fn scheme_at_end(text: &str) -> (&str, &str) {
    let before = text.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    text.split_at(before.len())
}

/// Where a URL ends: one that nobody has encoded may hold anything but white space and what URLs are quoted with.
fn url_end(rest: &str, quoted: bool) -> usize {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '`' | '<' | '>') || quoted && c == '\'';
    rest.find(ends).unwrap_or(rest.len())
}

/// The password of a URL that begins at `begin`: from the first colon to the last `@`.
fn password(url: &str, begin: usize, path: usize) -> Option<Secret> {
    let at = url.rfind('@')?;
    let colon = url.get(..at)?.find(':')?;
    let secret = Secret { start: begin + colon + 1, end: begin + at, host_before: begin + path };
    (secret.start < secret.end).then_some(secret)
}

/// The user without a password of the authority at `begin`, where it may be a secret. Only in the authority, because an `@`
/// further on is seldom a user's (`https://host/@scope/package`).
fn lone_user(scheme: &str, authority: &str, begin: usize) -> Option<Secret> {
    let user = authority.get(..authority.rfind('@')?)?;
    // With an empty password, as tokens are given to curl.
    let user = user.strip_suffix(':').unwrap_or(user);
    let is_secret = !user.contains(':') && is_secret_user(scheme, user);
    let host_before = begin + authority.len();
    is_secret.then_some(Secret { start: begin, end: begin + user.len(), host_before })
}

/// Where values of secret parameters of URLs stand: after `?`, `&` or `#`, a name and `=`, up to the next parameter. The URL
/// may be one without `//`, or without a scheme.
fn parameters(text: &str) -> Vec<Secret> {
    text.match_indices(['?', '&', '#'])
        .filter_map(|(at, _)| {
            let rest = text.get(at + 1..)?;
            let name = rest.get(..parameter_name(rest)?)?;
            if !is_secret_parameter(name) {
                return None;
            }
            let begin = at + 1 + name.len() + 1;
            let value = text.get(begin..)?;
            let value = value.get(..url_end(value, is_quoted(text.get(..at)?)))?;
            let next = |&(at, _): &(usize, &str)| value.get(at + 1..).and_then(parameter_name).is_some();
            let end = value.match_indices(['&', '#']).find(next).map_or(value.len(), |(at, _)| at);
            (end > 0).then_some(Secret { start: begin, end: begin + end, host_before: 0 })
        })
        .collect()
}

/// Where the name of a parameter ends that the text begins with.
fn parameter_name(text: &str) -> Option<usize> {
    let end = text.find(|c: char| c.is_whitespace() || "\"'`<>?&#=".contains(c))?;
    (end > 0 && text.get(end..)?.starts_with('=')).then_some(end)
}

/// Whether the URL that the text ends within stands in single quotes.
fn is_quoted(text: &str) -> bool {
    let begin = text.rfind(|c: char| c.is_whitespace() || matches!(c, '"' | '`' | '<' | '>'));
    let url = text.get(begin.map_or(0, |at| text.ceil_char_boundary(at + 1))..).unwrap_or_default();
    url.split_once(':').is_some_and(|(scheme, _)| scheme_at_end(scheme).0.ends_with('\''))
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
    use proptest::prelude::*;

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
            ("https://s3cr3t@host/path", "https://***@host/path"),
            ("cannot reach redis://s3cr3t@db:6379/a@b: no", "cannot reach redis://***@db:***@b: no"),
            ("https://s3cr3t:@host and HTTPS://s3@cr3t@host", "https://***:@host and HTTPS://***@host"),
            ("https://token=s3cr3t@host/path", "https://***@host/path"),
            ("MySQL://u%3as3cr3t@h, postgres://app@h", "MySQL://***@h, postgres://app@h"),
            ("https://proxy/?next=https://s3cr3t@host", "https://proxy/?next=https:***@host"),
            ("https://h/?key=s3cr3t&a=1#sig=s3cr3t", "https://h/?key=***&a=1#sig=***"),
            ("https://h/?X-Amz-Signature=s3;cr=3t&b", "https://h/?X-Amz-Signature=***"),
            ("GET /x?auth=s3cr3t HTTP/1.1", "GET /x?auth=*** HTTP/1.1"),
            ("no 'file:x.db?key=s3cr3t', no", "no 'file:x.db?key=***', no"),
            ("http://o'brien:s3@h/?jwt=s3'cr3t", "http://o'brien:***@h/?jwt=***"),
            ("https://h/?p%61ssword=s3cr3t", "https://h/?p%61ssword=***"),
            ("https://h/?credential=s3cr3t&tags[key]=s3cr3t", "https://h/?credential=***&tags[key]=***"),
            ("https://h/?a+key=s3cr3t", "https://h/?a+key=***"),
        ] {
            assert_eq!(redact(text), clean);
            assert_eq!(redact(clean), clean);
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
            "duplicate key: 5, key=5, sig=5, auth: none, bad signature: none",
            "SELECT a FROM t WHERE a = ? AND key = 5",
            "postgresql://app@db/orders, mysql://app@db and mongodb+srv://app@db",
            "https://host/@scope/package and https://host/?at=a&page=2#part",
            "https://@host",
            "",
        ] {
            assert!(matches!(redact(text), Cow::Borrowed(same) if same == text), "{text} -> {}", redact(text));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn masking_twice_is_masking_once(
            text in "(([a-z'\" ,;ü]{0,3}|key|auth|pass|token|sig)([:=?&#@/*% ']{0,2}|://){1,2}){0,8}",
        ) {
            let once = redact(&text);
            prop_assert_eq!(redact(&once), once.clone());
        }

        #[test]
        fn no_token_in_front_of_a_host_and_no_key_behind_it_is_left(
            before in "[a-z=: ?&'\"]{0,8}",
            scheme in "(https?|redis|amqp|x)",
            path in "(/[a-z@:=&]{0,6}){0,2}",
            name in "(x-)?(api)?(key|auth|sig|jwt|signature|credentials?|passphrase)",
            after in "\\PC{0,12}",
        ) {
            let text = format!("{before} {scheme}://S3CR3T@host{path}?a=b&{name}=S3CR3T {after}");
            prop_assert!(!redact(&text).contains("S3CR3T"), "{}", redact(&text));
        }
    }
}
