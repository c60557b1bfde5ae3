//! URLs of servers, and what is wrong with those that cannot be used.

use ::redis::{ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError};

const SCHEMES: [&str; 7] = ["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix", "valkey+unix"];

/// Reads a URL. The driver says that it did not parse; here it is said why, without showing a password.
pub(super) fn parse(url: &str) -> Result<ConnectionInfo, RedisError> {
    let info = url.into_connection_info().map_err(|error| complaint(url).map_or(error, unusable))?;
    examine(&info)?;
    Ok(info)
}

/// What would fail at each attempt to connect, or not do what the URL says.
pub(super) fn examine(info: &ConnectionInfo) -> Result<(), RedisError> {
    let settings = info.redis_settings();
    if settings.db() < 0 {
        return Err(unusable(format!("the database number {} is negative", settings.db())));
    }
    if let (Some(user), None) = (settings.username(), settings.password()) {
        // The driver would leave both out and be whom the server takes it for.
        return Err(unusable(format!("the user {user:?} has no password")));
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
    if !SCHEMES.contains(&scheme) {
        // Anything may stand before the "://" of what is no URL.
        let shown = scheme.len() <= 20 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let scheme = if shown { format!("the scheme {scheme:?}") } else { "the scheme".to_owned() };
        return Some(format!("{scheme} is none of {}", SCHEMES.join(", ")));
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
    if host.is_empty() {
        return Some("it names no host".to_owned());
    }
    // An IPv6 address has colons of its own, in brackets.
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    if let Some(port) = port.filter(|port| port.parse::<u16>().is_err()) {
        return Some(format!("the port {port:?} is not a number from 1 to 65535"));
    }
    let db = path.split(['?', '#']).next()?.trim_matches('/');
    (!db.is_empty() && db.parse::<i64>().is_err()).then(|| format!("the database {db:?} is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (url, named) in [
            ("http://:s3cr3t@db", "the scheme \"http\""),
            ("s3cr3t@db:6379", "no scheme"),
            ("redis:s3cr3t@db", "no scheme"),
            ("redis://:s3cr3t@db:99999/0", "the port \"99999\""),
            ("redis://:s3cr3t@db:x", "the port \"x\""),
            ("redis://:s3cr3t@db:0", "the port 0"),
            ("redis://:s3cr3t@db/zero", "the database \"zero\""),
            ("redis://:s3cr3t@db/-1", "the database number -1"),
            ("redis://:s3cr3t@/0", "no host"),
            ("redis://:s3cr3t/4@db/0", "percent-encoded"),
            ("redis://:s3cr3t#4@db", "percent-encoded"),
            ("redis://app@db", "the user \"app\" has no password"),
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
            "unix:///r.sock?db=2",
        ] {
            parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
    }
}
