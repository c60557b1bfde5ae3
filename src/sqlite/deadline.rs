//! Interrupts statements that take longer than they may: one thread for a pool, from the first deadline on.

use crate::clock::{Clock, Moment};
use parking_lot::{Condvar, Mutex};
use rusqlite::InterruptHandle;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// An interrupt between two statements does nothing, so it is repeated until the work has ended.
const AGAIN: Duration = Duration::from_millis(10);

/// How long the thread stays when there is nothing to watch.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Watchdog {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    watched: BTreeMap<(Moment, u64), Watched>,
    next: u64,
    /// When the thread looks next without being told to: whoever is due later need not wake it up.
    looks_at: Moment,
    thread: Option<JoinHandle<()>>,
    /// The number of the thread: one with another number has been told to end.
    number: u64,
}

struct Watched {
    handle: InterruptHandle,
    fired: bool,
}

/// Work that is being watched, until this is dropped.
pub(super) struct Watch<'a> {
    shared: &'a Shared,
    key: (Moment, u64),
}

impl Watchdog {
    /// Has `handle`'s connection interrupted from `until` on, as long as the watch lives.
    ///
    /// # Errors
    ///
    /// No thread can be had.
    pub(super) fn watch(&self, handle: InterruptHandle, until: Moment) -> io::Result<Watch<'_>> {
        let mut state = self.shared.state.lock();
        if state.thread.is_none() {
            let (shared, number) = (Arc::clone(&self.shared), state.number);
            let thread = Builder::new().name("millpond-deadline".to_owned());
            state.thread = Some(thread.spawn(move || shared.run(number))?);
            state.looks_at = Moment::ZERO;
        }
        let key = (until, state.next);
        state.next += 1;
        state.watched.insert(key, Watched { handle, fired: false });
        let early = state.looks_at > until;
        drop(state);
        if early {
            self.shared.changed.notify_all();
        }
        Ok(Watch { shared: &self.shared, key })
    }

    /// Ends the thread and waits for it, if it has nothing to watch.
    pub(super) fn stop(&self) {
        let thread = {
            let mut state = self.shared.state.lock();
            if !state.watched.is_empty() {
                return;
            }
            state.number += 1;
            state.thread.take()
        };
        if let Some(thread) = thread {
            self.shared.changed.notify_all();
            // It has no code of a user's that could panic.
            drop(thread.join());
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self, number: u64) {
        let mut state = self.state.lock();
        while state.number == number {
            let now = Clock::System.now();
            let mut next = now.after(IDLE);
            for ((until, _), watched) in &mut state.watched {
                if *until > now {
                    next = next.min(*until);
                    break;
                }
                // Under the lock: once a watch has been dropped, its connection is not interrupted any more.
                watched.handle.interrupt();
                watched.fired = true;
                next = next.min(now.after(AGAIN));
            }
            state.looks_at = next;
            let idle = self.changed.wait_for(&mut state, next.since(now)).timed_out();
            if idle && state.watched.is_empty() && state.number == number {
                state.thread = None;
                return;
            }
        }
    }
}

impl Watch<'_> {
    /// Ends the watch. Says whether it has interrupted anything, or would have.
    pub(super) fn end(self) -> bool {
        self.shared.state.lock().watched.get(&self.key).is_some_and(|watched| watched.fired)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().watched.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::{Connection, ErrorCode};

    const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";

    fn endless(conn: &Connection) -> Option<ErrorCode> {
        conn.query_row(ENDLESS, [], |_| Ok(())).expect_err("it never ends by itself").sqlite_error_code()
    }

    #[test]
    fn what_has_no_end_is_interrupted_and_so_is_what_is_begun_after_the_deadline() {
        let dog = Watchdog::default();
        let conn = Connection::open_in_memory().expect("it opens");
        let until = Clock::System.now().after(Duration::from_millis(20));
        let watch = dog.watch(conn.get_interrupt_handle(), until).expect("a thread");
        assert_eq!(endless(&conn), Some(ErrorCode::OperationInterrupted));
        assert_eq!(endless(&conn), Some(ErrorCode::OperationInterrupted), "the deadline is over still");
        assert!(watch.end());
        let one: i64 = conn.query_row("SELECT 1", [], |row| row.get(0)).expect("nobody interrupts it any more");
        assert_eq!(one, 1);
    }

    #[test]
    fn an_earlier_deadline_does_not_wait_for_a_later_one_and_a_watch_that_ended_does_nothing() {
        let dog = Watchdog::default();
        let (patient, hasty) =
            (Connection::open_in_memory().expect("it opens"), Connection::open_in_memory().expect("it opens"));
        let now = Clock::System.now();
        let long = dog.watch(patient.get_interrupt_handle(), now.after(Duration::from_secs(3600))).expect("a thread");
        let short = dog.watch(hasty.get_interrupt_handle(), now.after(Duration::from_millis(5))).expect("a thread");
        assert_eq!(endless(&hasty), Some(ErrorCode::OperationInterrupted));
        assert!(short.end());
        assert!(!long.end());
        assert!(dog.shared.state.lock().watched.is_empty());
    }

    #[test]
    fn the_thread_ends_when_it_is_told_to_and_begins_again_when_it_is_needed() {
        let dog = Watchdog::default();
        let conn = Connection::open_in_memory().expect("it opens");
        for _ in 0..3 {
            let watch = dog.watch(conn.get_interrupt_handle(), Clock::System.now()).expect("a thread");
            dog.stop();
            assert!(dog.shared.state.lock().thread.is_some(), "somebody is watched");
            assert_eq!(endless(&conn), Some(ErrorCode::OperationInterrupted));
            drop(watch);
            dog.stop();
            assert!(dog.shared.state.lock().thread.is_none());
        }
    }
}
