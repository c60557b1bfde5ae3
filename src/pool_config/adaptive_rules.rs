//! The rules about a size that follows the load.

use super::rules::{Rule, found, time};
use std::time::Duration;

/// In all of them nothing is found where the size is fixed.
pub(super) const ADAPTIVE_RULES: [Rule; 6] = [
    Rule {
        code: "adaptive-fixed",
        fields: &["adaptive.floor", "adaptive.ceiling"],
        when: "`adaptive.floor` = `adaptive.ceiling`",
        why: "there is no other size to go to, and the keeper looks for one all the same",
        instead: "set max_size and leave adaptive out, or set a range",
        source: "millpond",
        meets: |seen| {
            let adaptive = seen.adaptive()?;
            let (floor, ceiling) = (adaptive.floor(), adaptive.ceiling());
            found(floor == ceiling, || format!("adaptive.floor and adaptive.ceiling are {floor}"))
        },
    },
    Rule {
        code: "adaptive-start-moved",
        fields: &["max_size", "adaptive.floor", "adaptive.ceiling"],
        when: "`max_size` is set, and outside of `adaptive.floor` to `adaptive.ceiling`",
        why: "an adaptive pool starts with max_size, but never outside of its range: it is moved to the nearer end",
        instead: "leave max_size out, or set one within the range",
        source: "millpond",
        meets: |seen| {
            let adaptive = seen.adaptive()?;
            let (floor, ceiling, max) = (adaptive.floor(), adaptive.ceiling(), seen.settings.max_size);
            let moved = max != seen.usual.max_size && adaptive.nearest(max) != max;
            found(moved, || format!("max_size is {max}, adaptive.floor is {floor} and adaptive.ceiling is {ceiling}"))
        },
    },
    Rule {
        code: "adaptive-often",
        fields: &["adaptive.every"],
        when: "`adaptive.every` < 100 ms",
        why: "a queue so short-lived is gone before a new connection is open, and each interval looks over the whole pool",
        instead: "leave the default of 1 s",
        source: "millpond",
        meets: |seen| {
            let every = seen.adaptive()?.every;
            found(every < Duration::from_millis(100), || format!("adaptive.every is {}", time(every)))
        },
    },
    Rule {
        code: "adaptive-seldom",
        fields: &["adaptive.every", "connection_timeout"],
        when: "`adaptive.every` ≥ `connection_timeout`",
        why: "whoever waits for the pool to grow has timed out before it decides",
        instead: "set a fifth of the time-out or less",
        source: "millpond",
        meets: |seen| {
            let (every, timeout) = (seen.adaptive()?.every, seen.settings.connection_timeout);
            let words = || format!("adaptive.every is {} and connection_timeout is {}", time(every), time(timeout));
            found(every >= timeout, words)
        },
    },
    Rule {
        code: "adaptive-target-too-long",
        fields: &["adaptive.target_wait", "connection_timeout"],
        when: "`adaptive.target_wait` ≥ `connection_timeout`",
        why: "callers time out before they count as late, so the pool does not grow",
        instead: "set a small part of the time-out",
        source: "millpond",
        meets: |seen| {
            let (target, timeout) = (seen.adaptive()?.target_wait, seen.settings.connection_timeout);
            let words =
                || format!("adaptive.target_wait is {} and connection_timeout is {}", time(target), time(timeout));
            found(target >= timeout, words)
        },
    },
    Rule {
        code: "adaptive-hasty",
        fields: &["adaptive.patience", "adaptive.every"],
        when: "`adaptive.patience` < `adaptive.every`",
        why: "one quiet interval closes what the next busy one has to open again",
        instead: "set a hundred times the interval",
        source: "Kubernetes' horizontal autoscaler, which looks back over 5 min before it shrinks",
        meets: |seen| {
            let adaptive = seen.adaptive()?;
            let (patience, every) = (adaptive.patience, adaptive.every);
            let words = || format!("adaptive.patience is {} and adaptive.every is {}", time(patience), time(every));
            found(patience < every, words)
        },
    },
];
