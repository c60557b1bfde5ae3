//! What a client can fail with.

use std::error::Error;
use std::fmt;

#[derive(Debug)]
pub(crate) enum ClientError {
    /// The pool had no client to lend; its text says why.
    Pool(millpond::Error),
    /// There was no answer. Whether the request was carried out is not known.
    NoAnswer { request: String, cause: ureq::Error },
    /// The document that was asked for is not there.
    NotFound(String),
    /// The store said no.
    Refused { request: String, status: u16, reason: String },
    /// The store said something that it should not say.
    Nonsense { request: String, answer: String },
    /// With these settings nothing can be sent.
    Setting(String),
    /// An exchange broke off before, which is why this client goes no further.
    BrokenOff,
}

impl ClientError {
    pub(crate) fn is_no_answer(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }

    /// Whether asking again will end like this again: nobody's password becomes right by it.
    pub(crate) fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403, .. } | Self::Setting(_))
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(error) => error.fmt(f),
            // The cause is told by `source`, and once more here because the pool's users mostly print this alone.
            Self::NoAnswer { request, cause } => write!(f, "no answer to {request}: {cause}"),
            Self::NotFound(name) => write!(f, "there is no document {name}"),
            Self::Refused { request, status, reason } => write!(f, "{request} was refused ({status}): {reason}"),
            Self::Nonsense { request, answer } => write!(f, "no sense in the answer to {request}: {answer}"),
            Self::Setting(what) => f.write_str(what),
            Self::BrokenOff => f.write_str("an exchange with the server broke off"),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pool(error) => error.source(),
            Self::NoAnswer { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl From<millpond::Error> for ClientError {
    fn from(error: millpond::Error) -> Self {
        Self::Pool(error)
    }
}
