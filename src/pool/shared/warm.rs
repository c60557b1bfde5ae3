//! Warming up: opening connections before anybody asks, in steps, and waiting for them.

use super::Core;
use crate::clock::Moment;
use crate::error::{Cause, Error};
use crate::manager::Manager;
use crate::pool::rack::{Numbers, Phase};
use crate::pool::warming::{Step, Warming};
use crate::redact::redact;
use crate::warm_up::{OnProgress, WarmUp, WarmUpProgress};
use std::sync::Arc;
use std::time::Duration;

impl<M: Manager> Core<M> {
    /// Begins to warm up, and waits for it where the plan says so.
    pub(crate) fn warm_up(self: &Arc<Self>, plan: WarmUp) -> Result<(), Error> {
        let problems = plan.problems(self.rack.numbers().max_size);
        if !problems.is_empty() {
            return Err(Error::config(&problems));
        }
        let WarmUp { wanted, waits, within, required, .. } = plan;
        if wanted == 0 {
            return Ok(());
        }
        self.begin_warming(plan);
        if !waits {
            return Ok(());
        }
        let timeout = within.unwrap_or_else(|| *self.connection_timeout.read());
        match self.wait_for(wanted, timeout) {
            Err(error) if required => Err(error),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {}", redact(&cause.to_string())));
                let cause = cause.unwrap_or_default();
                log::warn!("pool {:?}: goes on before it is warm: {error}{cause}", self.name);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Waits until the warm-up is complete, or the minimum is there, but at least one connection.
    pub(crate) fn wait_ready(self: &Arc<Self>, timeout: Duration) -> Result<(), Error> {
        let warming = self.warming.lock().as_ref().map(|warming| warming.plan.wanted);
        let wanted = warming.unwrap_or_else(|| self.rack.numbers().min_idle.max(1));
        if warming.is_none() {
            self.begin_warming(WarmUp::blocking(wanted));
        }
        self.wait_for(wanted, timeout)
    }

    fn begin_warming(self: &Arc<Self>, plan: WarmUp) {
        let ready = self.rack.numbers().ready;
        *self.warming.lock() = Some(Warming::new(plan, ready, self.settings.max_connecting));
        self.warm_on();
        self.open_wanted();
    }

    /// Takes the next step of a warm-up, if one is under way: whenever a connection has been opened, an attempt has failed,
    /// or a pause is over.
    pub(crate) fn warm_on(self: &Arc<Self>) {
        while let Some((tell, progress)) = self.warm_step() {
            if let Some(tell) = tell {
                drop(self.guarded("on_progress", || tell(progress)));
            }
            if let Some(warming) = self.warming.lock().as_mut() {
                warming.end_telling();
            }
        }
    }

    /// Takes a step. Returns what is to be told of it, unless somebody else is telling: that one comes back.
    #[allow(clippy::significant_drop_tightening, reason = "a step and what is told of it belong together")]
    fn warm_step(&self) -> Option<(Option<OnProgress>, WarmUpProgress)> {
        let now = self.clock.now();
        let mut slot = self.warming.lock();
        let warming = slot.as_mut()?;
        let Numbers { ready, max_size, .. } = self.rack.numbers();
        let step = warming.advance(ready, max_size, now);
        match step {
            Step::Open(target) => self.rack.set_warm(target),
            Step::Pause(until) => self.alarm.at(until),
            Step::Done => self.rack.set_warm(0),
        }
        let wanted = warming.plan.wanted;
        let failures = self.counters.connect_failures.get();
        let progress = WarmUpProgress { ready: ready.min(wanted), wanted, failures };
        if warming.begin_telling(progress) {
            return Some((warming.plan.progress.clone(), progress));
        }
        if step == Step::Done && !warming.is_telling() {
            *slot = None;
        }
        None
    }

    fn wait_for(self: &Arc<Self>, wanted: u32, timeout: Duration) -> Result<(), Error> {
        self.refuse_forked()?;
        let began = self.clock.now();
        let deadline = began.after(timeout);
        let patience = self.settings.start_up().give_up.unwrap_or(Duration::MAX);
        loop {
            if self.by_callers() {
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
                Some(End::Ready) => return Ok(()),
                Some(End::Closed) => return Err(Error::closed(&self.name)),
                Some(End::Hopeless(cause)) => return Err(Error::permanent(&self.name, cause)),
                None if self.clock.now() < deadline => {}
                Some(End::GivenUp) | None => return Err(self.timeout_error(began, &self.rack.numbers())),
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
        if outage.permanent {
            return Some(End::Hopeless(Arc::clone(&outage.cause)));
        }
        let over = !numbers.started && self.clock.now() >= outage.since.after(patience);
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
