//! What went wrong lately, kept by the pool itself for whoever asks afterwards.

use crate::error::Error;
use crate::event::CloseReason;
use crate::lease::Lease;
use crate::text::short;
use std::collections::VecDeque;
use std::fmt;
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
    /// The maximum was changed.
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

    /// Whether many of them in a row are told of as one. What changes the pool's state is told of each time.
    fn comes_in_crowds(self) -> bool {
        matches!(
            self,
            Self::TimedOut | Self::TurnedAway | Self::Retired(_) | Self::Panicked | Self::Overdue | Self::OverdueEnded
        )
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for IncidentKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One thing that went wrong, or many of the same kind in a row. Listed by [`Pool::incidents`](crate::Pool::incidents).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Incident {
    /// What it is about.
    pub kind: IncidentKind,
    /// When it happened, by the clock on the wall; the first time, where it happened often.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::encode::epoch_seconds"))]
    pub first: SystemTime,
    /// When it happened last.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::encode::epoch_seconds"))]
    pub last: SystemTime,
    /// How often: less than 10 s passed between any two.
    pub count: u64,
    /// What the first of them said, without passwords.
    pub text: String,
    /// Who held connections at the first of them, longest first, where a caller's deadline passed.
    pub holders: Vec<Lease>,
}

/// `timed out after 5.00 s ... (312 times in 4.0 s)`.
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
    Text(String),
}

impl From<&Error> for Said {
    fn from(error: &Error) -> Self {
        Self::Error(error.clone())
    }
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Noted {
    kind: IncidentKind,
    first: SystemTime,
    last: SystemTime,
    count: u64,
    said: Said,
}

impl Noted {
    /// For users to read. May call what they have written, a driver's error.
    pub(crate) fn read(self) -> Incident {
        let Self { kind, first, last, count, said } = self;
        let (text, holders) = match said {
            Said::Error(error) => (error.in_full(), error.holders().to_vec()),
            Said::Text(text) => (text, Vec::new()),
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
    pub(crate) fn note(&mut self, kind: IncidentKind, now: SystemTime, said: Said) -> Option<Said> {
        if self.capacity == 0 {
            return Some(said);
        }
        let recent = self.noted.iter_mut().rev().take(LOOK_BACK);
        // What was before a change of state is told apart from what came after it.
        let mut recent = recent.take_while(|noted| noted.kind.comes_in_crowds());
        if kind.comes_in_crowds()
            && let Some(same) = recent.find(|noted| noted.kind == kind)
            // A clock that was set back makes a gap of nothing.
            && now.duration_since(same.last).unwrap_or_default() < TOGETHER
        {
            same.last = same.last.max(now);
            same.count += 1;
            return Some(said);
        }
        let oldest = if self.noted.len() < self.capacity { None } else { self.noted.pop_front() };
        self.noted.push_back(Noted { kind, first: now, last: now, count: 1, said });
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
            drop(journal.note(kind, SystemTime::UNIX_EPOCH + Duration::from_secs(second), format!("{second}").into()));
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
        let entries = [(1, TimedOut), (2, ServerAway), (3, TimedOut), (4, ServerBack), (5, ServerAway), (6, TimedOut)];
        assert_eq!(journal(9, &entries).len(), 6);
        let lost = [CloseReason::Broken, CloseReason::Invalid].map(IncidentKind::Retired);
        assert_eq!(journal(9, &[(1, lost[0]), (1, lost[1])]).len(), 2);
    }

    #[test]
    fn the_oldest_goes_first_and_none_are_kept_where_none_are_wanted() {
        assert_eq!(journal(2, &[(1, Paused), (2, ServerAway), (3, TimedOut)]), [(ServerAway, 1, 2), (TimedOut, 1, 3)]);
        assert_eq!(journal(0, &[(1, Paused)]), []);
    }

    #[test]
    fn a_clock_that_is_set_back_loses_nothing() {
        assert_eq!(journal(9, &[(100, TimedOut), (50, TimedOut)]), [(TimedOut, 2, 100)]);
    }
}
