//! The figures to reach: what was promised, beside what was measured in this run.

use std::collections::BTreeMap;

use crate::table::{Table, number};

#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    WithOneThread,
    GetOneThread,
    WithTwoThreads,
    GetTwoThreads,
    WithScaling,
    GetScaling,
    InstructionsGet,
    InstructionsWith,
    Allocations,
    FlatIdle,
    FlatBusy,
    MilliTail,
    MilliTailAsked,
    MilliWorst,
    MilliServed,
    MilliTimeouts,
    MilliThroughput,
    HundredThroughput,
    HundredTail,
    NoHoldThroughput,
    CrowdWorst,
    SqliteOne,
    SqliteEight,
    WriterBusy,
    WriterRateEight,
    WriterTailEight,
    WriterWorstEight,
    WriterRateMany,
    WriterTailMany,
    WriterWorstMany,
    RedisOne,
    RedisEight,
    FixedMemory,
    ConnectionMemory,
    HangingConnect,
    HangingConnectWorst,
    HangingCheck,
    HangingCheckWorst,
    ThousandLate,
    TenThousandLate,
    HandOver,
}

use Bound::{AtLeast, AtMost};
use Figure as F;

const PROMISED: [(Figure, &str, Bound); 41] = [
    (F::WithOneThread, "`with`, one thread, over r2d2", AtLeast(7.0)),
    (F::GetOneThread, "`get` + drop, one thread, over r2d2", AtLeast(6.0)),
    (F::WithTwoThreads, "`with`, two threads, over r2d2", AtLeast(15.0)),
    (F::GetTwoThreads, "`get` + drop, two threads, over r2d2", AtLeast(12.0)),
    (F::WithScaling, "`with`, two threads over own one", AtLeast(1.8)),
    (F::GetScaling, "`get` + drop, two threads over own one", AtLeast(1.8)),
    (F::InstructionsGet, "instructions of `get` + drop, over r2d2's", AtMost(0.25)),
    (F::InstructionsWith, "instructions of `with`, over r2d2's", AtMost(0.25)),
    (F::Allocations, "allocations per checkout", AtMost(0.0)),
    (F::FlatIdle, "dearest over cheapest size 1 to 1024, all idle", AtMost(1.3)),
    (F::FlatBusy, "the same, all but one borrowed", AtMost(1.3)),
    (F::MilliTail, "64 on 8, 1 ms held: p99 over ideal", AtMost(1.2)),
    (F::MilliTailAsked, "the same, as if no sleep took longer than 1 ms", AtMost(1.2)),
    (F::MilliWorst, "64 on 8, 1 ms held: worst over ideal", AtMost(3.0)),
    (F::MilliServed, "64 on 8, 1 ms held: most over least served", AtMost(1.1)),
    (F::MilliTimeouts, "64 on 8, 1 ms held: % of 50 ms time-outs that fail", AtMost(0.0)),
    (F::MilliThroughput, "64 on 8, 1 ms held: throughput over r2d2", AtLeast(0.98)),
    (F::HundredThroughput, "64 on 8, 100 µs held: throughput over r2d2", AtLeast(0.95)),
    (F::HundredTail, "64 on 8, 100 µs held: p99 over r2d2", AtMost(0.125)),
    (F::NoHoldThroughput, "64 on 8, not held: throughput over r2d2", AtLeast(4.0)),
    (F::CrowdWorst, "200 on 8, 1 ms held: worst over ideal", AtMost(3.0)),
    (F::SqliteOne, "SQLite point reads, 1 thread, over raw", AtLeast(0.97)),
    (F::SqliteEight, "SQLite point reads, 8 threads, over raw", AtLeast(0.97)),
    (F::WriterBusy, "SQLite, writing and reading: SQLITE_BUSY that reached a caller", AtMost(0.0)),
    (F::WriterRateEight, "8 threads write and read, 1 ms between: throughput over r2d2_sqlite", AtLeast(1.0)),
    (F::WriterTailEight, "the same: p99 of a write over r2d2_sqlite's", AtMost(0.2)),
    (F::WriterWorstEight, "the same: worst write over r2d2_sqlite's", AtMost(0.2)),
    (F::WriterRateMany, "32 threads write and read, 1 ms between: throughput over r2d2_sqlite", AtLeast(1.0)),
    (F::WriterTailMany, "the same: p99 of a write over r2d2_sqlite's", AtMost(0.2)),
    (F::WriterWorstMany, "the same: worst write over r2d2_sqlite's", AtMost(0.2)),
    (F::RedisOne, "Redis GETs, 1 thread, over raw", AtLeast(0.98)),
    (F::RedisEight, "Redis GETs, 8 threads, over raw", AtLeast(0.98)),
    (F::FixedMemory, "bytes of an idle pool of maximum 8", AtMost(4096.0)),
    (F::ConnectionMemory, "bytes per connection", AtMost(256.0)),
    (F::HangingConnect, "a connect that hangs, 100 ms asked: p50 in ms", AtMost(101.0)),
    (F::HangingConnectWorst, "the same: worst", AtMost(115.0)),
    (F::HangingCheck, "a check that hangs, 100 ms asked: p50 in ms", AtMost(101.0)),
    (F::HangingCheckWorst, "the same: worst", AtMost(115.0)),
    (F::ThousandLate, "1 000 give up after 2 s: p99 of being late in ms", AtMost(10.0)),
    (F::TenThousandLate, "10 000 give up after 2 s: the same", AtMost(10.0)),
    (F::HandOver, "1 000 wait for 8: all served, in ms", AtMost(20.0)),
];

/// What the sections found.
#[derive(Debug, Default)]
pub struct Found(BTreeMap<Figure, f64>);

impl Found {
    pub fn record(&mut self, figure: Figure, measured: f64) {
        self.0.insert(figure, measured);
    }

    /// Of a part of the sections only what they measured; without verdicts when the numbers mean nothing.
    pub fn table(&self, whole: bool, judged: bool) -> Table {
        let mut table = Table::new(["figure", "to reach", "measured", "met"]);
        for (figure, what, bound) in PROMISED {
            let measured = self.0.get(&figure).copied().filter(|value| !value.is_nan());
            if measured.is_none() && !whole {
                continue;
            }
            let (to_reach, met) = match bound {
                AtLeast(least) => (format!("≥ {}", number(least)), measured.map(|value| value >= least)),
                AtMost(most) => (format!("≤ {}", number(most)), measured.map(|value| value <= most)),
            };
            let met = match met.filter(|_| judged) {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "–",
            };
            let measured = measured.map_or_else(|| "not measured".to_owned(), number);
            table.row([what.to_owned(), to_reach, measured, met.to_owned()]);
        }
        table
    }

    /// How many figures were measured, and how many of those were met.
    pub fn tally(&self) -> (usize, usize) {
        let verdicts = PROMISED.iter().filter_map(|(figure, _, bound)| {
            let value = *self.0.get(figure)?;
            Some(match bound {
                AtLeast(least) => value >= *least,
                AtMost(most) => value <= *most,
            })
        });
        verdicts.fold((0, 0), |(measured, met), yes| (measured + 1, met + usize::from(yes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_on_its_bound_is_met_and_one_beyond_is_not() {
        let mut found = Found::default();
        found.record(Figure::Allocations, 0.0);
        found.record(Figure::GetScaling, 1.8);
        found.record(Figure::FlatIdle, 1.31);
        assert_eq!(found.tally(), (3, 2));
        assert!(found.table(true, true).to_string().contains("not measured"));
    }
}
