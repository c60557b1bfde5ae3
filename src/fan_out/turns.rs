//! Which row is next, and which threads count towards the limit.

use crate::clock::Moment;
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// Gives rows to threads: to no more at once than the limit, those not counted whose row has used up its share.
///
/// The share of a row is what was left to the deadline when it began, divided by the rounds that the rows which had not begun
/// needed then. So if every row hangs, the last one still begins before the deadline.
pub(super) struct Turns {
    rows: usize,
    limit: usize,
    deadline: Moment,
    book: Mutex<Book>,
}

struct Book {
    /// When each row began that has.
    began: Vec<Moment>,
    /// Rows within their share, by its end.
    counting: BTreeSet<(Moment, usize)>,
    /// Threads that were started and have not come for a row yet.
    coming: usize,
}

/// A row, given to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) row: usize,
    pub(super) began: Moment,
    share_ends: Moment,
}

impl Turns {
    pub(super) fn new(rows: usize, limit: usize, deadline: Moment) -> Self {
        let book = Book { began: Vec::new(), counting: BTreeSet::new(), coming: 0 };
        Self { rows, limit, deadline, book: Mutex::new(book) }
    }

    /// Ends the turn that a thread had, or its coming, and gives it a row if it is to go on.
    pub(super) fn next(&self, last: Option<Turn>, now: Moment) -> Option<Turn> {
        let mut book = self.book.lock();
        match last {
            // Where its share was over, another thread may have its place, and it has to find one.
            Some(last) => _ = book.counting.remove(&(last.share_ends, last.row)),
            None => book.coming -= 1,
        }
        let row = book.began.len();
        if row >= self.rows || now >= self.deadline || book.places() >= self.limit {
            return None;
        }
        let share_ends = self.share_ends(row, now);
        book.began.push(now);
        book.counting.insert((share_ends, row));
        drop(book);
        Some(Turn { row, began: now, share_ends })
    }

    /// Whether another thread is of use now; it is to be started then, or [`not_started`](Self::not_started).
    pub(super) fn wants_thread(&self, now: Moment) -> bool {
        let mut book = self.book.lock();
        if now >= self.deadline || book.taken() >= self.rows {
            return false;
        }
        while book.counting.first().is_some_and(|(share_ends, _)| *share_ends <= now) {
            book.counting.pop_first();
        }
        let wanted = book.places() < self.limit;
        book.coming += usize::from(wanted);
        wanted
    }

    pub(super) fn not_started(&self) {
        self.book.lock().coming -= 1;
    }

    /// When another thread may be of use; `None` where every row has one.
    pub(super) fn next_wanted(&self, now: Moment) -> Option<Moment> {
        let book = self.book.lock();
        let first = book.counting.first().map(|(share_ends, _)| *share_ends);
        // Whoever is coming begins now or later.
        let coming = (book.coming > 0).then(|| self.share_ends(book.began.len(), now));
        (book.taken() < self.rows).then(|| first.into_iter().chain(coming).min().unwrap_or(Moment::NEVER))
    }

    /// Of a row that begins now.
    fn share_ends(&self, row: usize, now: Moment) -> Moment {
        if self.deadline == Moment::NEVER {
            return Moment::NEVER;
        }
        let rounds = u32::try_from((self.rows - row).div_ceil(self.limit)).unwrap_or(u32::MAX).max(1);
        now.after(self.deadline.since(now) / rounds)
    }

    /// When each row began that has: the first ones.
    pub(super) fn began(&self) -> Vec<Moment> {
        self.book.lock().began.clone()
    }
}

impl Book {
    fn places(&self) -> usize {
        self.counting.len() + self.coming
    }

    fn taken(&self) -> usize {
        self.began.len() + self.coming
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(ms: u64) -> Moment {
        Moment::ZERO.after(Duration::from_millis(ms))
    }

    /// Starts all threads that are wanted, and has them come for their rows.
    fn begun(turns: &Turns, ms: u64) -> Vec<Turn> {
        let coming: Vec<()> = std::iter::from_fn(|| turns.wants_thread(at(ms)).then_some(())).collect();
        coming.iter().filter_map(|()| turns.next(None, at(ms))).collect()
    }

    #[test]
    fn a_row_that_has_used_its_share_makes_room_and_its_thread_ends_where_the_room_was_taken() {
        let turns = Turns::new(8, 2, at(800));
        let first = begun(&turns, 0);
        assert_eq!(first.iter().map(|turn| turn.row).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(
            (turns.next_wanted(at(1)), begun(&turns, 199)),
            (Some(at(200)), Vec::new()),
            "four rounds in 800 ms"
        );
        let second = begun(&turns, 200);
        assert_eq!(second.iter().map(|turn| turn.row).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(turns.next(first.first().copied(), at(210)), None, "two others are at work");
        let third = turns.next(second.first().copied(), at(220)).expect("a place of its own");
        assert_eq!((third.row, turns.began().len()), (4, 5));
    }

    #[test]
    fn if_every_row_hangs_the_last_one_begins_before_the_deadline() {
        let turns = Turns::new(5, 1, at(1000));
        let mut now = 0;
        for row in 0..5 {
            assert_eq!(begun(&turns, now).iter().map(|turn| turn.row).collect::<Vec<_>>(), [row]);
            now += 200;
        }
        assert_eq!(turns.next_wanted(at(1000)), None);
    }

    #[test]
    fn without_a_deadline_the_limit_is_strict_and_after_it_nothing_begins() {
        let turns = Turns::new(5, 2, Moment::NEVER);
        assert_eq!((begun(&turns, 0).len(), begun(&turns, u64::MAX / 2_000_000).len()), (2, 0));
        let late = Turns::new(5, 2, at(10));
        assert!(late.wants_thread(at(1)));
        assert_eq!(late.next_wanted(at(1)), Some(at(4)), "when the share of the coming one is over at the soonest");
        assert_eq!((late.next(None, at(10)), late.wants_thread(at(10))), (None, false));
    }
}
