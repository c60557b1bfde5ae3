//! A server with the two stores behind it, and the ways to open clients of them.

use std::io;
use std::sync::Arc;

use millpond::{Builder, Manager};
use ureq::Agent;

use crate::client::firestore::Firestore;
use crate::client::pool::clients;
use crate::client::surreal::Surreal;
use crate::client::{ClientError, Documents, KeepAlive};
use crate::server::{Handler, Manners, Server};
use crate::store::{Credentials, Stores};

/// The project of Firestore, and the namespace and the database of SurrealDB.
const PROJECT: &str = "millpond";
const PLACE: (&str, &str) = ("millpond", "example");

pub(crate) struct Site {
    pub(crate) server: Server,
    manners: Manners,
    /// Outlive the server: one that comes back has the documents that it had.
    stores: Arc<Stores>,
}

impl Site {
    pub(crate) fn open(manners: Manners, stores: &Arc<Stores>) -> io::Result<Self> {
        let server = Server::start(manners, handler(stores))?;
        Ok(Self { server, manners, stores: Arc::clone(stores) })
    }

    /// What clients are told of it.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// A builder of a pool of clients, each with an agent and a connection of its own.
    pub(crate) fn clients<D: Documents, O: Opener<D>>(
        &self,
        open: &O,
    ) -> Builder<impl Manager<Connection = D, Error = ClientError> + use<D, O>> {
        let (base, open) = (self.base(), open.clone());
        clients(move || open(&base, KeepAlive::ONE.agent())).name("documents")
    }

    /// Stops the server, and starts another one at the same address.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.server.stop();
        self.server = Server::start_at(self.server.address(), self.manners, handler(&self.stores))?;
        Ok(())
    }
}

fn handler(stores: &Arc<Stores>) -> Arc<Handler> {
    let stores = Arc::clone(stores);
    Arc::new(move |request| stores.answer(request))
}

/// Makes a client of the store at an address out of an agent.
pub(crate) trait Opener<D>: Fn(&str, Agent) -> Result<D, ClientError> + Clone + Send + Sync + 'static {}

impl<D, F> Opener<D> for F where F: Fn(&str, Agent) -> Result<D, ClientError> + Clone + Send + Sync + 'static {}

pub(crate) fn firestore(with: &Credentials) -> impl Opener<Firestore> + use<> {
    let with = with.clone();
    move |base: &str, agent| Firestore::new(agent, base, PROJECT, &with.token)
}

pub(crate) fn surreal(with: &Credentials) -> impl Opener<Surreal> + use<> {
    let with = with.clone();
    move |base: &str, agent| Surreal::new(agent, base, PLACE, (&with.user, &with.password))
}
