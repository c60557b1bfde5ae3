//! Warming up: opening connections before anybody asks, in steps, and waiting for them.

use super::Core;
use crate::clock::Moment;
use crate::error::{Cause, Error, text_of};
use crate::manager::Manager;
use crate::pool::rack::{Numbers, Phase};
use crate::pool::warming::{Step, Warming};
use crate::warm_up::{OnProgress, WarmUp, WarmUpProgress};
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is to be told of a warm-up, and of which.
struct News {
    number: u64,
    tell: Option<OnProgress>,
    progress: WarmUpProgress,
}

impl<M: Manager> Core<M> {
    /// Begins to warm up, and waits for it where the plan says so.
    pub(crate) fn warm_up(self: &Arc<Self>, plan: WarmUp) -> Result<(), Error> {
        self.refuse_forked()?;
        let numbers = self.rack.numbers();
        if numbers.phase == Phase::Closed {
            return Err(Error::closed(&self.name));
        }
        let problems = plan.problems(numbers.max_size);
        if !problems.is_empty() {
            return Err(Error::config(&problems));
        }
        let WarmUp { wanted, waits, within, required, .. } = plan;
        if wanted == 0 {
            return Ok(());
        }
        let number = self.begin_warming(plan);
        if !waits {
            return Ok(());
        }
        let timeout = within.unwrap_or_else(|| *self.connection_timeout.read());
        match self.wait_for(wanted, timeout) {
            Err(error) if required => Err(error),
            Err(error) => {
                let cause = error.source().map(|cause| format!(": {}", text_of(cause))).unwrap_or_default();
                log::warn!("pool {:?}: goes on before it is warm: {error}{cause}", self.name);
                Ok(())
            }
            Ok(()) => {
                self.wait_told(number, timeout);
                Ok(())
            }
        }
    }

    /// Waits until all warm-ups are complete, or the minimum is there, but at least one connection.
    pub(crate) fn wait_ready(self: &Arc<Self>, timeout: Duration) -> Result<(), Error> {
        self.refuse_forked()?;
        if self.rack.numbers().phase == Phase::Closed {
            return Err(Error::closed(&self.name));
        }
        let under_way = self.warming.lock().iter().map(|warming| warming.plan.wanted).max();
        let wanted = under_way.unwrap_or_else(|| self.rack.numbers().min_idle.max(1));
        if under_way.is_none() {
            self.begin_warming(WarmUp::blocking(wanted));
        }
        self.wait_for(wanted, timeout)
    }

    fn begin_warming(self: &Arc<Self>, plan: WarmUp) -> u64 {
        let ready = self.rack.numbers().ready;
        let number = self.next_warming.fetch_add(1, Ordering::Relaxed);
        self.warming.lock().push(Warming::new(number, plan, ready, self.settings.max_connecting));
        // Somebody asks, so it is worth trying again, however long the server has been away.
        self.rack.ask_again(self.clock.now());
        self.warm_on();
        self.open_wanted();
        number
    }

    /// Waits until all that there is to tell of a warm-up has been told, so that a progress bar is full when `build` returns.
    #[allow(clippy::significant_drop_tightening, reason = "the lock is what is waited on")]
    fn wait_told(self: &Arc<Self>, number: u64, timeout: Duration) {
        let deadline = self.clock.now().after(timeout);
        self.warm_on();
        let mut all = self.warming.lock();
        while all.iter().any(|warming| warming.number == number) {
            let Some(left) = self.slice_until(deadline) else { break };
            self.told.wait_for(&mut all, left);
        }
    }

    /// Has the pool find out whether its server is back, though nobody waits; nothing is known to have worked since `since`.
    pub(crate) fn keep_trying(self: &Arc<Self>, since: Moment) {
        if self.forked() {
            return;
        }
        self.rack.ask_again(self.clock.now());
        let numbers = self.rack.numbers();
        if numbers.outage.is_none() && numbers.phase == Phase::Open {
            if numbers.taken == 0 {
                // Everything was closed, and nothing has been tried since: one connection shows whether it works again.
                self.begin_warming(WarmUp::background(1));
            } else if self.rack.shelf.any_idle() {
                self.suspect_idle(since);
            }
        }
        self.open_wanted();
        if self.by_callers() {
            self.do_what_is_due();
        }
    }

    /// Forgets all warm-ups. What they own goes outside of the lock.
    pub(crate) fn end_warming(&self) {
        let ended = std::mem::take(&mut *self.warming.lock());
        drop(ended);
    }

    /// Takes the next step of each warm-up that is under way: whenever a connection has been opened, an attempt has failed,
    /// or a pause is over.
    pub(crate) fn warm_on(self: &Arc<Self>) {
        while let Some(News { number, tell, progress }) = self.warm_step() {
            if let Some(tell) = tell {
                drop(self.guarded("on_progress", || tell(progress)));
            }
            if let Some(warming) = self.warming.lock().iter_mut().find(|warming| warming.number == number) {
                warming.end_telling();
            }
        }
        self.told.notify_all();
    }

    /// Takes a step of each. Returns what is to be told of one, unless somebody else is telling: that one comes back.
    fn warm_step(&self) -> Option<News> {
        let now = self.clock.now();
        let mut all = self.warming.lock();
        if all.is_empty() {
            return None;
        }
        let Numbers { ready, max_size, .. } = self.rack.numbers();
        let (mut target, mut news) = (0, None);
        for warming in all.iter_mut() {
            match warming.advance(ready, max_size, now) {
                Step::Open(wanted) => target = target.max(wanted),
                Step::Pause(until) => self.alarm.at(until),
                Step::Done => {}
            }
            let wanted = warming.plan.wanted;
            let failures = self.counters.connect_failures.get();
            let progress = WarmUpProgress { ready: ready.min(wanted), wanted, failures };
            if news.is_none() && warming.begin_telling(progress) {
                news = Some(News { number: warming.number, tell: warming.plan.progress.clone(), progress });
            }
        }
        self.rack.set_warm(target);
        let ended: Vec<_> = all.extract_if(.., |warming| warming.is_over()).collect();
        // What the user's function owns may run code of the user's when it goes.
        drop(all);
        drop(ended);
        news
    }

    fn wait_for(self: &Arc<Self>, wanted: u32, timeout: Duration) -> Result<(), Error> {
        let began = self.clock.now();
        let deadline = began.after(timeout);
        let patience = self.settings.start_up().give_up.unwrap_or(Duration::MAX);
        // As long as somebody waits, attempts go on.
        let _asked_for = self.rack.ask_for();
        self.open_wanted();
        loop {
            // Nobody visits a pool whose time is moved by hand.
            if self.by_callers() || self.clock.is_by_hand() {
                self.warm_on();
                self.open_now();
            }
            let mut end = None;
            let mut looked = false;
            self.rack.watch(
                |numbers| {
                    end = self.end_of_wait(numbers, wanted, patience);
                    end.is_some()
                },
                || {
                    // Where callers do the work there is more to do between two looks.
                    let again = !(self.by_callers() && std::mem::replace(&mut looked, true));
                    again.then(|| self.slice_until(deadline)).flatten()
                },
            );
            match end {
                Some(End::Ready) => {
                    // While it is still asked for: with a budget it may be given up to another pool afterwards.
                    self.warm_on();
                    return Ok(());
                }
                Some(End::Closed) => return Err(Error::closed(&self.name)),
                Some(End::Hopeless(cause)) => return Err(Error::permanent(&self.name, cause)),
                None if self.clock.now() < deadline => {}
                Some(End::GivenUp) | None => return Err(self.not_ready(began, wanted)),
            }
        }
    }

    fn end_of_wait(&self, numbers: &Numbers, wanted: u32, patience: Duration) -> Option<End> {
        if numbers.phase == Phase::Closed {
            return Some(End::Closed);
        }
        if numbers.ready >= wanted.min(numbers.max_size) {
            return Some(End::Ready);
        }
        let outage = numbers.outage.as_ref()?;
        let now = self.clock.now();
        if outage.permanent && now < outage.retry_at {
            return Some(End::Hopeless(Arc::clone(&outage.cause)));
        }
        let over = numbers.opened == 0 && now >= outage.since.after(patience);
        over.then_some(End::GivenUp)
    }

    /// For how long to wait before looking again: not past the deadline, and not for long where time is moved by hand or
    /// callers do the work, because that gives no signal.
    pub(crate) fn slice_until(&self, deadline: Moment) -> Option<Duration> {
        let left = deadline.since(self.clock.now());
        let slice = if self.clock.is_by_hand() {
            Duration::from_millis(1)
        } else if self.by_callers() {
            Duration::from_millis(20)
        } else {
            Duration::MAX
        };
        (!left.is_zero()).then_some(left.min(slice))
    }
}

/// Why nobody waits for a warm-up any longer.
enum End {
    Ready,
    Closed,
    /// Trying again is not expected to help.
    Hopeless(Cause),
    /// The start-up policy says so.
    GivenUp,
}
