//! URLs of servers, and what is wrong with those that cannot be used.

use ::redis::{ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError};

const SCHEMES: [&str; 7] = ["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix", "valkey+unix"];

/// Those that one may have meant, and that may be shown: anything may stand before the "://" of what is no URL.
const OTHER_SCHEMES: [&str; 12] = [
    "file",
    "http",
    "https",
    "memcached",
    "mysql",
    "postgres",
    "postgresql",
    "redis-cluster",
    "redis-sentinel",
    "ssl",
    "tcp",
    "tls",
];

/// As long as a port can be, with a place to spare. What is shown of a URL is no longer, and only digits, because a piece of the
/// password may stand where something else belongs.
const LONGEST_SHOWN: usize = 6;

/// Reads a URL. The driver says that it did not parse; here it is said why, without showing a password.
pub(super) fn parse(url: &str) -> Result<ConnectionInfo, RedisError> {
    let info = url.into_connection_info().map_err(|error| complaint(url).map_or(error, unusable))?;
    if let Some(what) = ignored(url) {
        return Err(unusable(what));
    }
    examine(&info)?;
    Ok(info)
}

/// What would fail at each attempt to connect, or not do what the URL says.
pub(super) fn examine(info: &ConnectionInfo) -> Result<(), RedisError> {
    let settings = info.redis_settings();
    if settings.db() < 0 {
        return Err(unusable(format!("the database number {} is negative", settings.db())));
    }
    if let (Some(_), None) = (settings.username(), settings.password()) {
        // The driver would leave both out and be whom the server takes it for. What it takes for a user may be a password.
        let what = "it names a user without a password (a password alone is written as \":password@\")";
        return Err(unusable(what.to_owned()));
    }
    if let ConnectionAddr::Tcp(host, 0) = info.addr() {
        return Err(unusable(format!("the port 0 of {host:?} cannot be connected to")));
    }
    Ok(())
}

fn unusable(what: String) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, "unusable Redis URL", what))
}

/// What is wrong, if it is one of the usual mistakes.
fn complaint(url: &str) -> Option<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Some(format!("it has no scheme: one of {} and \"://\" must come first", SCHEMES.join(", ")));
    };
    let scheme = scheme.to_ascii_lowercase();
    let scheme = scheme.as_str();
    if !SCHEMES.contains(&scheme) {
        let shown = OTHER_SCHEMES.iter().find(|other| **other == scheme).map(|other| format!(" {other:?}"));
        return Some(format!("the scheme{} is none of {}", shown.unwrap_or_default(), SCHEMES.join(", ")));
    }
    if let Some(what) = ignored(url) {
        return Some(what);
    }
    if scheme.contains("unix") {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if path.contains('@') {
        // What looks like a port or a path may be a piece of the password.
        return Some("a user or password with one of / ? # @ must have it percent-encoded".to_owned());
    }
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.is_empty() || host.starts_with(':') {
        return Some("it names no host".to_owned());
    }
    // An IPv6 address has colons of its own, in brackets.
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    if let Some(port) = port.filter(|port| port.parse::<u16>().is_err()) {
        return Some(format!("the port{} is not a number from 1 to 65535", shown(port)));
    }
    let db = path.split(['?', '#']).next()?.trim_matches('/');
    (!db.is_empty() && db.parse::<i64>().is_err()).then(|| format!("the database{} is not a number", shown(db)))
}

/// What the driver would leave out of account without a word.
fn ignored(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme.contains("unix") && !rest.starts_with('/') {
        return Some("it names a host or user, where the path of a socket is wanted (unix:///path)".to_owned());
    }
    of_query(&scheme, rest)
}

/// What is wrong with the part behind the "?".
fn of_query(scheme: &str, rest: &str) -> Option<String> {
    let (_, query) = rest.split('#').next()?.split_once('?')?;
    let (keys, instead): (&[&str], _) = if scheme.contains("unix") {
        (&["protocol", "db", "user", "pass"], "")
    } else if query.contains('@') {
        return Some("a user or password with one of / ? # @ must have it percent-encoded".to_owned());
    } else {
        (&["protocol"], "; user, password and database come before it: user:password@host/database")
    };
    query.split('&').filter(|part| !part.is_empty()).find_map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if !keys.contains(&key) {
            // A key without a value may be anything.
            let named = part.contains('=') && key.len() <= 20 && key.bytes().all(|byte| byte.is_ascii_alphabetic());
            let named = if named { format!(" {key:?}") } else { String::new() };
            return Some(format!("the key{named} after its \"?\" is none of {}{instead}", keys.join(", ")));
        }
        let unknown = key == "protocol" && !["2", "3", "resp2", "resp3"].contains(&value);
        unknown.then(|| "the protocol is none of 2, 3, resp2, resp3".to_owned())
    })
}

/// A number, with a space before it, or nothing if it may be something else.
fn shown(text: &str) -> String {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = text.len() <= LONGEST_SHOWN && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if number { format!(" {text:?}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (url, named) in [
            ("http://:s3cr3t@db", "the scheme \"http\""),
            ("s3cr3t://db", "the scheme is none"),
            ("REDIS://:s3cr3t@db:99999", "the port \"99999\""),
            ("s3cr3t@db:6379", "no scheme"),
            ("redis:s3cr3t@db", "no scheme"),
            ("redis://:s3cr3t@db:99999/0", "the port \"99999\""),
            ("redis://:s3cr3t@db:x", "the port is not"),
            ("redis://db:6379:s3cr3t", "the port is not"),
            ("redis://default:s3cr3t", "the port is not"),
            ("redis://:s3cr3t", "no host"),
            ("redis://:s3cr3t/0", "no host"),
            ("redis://:s3cr3t@db:0", "the port 0"),
            ("redis://:s3cr3t@db/zero", "the database is not a number"),
            ("redis://db/s3cr3t", "the database is not a number"),
            ("redis://db/3.5", "the database is not"),
            ("redis://:s3cr3t@db/-1", "the database number -1"),
            ("redis://:s3cr3t@/0", "no host"),
            ("redis://:s3cr3t/4@db/0", "percent-encoded"),
            ("redis://:s3cr3t#4@db", "percent-encoded"),
            ("redis://s3cr3t@db", "a user without a password"),
            ("redis://db?db=3", "the key \"db\""),
            ("redis://db/3?password=s3cr3t", "the key \"password\""),
            ("redis://db?s3cr3t", "the key after"),
            ("redis://db?s3cr3t=", "the key after"),
            ("redis://app:1?a=s3cr3t@db", "percent-encoded"),
            ("redis://app:s3cr3t?x", "the key after"),
            ("redis://db?protocol=s3cr3t", "the protocol is none"),
            ("unix:///r.sock?password=s3cr3t", "the key \"password\""),
            ("unix://app:s3cr3t@/r.sock", "path of a socket"),
            ("redis://:%ff%s3cr3t@db", "Password is not valid UTF-8"),
            ("redis://db/?protocol=4", "protocol"),
            ("unix:///run/redis.sock?db=x", "database number"),
            ("redis://0.0.0.0", "wildcard"),
            ("rediss://:s3cr3t@db", "TLS"),
            ("", "no scheme"),
        ] {
            let error = parse(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidClientConfig, "{url}");
            let text = error.to_string();
            assert!(text.contains(named), "{url}: {text}");
            assert!(!text.contains("s3cr3t"), "{url}: {text}");
        }
    }

    #[test]
    fn good_urls_are_taken() {
        for url in [
            "redis://db",
            "valkey://db/3",
            "redis://a:b%40c@[::1]:7/1",
            "redis://:p@db?protocol=3",
            "unix:///r.sock?db=2&user=app&pass=a@b&protocol=resp3",
            "REDIS://db",
        ] {
            parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
    }
}
