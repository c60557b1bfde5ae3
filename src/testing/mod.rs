//! For tests of programs that use a pool (feature `testing`).
//!
//! | what | for |
//! |---|---|
//! | [`Script`] | a manager that does what a test tells it: fails, hangs, panics, breaks; alone, or around a real one |
//! | [`HandClock`], [`tick`], [`settle`] | time that passes when a test says so, and the upkeep that is due then |
//! | [`Gate`], [`eventually`] | threads that meet, without a pause that is too short on a slow machine |
//! | [`assert_lends_all`], [`assert_returned`], [`violations`] | what must hold when a fault is over |
//! | [`Sandbox`], and `rolled_back` for a [`SqlitePool`](crate::sqlite::SqlitePool) | tests over a real database that leave nothing behind |
//!
//! Switch the feature on for tests only:
//!
//! ```toml
//! [dev-dependencies]
//! millpond = { version = "0.1", features = ["testing"] }
//! ```
//!
//! # Examples
//!
//! A service that is to say "try again later" while its database is away, and to work when it is back:
//!
//! ```
//! use millpond::testing::{Act, Call, HandClock, Refused, Script, ScriptedConnection, assert_lends_all, assert_returned, tick};
//! use millpond::{ErrorKind, Maintenance, Manager, Pool, WhenDown};
//! use std::time::Duration;
//!
//! // What is tested. It takes any pool whose connections it can use.
//! fn page<M: Manager<Connection = ScriptedConnection>>(db: &Pool<M>) -> (u16, String) {
//!     match db.get() {
//!         Ok(mut conn) => match conn.request() {
//!             Ok(n) => (200, format!("request {n}")),
//!             Err(error) => (500, error.to_string()),
//!         },
//!         Err(error) if error.kind() == ErrorKind::Connect => (503, "try again later".into()),
//!         Err(error) => (500, error.to_string()),
//!     }
//! }
//!
//! let script = Script::new();
//! let clock = HandClock::new();
//! let db = Pool::builder(script.manager())
//!     .max_size(2)
//!     .when_down(WhenDown::FailFast)
//!     .maintenance(Maintenance::Manual) // no threads: each line below has happened when it returns
//!     .clock(clock.clone())
//!     .build()?;
//! assert_eq!(page(&db).0, 200);
//!
//! // The server goes: its connections are cut, and it refuses new ones.
//! script.set(Call::Connect, Act::fail(|| Refused::new("connection refused")));
//! script.cut_all();
//! assert_eq!(page(&db).0, 500, "who has the connection in hand notices");
//! assert_eq!(page(&db), (503, "try again later".into()));
//!
//! // It is back, and a while later so is the pool.
//! script.clear();
//! tick(&clock, &db, Duration::from_secs(2));
//! assert_eq!(page(&db).0, 200);
//!
//! assert_returned(&db);
//! assert_lends_all(&db);
//! assert_eq!(script.most_live(), 2);
//! # Ok::<(), millpond::Error>(())
//! ```

mod gate;
mod rest;
#[cfg(feature = "sqlite")]
mod rolled_back;
mod sandbox;
mod script;
mod scripted;

pub use crate::clock::HandClock;
pub use gate::{Gate, eventually};
pub use rest::{assert_lends_all, assert_returned, settle, tick, violations};
#[cfg(feature = "sqlite")]
pub use rolled_back::rolled_back;
pub use sandbox::{Sandbox, SandboxError, SandboxPool};
pub use script::{Act, Call, Script};
pub use scripted::{Refused, Scripted, ScriptedConnection, ScriptedConnections};

use crate::clock::Clock;
use std::thread::sleep;
use std::time::Duration;

/// Long enough that only a defect reaches it, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks up to a thousand times a second; says whether it became so.
fn polled(so: impl FnMut() -> bool) -> bool {
    polled_for(PATIENCE, so)
}

fn polled_for(patience: Duration, mut so: impl FnMut() -> bool) -> bool {
    const STEP: Duration = Duration::from_millis(1);
    let until = Clock::System.now().after(patience);
    loop {
        // Read first, so that there is a look behind the deadline too, however long this thread was kept from the last one.
        let is_last = Clock::System.now() >= until;
        if so() {
            return true;
        }
        if is_last {
            return false;
        }
        sleep(STEP);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_each_look_is_counted_and_there_is_one_when_time_is_over() {
        let (step, patience) = (Duration::from_millis(5), Duration::from_millis(50));
        let mut looks = 0;
        let so = polled_for(patience, || {
            looks += 1;
            sleep(step);
            false
        });
        assert!(!so && looks <= 1 + patience.div_duration_f64(step) as u32, "{looks} looks");
        assert!(polled_for(Duration::ZERO, || true));
    }
}
