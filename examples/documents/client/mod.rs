//! Clients of the two stores, and pools of them.

mod error;
pub(crate) mod firestore;
mod http;
pub(crate) mod pool;
pub(crate) mod surreal;

use serde_json::{Map, Value as Json};

pub(crate) use error::ClientError;
pub(crate) use http::{Http, KeepAlive};

/// The fields of a document.
pub(crate) type Fields = Map<String, Json>;

/// What both stores can do, so that both can be tried with the same work.
pub(crate) trait Documents: Send + 'static {
    /// Asks the store for next to nothing: it answers, and knows who asks.
    fn ping(&mut self) -> Result<(), ClientError>;

    /// One document; [`ClientError::NotFound`] if it is not there.
    fn get(&mut self, collection: &str, id: &str) -> Result<Fields, ClientError>;

    /// Writes a document as a whole, whether it was there or not.
    fn put(&mut self, collection: &str, id: &str, fields: &Fields) -> Result<(), ClientError>;

    /// Writes these fields of a document, and leaves the others; [`ClientError::NotFound`] if it is not there.
    fn update(&mut self, collection: &str, id: &str, fields: &Fields) -> Result<(), ClientError>;

    /// Whether it was there is not told.
    fn delete(&mut self, collection: &str, id: &str) -> Result<(), ClientError>;

    fn find(&mut self, collection: &str, wanted: &Wanted<'_>) -> Result<Vec<(String, Fields)>, ClientError>;

    /// Whether an exchange with the server broke off, so that nobody should have this client again.
    fn is_broken(&self) -> bool;
}

/// Which documents are looked for.
#[derive(Clone, Default)]
pub(crate) struct Wanted<'a> {
    /// All have to hold.
    pub(crate) conditions: Vec<(&'a str, Comparison, Json)>,
    pub(crate) order: Vec<(&'a str, Direction)>,
    /// None: all there are.
    pub(crate) limit: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "the example compares in one way; the tests try them all")]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Contains,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "as above")]
pub(crate) enum Direction {
    Ascending,
    Descending,
}

/// Whether a name may stand for itself in a path or statement.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(plain)
}
