//! What went wrong lately, kept by the pool itself for whoever asks afterwards.

use crate::clock::Moment;
use crate::error::Error;
use crate::event::CloseReason;
use crate::lease::Lease;
use crate::text::short;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What an [`Incident`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IncidentKind {
    /// A caller's deadline passed.
    TimedOut,
    /// A caller was turned away at once: too many waited already, the pool was paused, or the server away.
    TurnedAway,
    /// Connecting began to fail.
    ServerAway,
    /// Connecting works again.
    ServerBack,
    /// A connection was closed because something was wrong with it.
    Retired(CloseReason),
    /// A callback panicked.
    Panicked,
    /// A connection is borrowed for longer than [`leak_threshold`](crate::Builder::leak_threshold).
    Overdue,
    /// One that was overdue has come back.
    OverdueEnded,
    /// The maximum was changed by hand.
    Resized,
    /// The pool was paused.
    Paused,
    /// The pool lends again.
    Resumed,
    /// The pool was closed.
    Closed,
}

impl IncidentKind {
    /// The kind in lower case, as it stands in tables and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::TurnedAway => "turned_away",
            Self::ServerAway => "server_away",
            Self::ServerBack => "server_back",
            Self::Retired(_) => "retired",
            Self::Panicked => "panicked",
            Self::Overdue => "overdue",
            Self::OverdueEnded => "overdue_ended",
            Self::Resized => "resized",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Closed => "closed",
        }
    }

    /// Whether many of them are told of as one. What somebody has done by hand is told of each time.
    fn comes_in_crowds(self) -> bool {
        !matches!(self, Self::Resized | Self::Paused | Self::Resumed | Self::Closed)
    }

    /// Whether the server has gone or come.
    fn is_of_the_server(self) -> bool {
        matches!(self, Self::ServerAway | Self::ServerBack)
    }
}

/// One thing that went wrong, or many of the same kind in a row. Listed by [`Pool::incidents`](crate::Pool::incidents).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incident {
    /// What it is about.
    pub kind: IncidentKind,
    /// When it happened, by the clock on the wall; the first time, where it happened often.
    pub first: SystemTime,
    /// When it happened last.
    pub last: SystemTime,
    /// How often: less than 10 s passed between any two.
    pub count: u64,
    /// What the first of them said, without passwords.
    pub text: String,
    /// Who held connections at the first of them, longest first, where a caller's deadline passed.
    pub holders: Vec<Lease>,
}

/// The fields by their names, the kind as a word, and for what is retired the `reason`.
#[cfg(feature = "serde")]
impl serde::Serialize for Incident {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use crate::encode::epoch_seconds;
        use serde::ser::SerializeStruct;
        let reason = if let IncidentKind::Retired(reason) = self.kind { Some(reason.as_str()) } else { None };
        let mut fields = serializer.serialize_struct("Incident", 7)?;
        fields.serialize_field("kind", self.kind.as_str())?;
        fields.serialize_field("reason", &reason)?;
        fields.serialize_field("first", &epoch_seconds(self.first))?;
        fields.serialize_field("last", &epoch_seconds(self.last))?;
        fields.serialize_field("count", &self.count)?;
        fields.serialize_field("text", &self.text)?;
        fields.serialize_field("holders", &self.holders)?;
        fields.end()
    }
}

/// `timed out after 5.00 s ... (312 times in 4.00 s)`.
impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.count > 1 {
            let lasted = self.last.duration_since(self.first).unwrap_or_default();
            write!(f, " ({} times in {})", self.count, short(lasted))?;
        }
        Ok(())
    }
}

/// What was said of it. An error is not made text of before somebody asks: a thousand callers may give up in one moment.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Error(Error),
    Text(Arc<str>),
}

impl From<&Error> for Said {
    fn from(error: &Error) -> Self {
        Self::Error(error.clone())
    }
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Noted {
    kind: IncidentKind,
    first: SystemTime,
    last: SystemTime,
    /// The same by the clock that is never set back.
    last_at: Moment,
    count: u64,
    said: Said,
}

impl Noted {
    /// For users to read. Calls what they have written, a driver's error.
    pub(crate) fn read(self) -> Incident {
        let Self { kind, first, last, last_at: _, count, said } = self;
        let (text, holders) = match said {
            Said::Error(error) => (error.in_full(), error.holders().to_vec()),
            Said::Text(text) => (text.as_ref().to_owned(), Vec::new()),
        };
        Incident { kind, first, last, count, text, holders }
    }
}

/// Those of one kind that follow each other within this time are one.
const TOGETHER: Duration = Duration::from_secs(10);

/// How far back one of the same kind is looked for: in an outage, several kinds take turns.
const LOOK_BACK: usize = 8;

/// The last incidents of a pool, oldest first.
#[derive(Debug)]
pub(crate) struct Journal {
    capacity: usize,
    noted: VecDeque<Noted>,
}

impl Journal {
    pub(crate) const fn new(capacity: usize) -> Self {
        Self { capacity, noted: VecDeque::new() }
    }

    /// Writes one down. Returns what is not needed (any more), so that it is dropped outside the lock: there may be a driver's
    /// error in it.
    pub(crate) fn note(&mut self, kind: IncidentKind, (now, wall): (Moment, SystemTime), said: Said) -> Option<Said> {
        if self.capacity == 0 {
            return Some(said);
        }
        // What was before a change of state is told apart from what came after it; but a server that comes and goes all the
        // time would fill the journal with that.
        let told_apart = |noted: &Noted| {
            !noted.kind.comes_in_crowds()
                || noted.kind.is_of_the_server() && noted.count == 1 && !kind.is_of_the_server()
        };
        let mut recent = self.noted.iter_mut().rev().take(LOOK_BACK).take_while(|noted| !told_apart(noted));
        if kind.comes_in_crowds()
            && let Some(same) = recent.find(|noted| noted.kind == kind)
            && now.since(same.last_at) < TOGETHER
        {
            (same.last, same.last_at) = (wall, now);
            same.count += 1;
            return Some(said);
        }
        let oldest = if self.noted.len() < self.capacity { None } else { self.noted.pop_front() };
        self.noted.push_back(Noted { kind, first: wall, last: wall, last_at: now, count: 1, said });
        oldest.map(|noted| noted.said)
    }

    pub(crate) fn noted(&self) -> Vec<Noted> {
        self.noted.iter().cloned().collect()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use IncidentKind::{Paused, ServerAway, ServerBack, TimedOut};

    fn journal(capacity: usize, entries: &[(u64, IncidentKind)]) -> Vec<(IncidentKind, u64, u64)> {
        let mut journal = Journal::new(capacity);
        for &(second, kind) in entries {
            let after = Duration::from_secs(second);
            let now = (Moment::ZERO.after(after), SystemTime::UNIX_EPOCH + after);
            drop(journal.note(kind, now, format!("{second}").into()));
        }
        let read = journal.noted().into_iter().map(Noted::read);
        read.map(|incident| (incident.kind, incident.count, incident.text.parse().expect("a number"))).collect()
    }

    #[test]
    fn many_of_a_kind_are_one_and_keep_what_the_first_said() {
        let broken = IncidentKind::Retired(CloseReason::Broken);
        let entries = [(1, TimedOut), (2, broken), (2, TimedOut), (9, broken), (11, TimedOut), (30, TimedOut)];
        assert_eq!(journal(9, &entries), [(TimedOut, 3, 1), (broken, 2, 2), (TimedOut, 1, 30)]);
    }

    #[test]
    fn reasons_and_changes_of_state_are_told_apart() {
        let entries =
            [(1, TimedOut), (2, ServerAway), (3, TimedOut), (4, ServerBack), (15, ServerAway), (16, TimedOut)];
        assert_eq!(journal(9, &entries).len(), 6);
        assert_eq!(journal(9, &[(1, TimedOut), (2, Paused), (3, TimedOut)]).len(), 3);
        let lost = [CloseReason::Broken, CloseReason::Invalid].map(IncidentKind::Retired);
        assert_eq!(journal(9, &[(1, lost[0]), (1, lost[1])]).len(), 2);
    }

    #[test]
    fn the_oldest_goes_first_and_none_are_kept_where_none_are_wanted() {
        assert_eq!(journal(2, &[(1, Paused), (2, ServerAway), (3, TimedOut)]), [(ServerAway, 1, 2), (TimedOut, 1, 3)]);
        assert_eq!(journal(0, &[(1, Paused)]), []);
    }

    #[test]
    fn a_server_that_comes_and_goes_does_not_push_out_everything_else() {
        let flaps = (0..40).flat_map(|n| [(n + 1, ServerAway), (n + 1, TimedOut), (n + 1, ServerBack)]);
        let entries: Vec<_> = [(0, Paused)].into_iter().chain(flaps).collect();
        let told = journal(9, &entries);
        assert_eq!(told.first(), Some(&(Paused, 1, 0)));
        let of = |kind| told.iter().filter(|told| told.0 == kind).map(|told| told.1).sum::<u64>();
        assert_eq!((told.len(), of(ServerAway), of(ServerBack), of(TimedOut)), (5, 40, 40, 40), "{told:?}");
    }

    #[test]
    fn a_wall_clock_that_is_set_decides_nothing() {
        let mut journal = Journal::new(9);
        let wall = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let at = |seconds| Moment::ZERO.after(Duration::from_secs(seconds));
        drop(journal.note(TimedOut, (at(1), wall(5000)), String::new().into()));
        drop(journal.note(TimedOut, (at(2), wall(1400)), String::new().into()));
        drop(journal.note(TimedOut, (at(30), wall(1428)), String::new().into()));
        let read: Vec<_> = journal.noted().into_iter().map(Noted::read).collect();
        assert_eq!(read.iter().map(|incident| incident.count).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(read[0].to_string(), " (2 times in 0)", "as far as anybody knows");
    }
}
