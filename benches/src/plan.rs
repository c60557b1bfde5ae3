//! How long everything takes.

use std::time::Duration;

/// Rounds are short and many, because the machine changes under a benchmark: the distance between two cores, the clock
/// rate, the neighbours. Whatever changes from round to round cancels in ratios taken within a round.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub quick: bool,
}

impl Plan {
    pub fn rounds(self, full: usize) -> usize {
        if self.quick { 1 } else { full }
    }

    pub fn span(self, full: Duration) -> Duration {
        if self.quick { full.min(Duration::from_millis(8)) } else { full }
    }

    pub fn times(self, full: u64) -> u64 {
        if self.quick { full.min(1_000) } else { full }
    }
}
