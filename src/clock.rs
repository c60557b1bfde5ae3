//! The only place that reads a clock.
//!
//! Time inside the crate is a [`Moment`]: nanoseconds of the monotonic clock. Durations exist at the edge only;
//! the first thing that happens to a time-out is that it becomes a deadline.

use std::time::{Duration, SystemTime};

#[cfg(any(test, loom, shuttle, feature = "testing"))]
pub use hand::HandClock;
#[cfg(any(test, loom, shuttle, feature = "testing"))]
pub(crate) use hand::Ring;

/// A point in time, in nanoseconds since an origin that is fixed for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Earlier than every other moment.
    pub(crate) const ZERO: Self = Self(0);
    /// Later than every other moment: the deadline of those who wait for ever.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Saturates at [`Moment::NEVER`], so that `Duration::MAX` waits for ever and nothing overflows.
    pub(crate) fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }

    pub(crate) fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment in units of 2^20 ns (about 1.05 ms), modulo 2^32 (52 days): what fits into a slot's word.
    /// A shift, because a division would be a tenth of a checkout.
    #[inline]
    pub(crate) fn tick(self) -> u32 {
        (self.0 >> TICK_SHIFT) as u32
    }
}

impl Moment {
    /// The beginning of the tick that is so many after this one's: the same at every time of asking.
    pub(crate) fn ticks_on(self, ticks: i32) -> Self {
        Self((self.0 >> TICK_SHIFT).saturating_add_signed(i64::from(ticks)) << TICK_SHIFT)
    }
}

const TICK_SHIFT: u32 = 20;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration in ticks, rounded up, at most `u32::MAX`.
pub(crate) fn ticks(duration: Duration) -> u32 {
    u32::try_from((nanos(duration) >> TICK_SHIFT).saturating_add(1)).unwrap_or(u32::MAX)
}

/// A duration in ticks, rounded down, less than `u32::MAX`: two moments whose ticks differ by less are not further
/// apart than the duration.
pub(crate) fn whole_ticks(duration: Duration) -> u32 {
    u32::try_from(nanos(duration) >> TICK_SHIFT).unwrap_or(u32::MAX).min(u32::MAX - 1)
}

/// How many ticks have passed from one to another. One that lies ahead, because it was read later or from the exact clock, is
/// as good as now: ticks wrap around after 52 days, and nothing is ever a minute ahead.
pub(crate) fn ticks_between(earlier: u32, later: u32) -> u32 {
    const AHEAD: u32 = 1 << 16;
    let passed = later.wrapping_sub(earlier);
    if passed > u32::MAX - AHEAD { 0 } else { passed }
}

/// A number of ticks as a duration.
pub(crate) fn tick_span(ticks: u32) -> Duration {
    Duration::from_nanos(u64::from(ticks) << TICK_SHIFT)
}

/// Where a pool's time comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    #[default]
    System,
    #[cfg(any(test, loom, shuttle, feature = "testing"))]
    Hand(HandClock),
}

impl Clock {
    /// Exact to some nanoseconds, and about 20 ns dear: for those who wait.
    pub(crate) fn now(&self) -> Moment {
        match self {
            Self::System => system::now(),
            #[cfg(any(test, loom, shuttle, feature = "testing"))]
            Self::Hand(clock) => clock.now(),
        }
    }

    /// What the clock on the wall shows, for people to read. It may be set back, so nothing is decided by it.
    pub(crate) fn wall(&self) -> SystemTime {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the module that reads the clock")]
            Self::System => SystemTime::now(),
            #[cfg(any(test, loom, shuttle, feature = "testing"))]
            Self::Hand(clock) => SystemTime::UNIX_EPOCH + Duration::from_nanos(clock.now().to_bits()),
        }
    }

    /// Whether it stands still until it is moved.
    pub(crate) fn is_by_hand(&self) -> bool {
        !matches!(self, Self::System)
    }

    /// At most one timer interrupt (1 to 10 ms) late, and about 3 ns dear: for every checkout and checkin.
    #[inline]
    pub(crate) fn coarse(&self) -> Moment {
        match self {
            Self::System => system::coarse(),
            #[cfg(any(test, loom, shuttle, feature = "testing"))]
            Self::Hand(clock) => clock.now(),
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::Moment;
    use rustix::time::{ClockId, clock_gettime};

    pub(super) fn now() -> Moment {
        read(ClockId::Monotonic)
    }

    #[inline]
    pub(super) fn coarse() -> Moment {
        read(ClockId::MonotonicCoarse)
    }

    #[inline]
    fn read(clock: ClockId) -> Moment {
        let time = clock_gettime(clock);
        Moment((time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Moment;
    use std::sync::OnceLock;
    use std::time::Instant;

    static ORIGIN: OnceLock<Instant> = OnceLock::new();

    #[allow(clippy::disallowed_methods, reason = "this is the module that reads the clock")]
    pub(super) fn now() -> Moment {
        let now = Instant::now();
        // One second of head start, so that "a little before now" exists from the first call on.
        Moment(super::nanos(now.duration_since(*ORIGIN.get_or_init(|| now))) + 1_000_000_000)
    }

    pub(super) fn coarse() -> Moment {
        now()
    }
}

#[cfg(any(test, loom, shuttle, feature = "testing"))]
mod hand {
    use super::Moment;
    use crate::sync::{AtomicU64, Mutex, Ordering};
    use std::fmt;
    use std::sync::{Arc, Weak};
    use std::time::Duration;

    /// Somebody who sleeps until this clock has moved.
    pub(crate) trait Ring: Send + Sync {
        fn ring(&self);
    }

    /// A clock that stands still until it is moved by hand.
    ///
    /// Give it to [`Builder::clock`](crate::Builder::clock): time-outs, lifetimes and idle times of that pool
    /// then pass only when [`advance`](HandClock::advance) is called.
    #[derive(Clone)]
    pub struct HandClock(Arc<Inner>);

    struct Inner {
        now: AtomicU64,
        sleepers: Mutex<Vec<Weak<dyn Ring>>>,
    }

    impl HandClock {
        /// A clock that shows an arbitrary time and stands still.
        #[must_use]
        pub fn new() -> Self {
            let start = 1_000_000_000_000_000;
            Self(Arc::new(Inner { now: AtomicU64::new(start), sleepers: Mutex::new(Vec::new()) }))
        }

        /// Moves the clock forward and lets everybody who waits on it look again.
        pub fn advance(&self, by: Duration) {
            // Sequentially consistent because it is a test's clock, read beside every other protocol.
            self.0.now.fetch_add(super::nanos(by), Ordering::SeqCst);
            let sleepers: Vec<_> = {
                let mut sleepers = self.0.sleepers.lock();
                sleepers.retain(|sleeper| sleeper.strong_count() > 0);
                sleepers.iter().filter_map(Weak::upgrade).collect()
            };
            for sleeper in sleepers {
                sleeper.ring();
            }
        }

        pub(super) fn now(&self) -> Moment {
            Moment(self.0.now.load(Ordering::SeqCst))
        }

        pub(crate) fn enrol(&self, sleeper: Weak<dyn Ring>) {
            self.0.sleepers.lock().push(sleeper);
        }
    }

    impl Default for HandClock {
        fn default() -> Self {
            Self::new()
        }
    }

    impl fmt::Debug for HandClock {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("HandClock").field(&self.now()).finish()
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_largest_duration_is_a_deadline_that_never_comes() {
        let now = Clock::System.now();
        assert_eq!(now.after(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::ZERO.before(Duration::MAX), Moment::ZERO);
    }

    #[test]
    fn what_lies_ahead_is_now_and_not_52_days_ago() {
        assert_eq!(ticks_between(100, 130), 30);
        assert_eq!(ticks_between(u32::MAX - 4, 5), 10, "it wraps around");
        assert_eq!(ticks_between(130, 100), 0);
        assert_eq!(ticks_between(0, u32::MAX / 2 + 7), u32::MAX / 2 + 7, "a month is a month");
    }

    #[test]
    fn the_coarse_clock_never_runs_ahead_of_the_exact_one() {
        for _ in 0..1_000 {
            let coarse = Clock::System.coarse();
            assert!(coarse <= Clock::System.now());
        }
    }

    #[test]
    fn a_clock_moved_by_hand_shows_exactly_what_it_was_moved_by() {
        let hand = HandClock::new();
        let clock = Clock::Hand(hand.clone());
        let before = clock.now();
        hand.advance(Duration::from_secs(3));
        assert_eq!(clock.now().since(before), Duration::from_secs(3));
        assert_eq!(clock.coarse(), clock.now());
    }
}
