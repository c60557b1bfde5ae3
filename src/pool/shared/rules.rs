//! Rules that change while connections are out: new times, refreshes, and what is suspected after a failure.
//!
//! The fast path compares one number, the edition. Whoever changes the rules raises it, and every connection is then judged
//! by the new rules when it is next touched, before it is lent.

use super::{Core, Item};
use crate::clock::{Moment, whole_ticks};
use crate::config::{Settings, Validation, scatter};
use crate::error::Error;
use crate::manager::Manager;
use crate::pool::entry::{Renewal, Rules};
use crate::sync::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// The first rules.
pub(crate) fn from_settings(settings: &Settings) -> Rules {
    Rules {
        validation: settings.validation,
        max_uses: settings.max_uses.unwrap_or(u64::MAX),
        max_lifetime: settings.max_lifetime,
        idle_timeout: settings.idle_timeout,
        keepalive: settings.keepalive,
        oldest: 0,
        renewal: None,
        suspect: Moment::ZERO,
        thawed: Moment::ZERO,
        replanned: 0,
    }
}

/// Connections that were idle for less than so many ticks are lent without a check.
pub(crate) fn fresh_ticks(validation: Validation) -> u32 {
    match validation {
        Validation::Always => 0,
        Validation::IfIdleFor(limit) => whole_ticks(limit),
        Validation::Never => u32::MAX,
    }
}

impl<M: Manager> Core<M> {
    pub(crate) fn rules(&self) -> Rules {
        *self.rules.lock()
    }

    fn change_rules(&self, change: impl FnOnce(&mut Rules, u32)) {
        let mut rules = self.rules.lock();
        // Under the lock, so that rules and edition go together. Release: whoever sees the edition and then asks for the
        // rules takes the lock, and finds these or later ones.
        let edition = self.edition.load(Ordering::Relaxed) + 1;
        change(&mut rules, edition);
        self.edition.store(edition, Ordering::Release);
    }

    /// The rules, which the connection has been brought up to.
    pub(crate) fn rules_for(&self, item: &mut Item<M>) -> Rules {
        let (rules, edition) = {
            let rules = self.rules.lock();
            (*rules, self.edition.load(Ordering::Relaxed))
        };
        if item.edition < rules.replanned {
            self.deaths.lock().forget(item.dies);
            let before = item.renewing.then_some(item.dies);
            (item.dies, item.renewing) = self.plan_death(item.id, item.born, item.generation, before, &rules);
        }
        let suspect = rules.validation != Validation::Never && item.proven() < rules.suspect;
        if !suspect {
            // A suspect stays one of an older edition, or the fast path would lend it.
            item.edition = edition;
        }
        rules
    }

    /// When a connection is to die, and whether because of a refresh. One that was to be renewed by `before` is not put off by
    /// another refresh, or a pool that is refreshed more and more often would never get to some.
    pub(crate) fn plan_death(
        &self,
        id: u64,
        born: Moment,
        generation: u32,
        before: Option<Moment>,
        rules: &Rules,
    ) -> (Moment, bool) {
        let size = self.rack.numbers().max_size;
        let mut deaths = self.deaths.lock();
        let natural = rules
            .max_lifetime
            .map_or(Moment::NEVER, |lifetime| deaths.plan(born, lifetime, size, scatter(self.seed, id)));
        let (from, until, latest) = match (rules.renewal_of(generation), rules.max_lifetime) {
            (Some(Renewal { from, until, .. }), _) => (from, until, natural.min(before.unwrap_or(natural))),
            // It would have died while the process stood still, as others would have.
            (None, Some(lifetime)) if natural <= rules.thawed => {
                let expires = born.after(lifetime);
                let latest = if expires <= rules.thawed { Moment::NEVER } else { expires };
                (rules.thawed, rules.thawed.after(lifetime / 2), latest)
            }
            (None, _) => return (natural, false),
        };
        deaths.forget(natural);
        (deaths.renew(from, until, id, latest), rules.renewal_of(generation).is_some())
    }

    /// Makes every connection that is open or being opened now one of an older generation, and has them retired: all at
    /// once, or one after the other until `over` has passed.
    pub(crate) fn refresh(self: &Arc<Self>, over: Duration) {
        let now = self.clock.now();
        self.change_rules(|rules, edition| {
            // Drawn under the lock of the rules, so that of two refreshes the later one has the later generation.
            let before = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
            if over.is_zero() {
                rules.oldest = before;
                rules.renewal = None;
            } else {
                rules.renewal = Some(Renewal { before, from: now, until: now.after(over) });
            }
            rules.replanned = edition;
        });
        self.judge_idle();
    }

    /// Ends a refresh whose time is over: what is left of the old ones was borrowed when its turn came.
    pub(crate) fn end_renewal(&self, now: Moment) {
        let Some(renewal) = self.rules().renewal else { return };
        if renewal.until > now {
            self.alarm.at(renewal.until);
            return;
        }
        self.change_rules(|rules, _| {
            // Unless another one has begun since.
            if let Some(renewal) = rules.renewal.take_if(|renewal| renewal.until <= now) {
                rules.oldest = rules.oldest.max(renewal.before);
            }
        });
    }

    /// What has not worked since `since` is checked before it is lent.
    pub(crate) fn suspect_before(&self, since: Moment) {
        self.change_rules(|rules, _| rules.suspect = rules.suspect.max(since));
    }

    /// Notices that the process stood still: what is idle is suspect then, and what came due meanwhile is in no hurry.
    pub(crate) fn notice_standstill(&self, now: Moment) {
        let Some(due) = self.alarm.overslept(now).filter(|due| *due > self.rules().thawed) else { return };
        let mut news = false;
        self.change_rules(|rules, edition| {
            // Unless somebody else has noticed it meanwhile.
            if due > rules.thawed {
                (rules.suspect, rules.thawed, rules.replanned) = (now, now, edition);
                news = true;
            }
        });
        if !news {
            return;
        }
        let (name, stood) = (&self.name, now.since(due));
        log::info!("pool {name:?}: the process stood still for {stood:.1?}; what is idle is checked before it is lent");
        self.sweep_all(now);
        self.alarm.at(now);
    }

    pub(crate) fn set_max_lifetime(self: &Arc<Self>, lifetime: Option<Duration>) -> Result<(), Error> {
        self.check_settings(|settings| settings.max_lifetime = lifetime)?;
        self.change_rules(|rules, edition| (rules.max_lifetime, rules.replanned) = (lifetime, edition));
        self.judge_idle();
        Ok(())
    }

    pub(crate) fn set_idle_timeout(self: &Arc<Self>, timeout: Option<Duration>) -> Result<(), Error> {
        self.check_settings(|settings| settings.idle_timeout = timeout)?;
        self.change_rules(|rules, _| rules.idle_timeout = timeout);
        self.alarm.at(self.clock.now());
        Ok(())
    }

    pub(crate) fn set_keepalive(self: &Arc<Self>, every: Option<Duration>) -> Result<(), Error> {
        self.check_settings(|settings| settings.keepalive = every)?;
        self.change_rules(|rules, _| rules.keepalive = every);
        self.alarm.at(self.clock.now());
        Ok(())
    }

    pub(crate) fn set_validation(self: &Arc<Self>, validation: Validation) {
        let validation = if self.manager.can_validate() { validation } else { Validation::Never };
        self.change_rules(|rules, _| {
            rules.validation = validation;
            self.fresh.store(fresh_ticks(validation), Ordering::Relaxed);
        });
        self.alarm.at(self.clock.now());
    }

    pub(crate) fn set_connection_timeout(&self, timeout: Duration) -> Result<(), Error> {
        self.check_settings(|settings| settings.connection_timeout = timeout)?;
        *self.connection_timeout.write() = timeout;
        Ok(())
    }

    pub(crate) fn set_leak_threshold(&self, after: Option<Duration>) -> Result<(), Error> {
        self.check_settings(|settings| settings.leak_threshold = after)?;
        *self.leak_threshold.lock() = after;
        self.alarm.at(self.clock.now());
        Ok(())
    }

    pub(crate) fn set_min_idle(self: &Arc<Self>, min_idle: u32) -> Result<(), Error> {
        let max_size = self.rack.numbers().max_size;
        self.check_settings(|settings| (settings.min_idle, settings.max_size) = (min_idle, max_size))?;
        self.rack.set_min_idle(min_idle);
        self.open_wanted();
        self.alarm.at(self.clock.now());
        Ok(())
    }

    /// Whether the settings that the pool was built with would be good with this change.
    pub(crate) fn check_settings(&self, change: impl FnOnce(&mut Settings)) -> Result<(), Error> {
        // The minimum is not of these; it may have been lowered with the maximum.
        let mut settings = self.settings.clone();
        settings.min_idle = 0;
        settings.adaptive = self.adaptive();
        change(&mut settings);
        let problems = settings.problems();
        if problems.is_empty() { Ok(()) } else { Err(Error::config(&problems)) }
    }
}
