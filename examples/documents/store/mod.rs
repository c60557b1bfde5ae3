//! The documents behind the server, as Firestore and as SurrealDB show them.
//!
//! Both are stand-ins: enough of the two protocols for a client to be tried on them, over data in memory. Neither has
//! indexes, transactions, listeners or rules of access, and each refuses what it does not know.

mod firestore;
mod statement;
mod surreal;
mod table;
mod value;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::server::http::{Answer, Request};

/// What a client has to show.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// Of Firestore.
    pub(crate) token: String,
    /// Of SurrealDB.
    pub(crate) user: String,
    pub(crate) password: String,
}

pub(crate) struct Stores {
    bearer: String,
    basic: String,
    firestore: firestore::Firestore,
    surreal: surreal::Surreal,
}

impl Stores {
    pub(crate) fn new(credentials: &Credentials) -> Self {
        let Credentials { token, user, password } = credentials;
        Self {
            bearer: format!("Bearer {token}"),
            basic: format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))),
            firestore: firestore::Firestore::default(),
            surreal: surreal::Surreal::default(),
        }
    }

    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let shown = request.header("authorization");
        match request.path() {
            path if path.starts_with("/v1/") => self.firestore.answer(request, shown == Some(&*self.bearer)),
            "/health" => Answer::json(200, ""),
            "/sql" => self.surreal.answer(request, shown == Some(&*self.basic)),
            path => Answer::json(404, serde_json::json!({ "code": 404, "details": format!("nothing is at {path}") })),
        }
    }
}
