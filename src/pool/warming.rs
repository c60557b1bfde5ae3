//! How far warming up may go: one batch after the other, with a pause between.

use crate::clock::Moment;
use crate::warm_up::{WarmUp, WarmUpProgress};

/// A warm-up that is under way.
#[derive(Debug)]
pub(crate) struct Warming {
    pub(crate) number: u64,
    pub(crate) plan: WarmUp,
    batch: u32,
    /// How many connections there are to be at the end of this batch.
    target: u32,
    /// When the next batch may begin, once this one is complete.
    next: Option<Moment>,
    /// What was told last, and whether somebody is telling it.
    told: Option<WarmUpProgress>,
    telling: bool,
    /// Nothing is left to be opened.
    done: bool,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Connections of this batch are still being opened: so many are wanted for now.
    Open(u32),
    /// The batch is complete, and the next one begins at this moment.
    Pause(Moment),
    Done,
}

impl Warming {
    /// With `ready` connections open already.
    pub(crate) fn new(number: u64, plan: WarmUp, ready: u32, max_connecting: u32) -> Self {
        let batch = plan.batch.unwrap_or(u32::MAX).min(max_connecting);
        let target = ready.saturating_add(batch).min(plan.wanted);
        Self { number, plan, batch, target, next: None, told: None, telling: false, done: false }
    }

    /// With room for `max_size`, which may have become less since.
    pub(crate) fn advance(&mut self, ready: u32, max_size: u32, now: Moment) -> Step {
        if ready >= self.plan.wanted.min(max_size) {
            self.done = true;
            return Step::Done;
        }
        if self.done {
            return Step::Done;
        }
        if ready >= self.target {
            let next = *self.next.get_or_insert(now.after(self.plan.pause));
            if now < next {
                return Step::Pause(next);
            }
            self.next = None;
            self.target = self.target.saturating_add(self.batch).min(self.plan.wanted);
        }
        Step::Open(self.target)
    }

    /// Whether there is news to tell, and nobody is telling any: then the caller is to tell it, and to come back.
    pub(crate) fn begin_telling(&mut self, progress: WarmUpProgress) -> bool {
        let news = self.told != Some(progress) && !self.telling;
        if news {
            self.told = Some(progress);
            self.telling = true;
        }
        news
    }

    pub(crate) fn end_telling(&mut self) {
        self.telling = false;
    }

    /// Whether it has come to its end, and that has been told.
    pub(crate) fn is_over(&self) -> bool {
        self.done && !self.telling
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn batches_follow_each_other_after_a_pause_and_only_when_complete() {
        let second = Duration::from_secs(1);
        let at = |seconds| Moment::ZERO.after(Duration::from_secs(seconds));
        let mut warming = Warming::new(1, WarmUp::background(7).batch(3).pause(second), 0, 4);
        assert_eq!(warming.advance(0, 100, at(0)), Step::Open(3));
        assert_eq!(warming.advance(2, 100, at(9)), Step::Open(3));
        assert_eq!(warming.advance(3, 100, at(10)), Step::Pause(at(11)));
        assert_eq!(warming.advance(3, 100, at(11)), Step::Open(6));
        assert_eq!(warming.advance(6, 100, at(20)), Step::Pause(at(21)));
        assert_eq!(warming.advance(6, 100, at(30)), Step::Open(7));
        assert_eq!(warming.advance(7, 100, at(30)), Step::Done);
    }

    #[test]
    fn a_batch_is_never_larger_than_may_be_opened_at_once_and_counts_what_is_there() {
        let mut warming = Warming::new(1, WarmUp::blocking(20).batch(100), 5, 4);
        assert_eq!(warming.advance(5, 100, Moment::ZERO), Step::Open(9));
    }

    #[test]
    fn a_pool_that_was_made_smaller_meanwhile_is_warm_when_it_is_full() {
        let mut warming = Warming::new(1, WarmUp::background(9), 0, 4);
        assert_eq!(warming.advance(4, 4, Moment::ZERO), Step::Done);
    }

    #[test]
    fn progress_is_told_by_one_at_a_time_and_only_when_it_is_news() {
        let mut warming = Warming::new(1, WarmUp::blocking(2), 0, 4);
        let progress = |ready| WarmUpProgress { ready, wanted: 2, failures: 0 };
        assert!(warming.begin_telling(progress(0)));
        assert!(!warming.begin_telling(progress(1)), "somebody is telling");
        warming.end_telling();
        assert!(!warming.begin_telling(progress(0)), "it has been told");
        assert!(warming.begin_telling(progress(1)));
    }
}
