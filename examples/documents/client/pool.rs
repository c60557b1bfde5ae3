//! Pools of clients, made of closures.

use std::time::{Duration, Instant};

use millpond::{Builder, Fault, FnManager, Manager, Pool};

use super::{ClientError, Documents};

/// How long [`insist`] goes on, waiting for clients included.
const PATIENCE: Duration = Duration::from_secs(10);

/// A builder of a pool of clients, each of which `open` makes with an agent of its own; see [`KeepAlive::ONE`].
///
/// A client of HTTP mends itself: ureq notices a connection that the server has closed, and opens another. So what the
/// pool adds is the bound, the queue, and that clients are kept from a server that does not answer:
///
/// - opening asks the server once, so that the connection is there, and a wrong token is found before anybody waits for
///   a client (`classify` has everybody told at once);
/// - the check, of one that was idle for a while, asks once more, which also keeps its connection alive;
/// - a client whose exchange broke off does not pass `reset`, and is closed.
///
/// [`KeepAlive::ONE`]: super::KeepAlive::ONE
pub(crate) fn clients<D: Documents>(
    open: impl Fn() -> Result<D, ClientError> + Send + Sync + 'static,
) -> Builder<impl Manager<Connection = D, Error = ClientError>> {
    let connect = move || {
        let mut client = open()?;
        client.ping()?;
        Ok(client)
    };
    Pool::builder(
        FnManager::new(connect)
            .check(D::ping)
            .reset(|client: &mut D| if client.is_broken() { Err(ClientError::BrokenOff) } else { Ok(()) })
            .classify(|error| if error.is_permanent() { Fault::Permanent } else { Fault::Transient }),
    )
}

/// Does what may be done twice, again if there was no answer: the server may have closed the connection in the very moment
/// in which the request was sent, or is being started anew.
///
/// Each failure takes a client out of the pool, so after as many as the pool can have, the next is new; and a new one is
/// there as soon as the server answers again.
pub(crate) fn insist<M, T>(
    pool: &Pool<M>,
    mut job: impl FnMut(&mut M::Connection) -> Result<T, ClientError>,
) -> Result<T, ClientError>
where
    M: Manager<Error = ClientError>,
{
    let deadline = Instant::now() + PATIENCE;
    let mut tries = pool.stats().max_size;
    loop {
        let mut client = pool.get_timeout(deadline.saturating_duration_since(Instant::now()))?;
        match job(&mut client) {
            Err(error) if error.is_no_answer() && tries > 0 => tries -= 1,
            outcome => return outcome,
        }
    }
}
