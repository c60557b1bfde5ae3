//! URLs as keys: those that mean the same are the same key.

use crate::Error;
use crate::redact::{is_secret_parameter, is_secret_user, redact};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use url::Url;

/// A URL as a key of [`Pools`](crate::Pools), normalised, so that `redis://localhost` and `redis://LOCALHOST:6379/0` share a
/// pool.
///
/// What is normalised:
///
/// - the scheme in lower case, and the host for schemes with a host that is one; `postgresql` is `postgres`;
/// - no port where it is the default of redis, rediss, valkey, valkeys, postgres, mysql, mariadb, mongodb, http, https, ws, wss
///   or ftp;
/// - the database: of Redis and Valkey 0 where none is named, of others no lone slash at the end;
/// - parameters in the order of their names (those of one name stay in theirs), without empty ones;
/// - percent-encoding: none where none is needed (`%7E` is `~`), the rest in upper case; an empty password is none.
///
/// What stays apart: `localhost` and `127.0.0.1`, `db` and `db.` (which is not looked for in the search list of the resolver), different users and different passwords, fragments (the redis crate reads
/// `#insecure`), and all that only the driver knows, such as a database that is named after the user. Of URLs of files and
/// sockets (`file`, `sqlite`, `unix`, `redis+unix` …) only the scheme, the parameters and the encoding are normalised: their
/// names may differ in case, and `..` stays, because of symbolic links. A URL without `//` is refused, but for `sqlite:` and `file:`. PostgreSQL's URLs with several hosts are refused, because they are none by the rules for URLs.
///
/// `Eq` and `Hash` go by all of it, the password included. `Debug` and `Display` mask the password, a user that stands alone
/// where it may be a token (http, Redis), and the values of parameters that are called like a secret.
///
/// # Examples
///
/// ```
/// use millpond::{Pool, Pools, UrlKey};
///
/// let pools = Pools::new(|url: &UrlKey| {
///     let url = url.as_url().to_owned(); // for the driver
///     Pool::builder(move || Ok::<_, std::io::Error>(url.clone())).build_lazy()
/// });
/// let key: UrlKey = "redis://:s3cr3t@Cache:6379".parse()?;
/// assert_eq!(key, UrlKey::parse("redis://:s3cr3t@cache/0")?);
/// assert_ne!(key, UrlKey::parse("redis://:other@cache/0")?);
/// assert_eq!(key.to_string(), "redis://:***@cache/0");
/// assert_eq!(*pools.get(&key)?, "redis://:s3cr3t@cache/0");
/// # Ok::<(), millpond::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UrlKey(Arc<str>);

impl UrlKey {
    /// Reads and normalises a URL.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where it is none, or has no scheme. The text does not repeat it, because
    /// nobody can tell which part of it is a password.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let spelled = spell(url.trim());
        let parsed = Url::parse(&spelled);
        let url = parsed.map_err(|error| Error::config(&[format!("the URL cannot be read: {error}")]))?;
        if !url.as_str().get(url.scheme().len()..).is_some_and(|rest| rest.starts_with("://"))
            && !["sqlite", "file"].contains(&url.scheme())
        {
            // Whatever stands there, no rule says where its password is.
            let problem = "the URL cannot be read: there is no // after its scheme";
            return Err(Error::config(&[problem.to_owned()]));
        }
        let whole = normal(url);
        Ok(Self(restore_dots(&spelled, whole).into()))
    }

    /// The normalised URL, with its password: for the driver, and not to be printed.
    #[must_use]
    pub fn as_url(&self) -> &str {
        &self.0
    }

    fn masked(&self) -> String {
        // Part by part, because only so is it known where a secret begins and ends.
        let Some((scheme, rest)) = self.0.split_once("://") else { return redact(&self.0).into_owned() };
        let (rest, fragment) = split_at(rest, '#');
        let (rest, query) = split_at(rest, '?');
        let (authority, path) = split_at(rest, '/');
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let user = user.map_or_else(String::new, |user| masked_user(scheme, user) + "@");
        let pairs: Vec<_> = query.split_inclusive(['?', '&']).map(masked_pair).collect();
        let fragment: Vec<_> = fragment.split_inclusive(['#', '&']).map(masked_pair).collect();
        format!("{scheme}://{user}{host}{path}{}{}", pairs.concat(), fragment.concat())
    }
}

/// Schemes whose path is the number of a database.
const OF_REDIS: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];

const DEFAULT_PORTS: [(&str, u16); 8] = [
    ("redis", 6379),
    ("rediss", 6379),
    ("valkey", 6379),
    ("valkeys", 6379),
    ("postgres", 5432),
    ("mysql", 3306),
    ("mariadb", 3306),
    ("mongodb", 27017),
];

/// Whether a host is a host: of schemes that nobody knows here it may be a file, in whose name case counts.
fn has_network(scheme: &str) -> bool {
    let known = DEFAULT_PORTS.iter().any(|(known, _)| *known == scheme);
    known || ["http", "https", "ws", "wss", "ftp", "mongodb+srv"].contains(&scheme)
}

/// The normal URL, with the path as it was spelled where that has `.` or `..` in it and there is no network: beyond a symbolic
/// link `..` is another folder than the one before.
fn restore_dots(spelled: &str, normal: Url) -> String {
    let rest = spelled.split_once("://").map(|(_, rest)| split_at(split_at(rest, '#').0, '?').0);
    let Some(path) = rest.map(|rest| split_at(rest, '/').1) else { return normal.into() };
    let dots = path.split('/').any(|segment| segment == "..");
    let clean = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>`{}^|\\".contains(&byte));
    if has_network(normal.scheme()) || !dots || !clean {
        return normal.into();
    }
    let whole = normal.as_str();
    let before = whole.find("://").map_or(0, |at| at + 3);
    let from = whole.get(before..).and_then(|rest| rest.find('/')).map_or(whole.len(), |at| before + at);
    let tail = whole.find(['?', '#']).unwrap_or(whole.len());
    format!("{}{path}{}", whole.get(..from.min(tail)).unwrap_or_default(), whole.get(tail..).unwrap_or_default())
}

/// Percent-encoding as it should be: letters, digits, `-`, `.`, `_` and `~` as they are, other codes in upper case, and a `%`
/// that begins no code as one.
fn spell(url: &str) -> String {
    let mut spelled = String::with_capacity(url.len());
    let mut rest = url;
    while let Some((before, after)) = rest.split_once('%') {
        spelled.push_str(before);
        let code = after.get(..2).filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
                if plain {
                    spelled.push(char::from(byte));
                } else {
                    spelled.push_str(&format!("%{byte:02X}"));
                }
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                spelled.push_str("%25");
                rest = after;
            }
        }
    }
    spelled.push_str(rest);
    spelled
}

// What a setter refuses cannot be normalised that way, and stays as it is.
fn normal(mut url: Url) -> Url {
    if url.scheme() == "postgresql" {
        let _refused = url.set_scheme("postgres");
    }
    if url.password() == Some("") {
        let _refused = url.set_password(None);
    }
    if let Some(query) = url.query() {
        let mut parameters: Vec<_> = query.split('&').filter(|parameter| !parameter.is_empty()).collect();
        parameters.sort_by_key(|parameter| parameter.split('=').next().unwrap_or_default());
        let query = parameters.join("&");
        url.set_query((!query.is_empty()).then_some(&query));
    }
    if has_network(url.scheme()) {
        normal_host(&mut url);
        normal_path(&mut url);
    }
    url
}

fn normal_host(url: &mut Url) {
    let default = DEFAULT_PORTS.iter().find(|(scheme, _)| *scheme == url.scheme()).map(|(_, port)| *port);
    if default.is_some() && url.port() == default {
        let _refused = url.set_port(None);
    }
    let Some(host) = url.host_str() else { return };
    // PostgreSQL's way of naming a socket: an encoded path, in which case counts.
    if host.contains('%') {
        return;
    }
    let lower = host.to_ascii_lowercase();
    if lower != host {
        let _refused = url.set_host(Some(&lower));
    }
}

fn normal_path(url: &mut Url) {
    if OF_REDIS.contains(&url.scheme()) && url.has_host() {
        let database = url.path().trim_matches('/');
        let number = if database.is_empty() { Some(0) } else { database.parse::<u64>().ok() };
        if let Some(number) = number {
            url.set_path(&format!("/{number}"));
        }
    } else if url.path() == "/" && url.query().is_none_or(str::is_empty) {
        // Where a scheme wants it (http), it comes back.
        url.set_path("");
    }
}

/// At the first `sign`, which stays with what follows.
fn split_at(text: &str, sign: char) -> (&str, &str) {
    text.split_at(text.find(sign).unwrap_or(text.len()))
}

fn masked_user(scheme: &str, user: &str) -> String {
    match user.split_once(':') {
        Some(("", _)) => ":***".to_owned(),
        Some((name, _)) => format!("{name}:***"),
        None if is_secret_user(scheme, user) => "***".to_owned(),
        None => user.to_owned(),
    }
}

/// A parameter and the sign after it; its value masked where its name says so.
fn masked_pair(pair: &str) -> String {
    let (body, sign) = match pair.strip_suffix(['?', '&', '#']) {
        Some(body) => (body, pair.get(body.len()..).unwrap_or_default()),
        None => (pair, ""),
    };
    match body.split_once('=') {
        Some((name, value)) if !value.is_empty() => {
            if is_secret_parameter(name) {
                return format!("{name}=***{sign}");
            }
            // A URL within it, for instance.
            format!("{name}={}{sign}", redact(value))
        }
        _ => pair.to_owned(),
    }
}

impl FromStr for UrlKey {
    type Err = Error;
    fn from_str(url: &str) -> Result<Self, Error> {
        Self::parse(url)
    }
}

impl TryFrom<&str> for UrlKey {
    type Error = Error;
    fn try_from(url: &str) -> Result<Self, Error> {
        Self::parse(url)
    }
}

impl fmt::Display for UrlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Debug for UrlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UrlKey").field(&self.masked()).finish()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(url: &str) -> UrlKey {
        UrlKey::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn what_means_the_same_is_one_key() {
        for (url, normal) in [
            ("redis://localhost", "redis://localhost/0"),
            ("redis://localhost:6379/0", "redis://localhost/0"),
            ("REDIS://LocalHost/", "redis://localhost/0"),
            ("redis://Db./", "redis://db./0"),
            ("mongodb://h/?replicaSet=rs", "mongodb://h/?replicaSet=rs"),
            ("file:///srv/link/../x.db?mode=ro", "file:///srv/link/../x.db?mode=ro"),
            ("unix:///srv/link/../x", "unix:///srv/link/../x"),
            ("libsql+file://Data/App.db", "libsql+file://Data/App.db"),
            (" redis://localhost/00/\n", "redis://localhost/0"),
            ("redis://localhost:6380/3", "redis://localhost:6380/3"),
            ("rediss://h/#insecure", "rediss://h/0#insecure"),
            ("redis://[::1]:6379", "redis://[::1]/0"),
            ("redis://[0:0:0:0:0:0:0:1]", "redis://[::1]/0"),
            ("redis://user:@h", "redis://user@h/0"),
            ("redis://h?protocol=resp3&&a=1&", "redis://h/0?a=1&protocol=resp3"),
            ("postgresql://u:p@H:5432/App?sslmode=require&a=b", "postgres://u:p@h/App?a=b&sslmode=require"),
            ("postgres://h/", "postgres://h"),
            ("postgres:///app?host=/run/postgresql", "postgres:///app?host=/run/postgresql"),
            ("postgres://%2fRun%2Fpostgresql/app", "postgres://%2FRun%2Fpostgresql/app"),
            ("mysql://h:3306/a%7eb%c3%bc", "mysql://h/a~b%C3%BC"),
            ("http://Example.COM:80?b=2&a=1", "http://example.com/?a=1&b=2"),
            ("https://example.com:443/a/../b", "https://example.com/b"),
            ("http://h/?x=2&x=1", "http://h/?x=2&x=1"),
            ("unix:///Run/Redis.sock?db=1&", "unix:///Run/Redis.sock?db=1"),
            ("redis+unix:///run/a.sock", "redis+unix:///run/a.sock"),
            ("file:/srv/./App.db", "file:///srv/App.db"),
            ("sqlite://Data/App.db", "sqlite://Data/App.db"),
            ("sqlite::memory:", "sqlite::memory:"),
            ("postgres://h/50%", "postgres://h/50%25"),
        ] {
            assert_eq!(key(url).as_url(), normal, "{url}");
        }
    }

    #[test]
    fn what_may_differ_is_two_keys() {
        for (one, other) in [
            ("redis://localhost", "redis://127.0.0.1"),
            ("redis://h/0", "redis://h/1"),
            ("postgres://db./x", "postgres://db/x"),
            ("redis-socket://Run/a", "redis-socket://run/a"),
            ("redis://h", "rediss://h"),
            ("redis://:a@h", "redis://:b@h"),
            ("redis://a:p@h", "redis://b:p@h"),
            ("postgres://h/app", "postgres://h/App"),
            ("postgres://h?options=a+b", "postgres://h?options=a%20b"),
            ("unix:///run/a.sock", "unix:///run/A.sock"),
            ("sqlite://Data/app.db", "sqlite://data/app.db"),
            ("rediss://h", "rediss://h/#insecure"),
            ("postgres://h/a%2Fb", "postgres://h/a/b"),
        ] {
            assert_ne!(key(one), key(other));
        }
    }

    #[test]
    fn no_secret_is_shown_and_the_url_for_the_driver_has_it() {
        for (url, shown) in [
            ("redis://:s3cr3t@h", "redis://:***@h/0"),
            ("postgres://app:s3cr3t@h/db", "postgres://app:***@h/db"),
            ("postgres://app@h/db", "postgres://app@h/db"),
            ("redis://s3cr3t@h", "redis://***@h/0"),
            ("https://s3cr3t@h/", "https://***@h/"),
            ("http://h/?user=a&token=s3cr3t", "http://h/?token=***&user=a"),
            ("postgres://app:s3%40c%2Fr3t@h", "postgres://app:***@h"),
            ("mysql://u%3As3cr3t@h", "mysql://***@h"),
            ("amqp://s3cr3t@h", "amqp://***@h"),
            ("https://h/?X-Amz-Signature=s3cr3t&passphrase=s3cr3t", "https://h/?X-Amz-Signature=***&passphrase=***"),
            ("https://h/?auth=s3cr3t&key=s3cr3t&sig=s3cr3t&z=1", "https://h/?auth=***&key=***&sig=***&z=1"),
            ("https://h/?password=a,s3cr3t=1", "https://h/?password=***"),
            ("https://h/?credential=s3cr3t&jwt=s3cr3t", "https://h/?credential=***&jwt=***"),
            ("http://host:8080/path?at=a@b", "http://host:8080/path?at=a@b"),
        ] {
            let key = key(url);
            assert_eq!(key.to_string(), shown);
            assert_eq!(format!("{key:?}"), format!("UrlKey({shown:?})"));
            assert!(!shown.contains("s3") && key == UrlKey::parse(key.as_url()).expect("it is a URL"));
        }
        for unreadable in [
            "localhost:s3cr3t@",
            "",
            "s3cr3t",
            "postgres://u:s3cr3t@a:1,b:2/db",
            "redis://:s3cr3t@h:port",
            "postgres:u:s3cr3t@h/db",
        ] {
            let error = UrlKey::parse(unreadable).expect_err(unreadable);
            assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
            assert!(error.to_string().contains("the URL cannot be read"), "{error}");
        }
        assert!(UrlKey::parse("postgres://a:1,b:2/db").is_err() && UrlKey::parse("just text").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn normalising_twice_is_normalising_once(
            scheme in "(redis|REDISS|postgres|postgresql|mysql|http|https|file|sqlite|unix|x)",
            rest in "(:|://)([a-zA-Z%0-9:.@]{0,6}@)?[a-zA-Z0-9%.\\[\\]:ü -]{0,12}(:[0-9]{1,5})?(/[a-zA-Z0-9%./ ~?&=#@:]{0,12}){0,3}",
        ) {
            if let Ok(once) = UrlKey::parse(&format!("{scheme}{rest}")) {
                prop_assert_eq!(UrlKey::parse(once.as_url()).map(|twice| twice.as_url().to_owned()).ok(), Some(once.as_url().to_owned()));
                let _shown = format!("{once} {once:?}");
            }
        }

        #[test]
        fn any_text_is_a_key_or_an_error_and_no_panic(text in "\\PC*") {
            if let Ok(key) = UrlKey::parse(&text) {
                let _shown = format!("{key} {key:?}");
            }
        }
    }
}
