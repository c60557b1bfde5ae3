//! What goes wrong between a client and a server, and what becomes of it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use millpond::{Manager, Pool, PooledConnection};

use crate::Failure;
use crate::client::pool::insist;
use crate::client::{ClientError, Documents, Fields};
use crate::contest::AIRPORTS;
use crate::site::Site;

/// The server takes requests and does not answer them. Everybody who has a client waits for it; whoever has none waits for
/// `patience`, and gets the error that is returned here.
pub(crate) fn slow_server<M>(site: &Site, pool: &Pool<M>, patience: Duration) -> Result<millpond::Error, Failure>
where
    M: Manager<Connection: Documents, Error = ClientError>,
{
    let (told, lent) = mpsc::channel();
    // Whoever waits at it goes on when the other end is dropped.
    let (gate, opened) = crossbeam_channel::bounded::<()>(0);
    let error = thread::scope(|scope| {
        let readers = (0..pool.stats().max_size)
            .map(|number| {
                let (told, opened) = (told.clone(), opened.clone());
                thread::Builder::new().name(format!("reader-{number}")).spawn_scoped(scope, move || {
                    let client = pool.get();
                    told.send(()).ok();
                    let mut client = client?;
                    PooledConnection::set_label(&mut client, format!("report {number}"));
                    opened.recv().ok();
                    client.get(AIRPORTS, "JFK").map(drop)
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        lent.iter().take(readers.len()).for_each(drop);
        // Only now, because it does not let anybody in any more either.
        site.server.hold();
        drop(gate);
        let error = pool.get_timeout(patience).err();
        site.server.release();
        for reader in readers {
            reader.join().map_err(|_| "a reader panicked")??;
        }
        error.ok_or_else(|| Failure::from("all clients were lent, and there was one more"))
    })?;
    Ok(error)
}

/// The server closes the connections on which nothing is under way. Returns how many there were, and what a request found
/// that came afterwards.
pub(crate) fn idle_connections_close<M>(site: &Site, pool: &Pool<M>) -> Result<(usize, Fields), Failure>
where
    M: Manager<Connection: Documents, Error = ClientError>,
{
    let open = site.server.census().open;
    site.server.close_idle();
    Ok((open, insist(pool, |client| client.get(AIRPORTS, "JFK"))?))
}

/// How a server was missed that went away and came back.
#[derive(Debug)]
pub(crate) struct Return {
    pub(crate) answered: usize,
    pub(crate) failed: Vec<String>,
}

/// Threads read documents all the time, while the server stops and another one starts at its address, `times` times.
pub(crate) fn server_returns<M>(site: &mut Site, pool: &Pool<M>, threads: usize, times: u32) -> Result<Return, Failure>
where
    M: Manager<Connection: Documents, Error = ClientError>,
{
    let enough = AtomicBool::new(false);
    let (told, answers) = mpsc::channel();
    let mut outcome = Return { answered: 0, failed: Vec::new() };
    let mut note = |result: Result<(), ClientError>| match result {
        Ok(()) => outcome.answered += 1,
        Err(error) => outcome.failed.push(error.to_string()),
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            let (told, enough) = (told.clone(), &enough);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let result = insist(pool, |client| client.get(AIRPORTS, "JFK")).map(drop);
                    if told.send(result).is_err() {
                        return;
                    }
                }
            });
        }
        drop(told);
        let reopened: io::Result<()> = (0..times).try_for_each(|_| {
            answers.iter().take(50).for_each(&mut note);
            site.reopen()
        });
        answers.iter().take(50).for_each(&mut note);
        // Even where the server could not be started, or the threads would ask for ever.
        enough.store(true, Ordering::Relaxed);
        answers.iter().for_each(&mut note);
        reopened
    })?;
    Ok(outcome)
}
