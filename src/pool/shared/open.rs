//! Opening connections, on helper threads.

use super::{Core, Item, retire};
use crate::clock::Moment;
use crate::config::scatter;
use crate::error::{Cause, text_of};
use crate::event::{self, CloseReason, State};
use crate::extensions::Beside;
use crate::incident::IncidentKind;
use crate::manager::{Fault, Manager};
use crate::pool::entry::Entry;
use crate::pool::rack::Permit;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What an attempt to open a connection ended with.
type Attempt<C> = Result<C, (Cause, Fault)>;

/// Whom a connection is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Those who wait, and the minimum, unless they have been served by the time that it is begun.
    Wanted,
    /// To replace one that is about to die.
    Successor,
    /// Those who did not wait, and may ask again.
    Ahead,
    /// The caller itself, who has left the queue to do it, so that the book does not know of it.
    Caller,
}

impl<M: Manager> Core<M> {
    /// Begins to open as many connections as are wanted and allowed.
    pub(crate) fn open_wanted(self: &Arc<Self>) {
        if self.by_callers() {
            // Not here, where somebody returns or closes a connection: those who wait do it, and `maintain`.
            self.alarm.at(self.clock.now());
        } else {
            self.open_now();
        }
    }

    /// Says how many.
    pub(crate) fn open_now(self: &Arc<Self>) -> usize {
        if self.forked() {
            return 0;
        }
        let permits = self.rack.plan(self.clock.now());
        let count = permits.len();
        self.open_all(permits);
        count
    }

    pub(crate) fn open_all(self: &Arc<Self>, permits: Vec<Permit<Item<M>>>) {
        for permit in permits {
            self.begin_open(permit, Purpose::Wanted);
        }
    }

    /// Begins to open the successor of a connection that is about to die, if there is room for both.
    pub(crate) fn open_successor(self: &Arc<Self>) -> bool {
        self.rack.try_reserve().map(|permit| self.begin_open(permit, Purpose::Successor)).is_some()
    }

    /// Begins to open a connection that nobody waits for, unless one is being opened. In an outage the pool tries by itself.
    pub(crate) fn open_ahead(self: &Arc<Self>) {
        let numbers = self.rack.numbers();
        if !self.forked()
            && numbers.outage.is_none()
            && numbers.opening == 0
            && let Some(permit) = self.rack.try_reserve()
        {
            self.begin_open(permit, Purpose::Ahead);
        }
    }

    pub(crate) fn begin_open(self: &Arc<Self>, permit: Permit<Item<M>>, purpose: Purpose) {
        let core = Arc::clone(self);
        let job = Box::new(move || {
            core.open(permit, purpose);
            core.sample_end();
            // There may be more to do, for example when this one failed and somebody else still waits.
            core.open_wanted();
        });
        if let Err((error, job)) = self.dispatch(job) {
            self.connect_failed(&(Arc::new(error) as Cause), Fault::Transient, self.clock.now());
            // With the job goes the permit, and only now, so that whoever it wakes sees the failure.
            drop(job);
        }
    }

    fn open(self: &Arc<Self>, permit: Permit<Item<M>>, purpose: Purpose) {
        if purpose == Purpose::Wanted && !self.rack.still_wanted(self.clock.now()) {
            return;
        }
        if !self.handlers.is_empty() && self.rack.numbers().outage.is_some() {
            self.emit_state(State::HalfOpen);
        }
        // Read before the attempt: a refresh while it is under way makes the new connection an old one.
        let generation = self.generation.load(Ordering::Acquire);
        let begun = self.clock.now();
        self.rack.connect_begins(&permit, begun);
        match self.attempt() {
            Ok(connection) => {
                let mut item = self.enter_new(connection, permit, generation, begun);
                let (successor, now) = (purpose == Purpose::Successor, item.born);
                let (outage, pending) = self.rack.opened(&mut item.permit, successor, now);
                if let Some(outage) = outage {
                    let away = self.clock.now().since(outage.since);
                    let (name, failures) = (&self.name, outage.failures);
                    let text = format!("connected again after {failures} failed attempts in {away:.1?}");
                    log::info!("pool {name:?}: {text}");
                    self.note(IncidentKind::ServerBack, text);
                    self.emit_state(State::Up);
                }
                if generation >= self.rules().oldest {
                    self.admit(item);
                } else {
                    retire(item, CloseReason::Refresh);
                }
                drop(pending);
                self.warm_on();
                self.alarm.at(self.clock.now());
            }
            Err((cause, fault)) => {
                self.connect_failed(&cause, fault, begun);
                drop(permit);
                self.warm_on();
            }
        }
    }

    fn attempt(&self) -> Attempt<M::Connection> {
        let mut connection = match self.guarded("connect", || self.manager.connect()) {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(self.classed(error)),
            Err(panicked) => return Err((Arc::new(panicked), Fault::Transient)),
        };
        let Some(hook) = &self.hooks.on_open else { return Ok(connection) };
        let failure = match self.guarded("on_open", || hook(&mut connection)) {
            Ok(Ok(())) => return Ok(connection),
            Ok(Err(error)) => self.classed(error),
            Err(panicked) => (Arc::new(panicked) as Cause, Fault::Transient),
        };
        // Closing may panic like everything else of the user's.
        drop(self.guarded("close", || self.manager.close(connection)));
        Err(failure)
    }

    /// A manager's error, and what it means for the rest of the pool.
    pub(super) fn classed(&self, error: M::Error) -> (Cause, Fault) {
        let fault = self.guarded("classify", || self.manager.classify(&error)).unwrap_or_default();
        (Arc::new(error), fault)
    }

    fn enter_new(
        self: &Arc<Self>,
        connection: M::Connection,
        permit: Permit<Item<M>>,
        generation: u32,
        begun: Moment,
    ) -> Box<Item<M>> {
        let born = self.clock.now();
        let took = born.since(begun);
        let id = self.next_connection.fetch_add(1, Ordering::Relaxed);
        // The edition first: rules that change now make it one of an older edition.
        let edition = self.edition.load(Ordering::Acquire);
        let (dies, renewing) = self.plan_death(id, born, generation, None, &self.rules());
        if let Some(slot) = self.rack.shelf.slot(permit.slot()) {
            slot.connection.store(id, Ordering::Relaxed);
        }
        self.counters.connect_time.record(took);
        log::debug!("pool {:?}: opened connection {id} in {took:?}", self.name);
        self.emit(|handler, pool| handler.connected(pool, &event::Connected { connection: id, took }));
        Box::new(Entry {
            connection,
            home: Arc::clone(self),
            permit,
            id,
            born,
            dies,
            used: born,
            checked: born,
            uses: 0,
            generation,
            edition,
            renewing,
            // The r2d2 module checks at every checkout, the first one included.
            vouched: !self.settings.check_on_caller,
            broken: false,
            labelled: false,
            extensions: Beside::default(),
        })
    }

    /// Writes a failed attempt down and tells about it: one log line when the server goes away, none for each
    /// further attempt.
    fn connect_failed(self: &Arc<Self>, cause: &Cause, fault: Fault, begun: Moment) {
        let now = self.clock.now();
        self.counters.connect_failures.add();
        let random = scatter(self.seed, self.counters.connect_failures.get());
        let permanent = fault == Fault::Permanent;
        let started = self.rack.numbers().opened > 0;
        let policy = if started { self.settings.retry.clone() } else { self.settings.start_up() };
        let failed = self.rack.connect_failed(cause, permanent, now, |failures| policy.delay(failures, random));
        if failed.news {
            let text = format!("cannot connect: {}", text_of(&**cause));
            log::warn!("pool {:?}: {text}", self.name);
            self.note(IncidentKind::ServerAway, text);
        }
        self.emit_state(State::Down);
        self.emit(|handler, pool| {
            let event = event::ConnectFailed { error: &**cause, attempts: failed.failures, took: now.since(begun) };
            handler.connect_failed(pool, &event);
        });
        match fault {
            Fault::Transient if failed.news => self.suspect_idle(begun),
            Fault::Transient | Fault::Permanent => {}
            Fault::DiscardAll => self.refresh(Duration::ZERO),
        }
        if let Some((outage, all)) = self.rack.hopeless(now) {
            self.rack.fail_waiters(&self.away(&outage), all);
        }
        self.alarm.at(failed.retry_at);
    }
}
