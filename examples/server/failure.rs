//! What can go wrong with a request, and what its client is told: decided here and nowhere else.

use millpond::ErrorKind as PoolErrorKind;
use millpond::sqlite::{self, ErrorKind, abort};
use serde_json::{Value as Json, json};
use std::fmt;

/// So much of a value is shown to whoever sent it.
const SHOWN: usize = 40;

/// Why the work of a request did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refused),
    Database(sqlite::Error),
}

/// What is wrong with the request itself.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    Bad { field: &'static str, value: String, why: String },
    NotFound(String),
    NotAllowed { method: String, allowed: &'static str },
    WrongType(String),
}

/// What the client is told.
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
    /// Whose fault it is, if it is one's.
    pub(crate) pool: Option<String>,
    /// When to try again, in seconds.
    pub(crate) retry_after: Option<u32>,
    pub(crate) allowed: Option<&'static str>,
}

impl Refused {
    pub(crate) fn bad(field: &'static str, value: &str, why: impl Into<String>) -> Self {
        let mut shown: String = value.chars().take(SHOWN).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Self::Bad { field, value: shown, why: why.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad { field, value, why } => write!(f, "{field} cannot be {value:?}: {why}"),
            Self::NotFound(what) => f.write_str(what),
            Self::NotAllowed { method, allowed } => write!(f, "{method} does nothing here; what does is {allowed}"),
            Self::WrongType(given) => {
                write!(f, "Content-Type cannot be {given:?}: a form is application/x-www-form-urlencoded")
            }
        }
    }
}

impl std::error::Error for Refused {}

/// What comes out of a transaction: a refusal that went in comes out as what it was.
impl From<sqlite::Error> for Failure {
    fn from(error: sqlite::Error) -> Self {
        match error.downcast_ref::<Refused>() {
            Some(refused) => Self::Refused(refused.clone()),
            None => Self::Database(error),
        }
    }
}

/// What goes into one, so that it is rolled back.
impl From<Failure> for rusqlite::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refused) => abort(refused),
            Failure::Database(error) => error.into(),
        }
    }
}

impl Problem {
    /// What a client is told whose request should have been served by `pool`.
    pub(crate) fn of(failure: Failure, pool: &str) -> Self {
        match failure {
            Failure::Refused(refused) => Self::refused(&refused),
            Failure::Database(error) => Self::database(&error, pool),
        }
    }

    pub(crate) fn refused(refused: &Refused) -> Self {
        let problem = Self::new(0, "", refused.to_string());
        match refused {
            Refused::Bad { .. } => Self { status: 400, title: "Bad input", ..problem },
            Refused::NotFound(_) => Self { status: 404, title: "Not found", ..problem },
            Refused::NotAllowed { allowed, .. } => {
                Self { status: 405, title: "Not this way", allowed: Some(allowed), ..problem }
            }
            Refused::WrongType(_) => Self { status: 415, title: "Not a form", ..problem },
        }
    }

    /// A pool's error names threads and lines of source, and a driver's may name files: both go to the log (at
    /// `RUST_LOG=debug`) and not to the client, who is told which pool, why, and when to come back.
    fn database(error: &sqlite::Error, pool: &str) -> Self {
        let (why, retry_after) = match error.kind() {
            // Before the deadline, which it used up.
            _ if error.is_busy() => ("another program has locked the database", 1),
            ErrorKind::Pool => match error.pool_error().map(millpond::Error::kind) {
                // A connection comes free any moment.
                Some(PoolErrorKind::Exhausted) => ("all connections were in use until the deadline of the request", 1),
                // As many as may wait are served in a fraction of a second; all who were turned away should not be back
                // before.
                Some(PoolErrorKind::Overloaded) => ("too many requests wait for a connection already", 1),
                // People pause pools, and take their time.
                Some(PoolErrorKind::Paused) => ("it is paused", 10),
                // Somebody else will be there by then.
                Some(PoolErrorKind::Closed) => ("it is closed, because the server ends", 5),
                Some(PoolErrorKind::Connect | PoolErrorKind::Validate) => ("the database does not answer", 5),
                _ => return Self::internal(error),
            },
            ErrorKind::Open => ("the database cannot be opened", 5),
            ErrorKind::Deadline => ("the work took longer than the deadline of the request", 1),
            _ => return Self::internal(error),
        };
        log::debug!("503: {error}");
        Self::unavailable(pool, why, retry_after)
    }

    fn unavailable(pool: &str, why: &str, retry_after: u32) -> Self {
        let detail = format!("the pool {pool:?} cannot serve this now: {why}; try again in {retry_after} s");
        let problem = Self::new(503, "Try again in a moment", detail);
        Self { pool: Some(pool.to_owned()), retry_after: Some(retry_after), ..problem }
    }

    /// The server ends, and takes no new work.
    pub(crate) fn ending() -> Self {
        let detail = "the server is ending; try again in 5 s".to_owned();
        Self { retry_after: Some(5), ..Self::new(503, "Try again in a moment", detail) }
    }

    /// There are as many clients as there may be.
    pub(crate) fn crowded() -> Self {
        let detail = "as many clients are connected as may be; try again in 1 s".to_owned();
        Self { retry_after: Some(1), ..Self::new(503, "Try again in a moment", detail) }
    }

    fn internal(error: &sqlite::Error) -> Self {
        log::error!("500: {error}");
        Self::unexpected()
    }

    pub(crate) fn unexpected() -> Self {
        Self::new(500, "Something went wrong", "that is the server's fault, and stands in its log".to_owned())
    }

    pub(crate) fn new(status: u16, title: &'static str, detail: String) -> Self {
        Self { status, title, detail, pool: None, retry_after: None, allowed: None }
    }

    /// In the form of RFC 9457.
    pub(crate) fn to_json(&self) -> Json {
        let mut json = json!({ "title": self.title, "status": self.status, "detail": self.detail });
        if let (Some(pool), Some(json)) = (&self.pool, json.as_object_mut()) {
            json.insert("pool".to_owned(), Json::from(pool.as_str()));
        }
        json
    }
}
