//! What is to be said of a pool with these numbers.

use super::{Health, HealthLevel, Warning, WarningKind};
use crate::redact::redact;
use crate::stats::SILENCE;
use crate::{Breaker, Outage, Stats};

/// Of how many in a hundred in use a pool is said to be nearly full, when it is more.
const NEARLY_FULL_PERCENT: u64 = 80;

pub(crate) fn judge(pool: &str, stats: &Stats, outage: Option<Outage>) -> Health {
    let warnings = warnings(stats, outage.as_ref());
    let share = if stats.max_size == 0 { 0.0 } else { f64::from(stats.in_use) / f64::from(stats.max_size) };
    Health {
        pool: redact(pool).into_owned(),
        level: warnings.first().map_or(HealthLevel::Ok, |worst| worst.level),
        paused: stats.paused,
        closed: stats.closed_for_good,
        breaker: stats.breaker,
        max_size: stats.max_size,
        size: stats.size,
        in_use: stats.in_use,
        idle: stats.idle,
        connecting: stats.connecting,
        checking: stats.checking,
        waiting: stats.waiting,
        // More may be in use than the maximum that it was lowered to meanwhile.
        utilisation: share.min(1.0),
        outage,
        warnings,
    }
}

/// The worst first.
fn warnings(stats: &Stats, outage: Option<&Outage>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |kind, level, reason| warnings.push(Warning { kind, level, reason });
    if stats.closed_for_good {
        let reason = match stats.in_use {
            0 => "the pool is closed".to_owned(),
            n => format!("the pool is closed; {} still in use", counted(n, "connection is", "connections are")),
        };
        warn(WarningKind::Closed, HealthLevel::Critical, reason);
        return warnings;
    }
    if stats.breaker != Breaker::Closed {
        warn(WarningKind::ServerAway, HealthLevel::Critical, away(stats, outage));
    } else if stats.unanswered >= SILENCE {
        // As long as connections are lent, and nobody waits, it may be one of them alone that meets nobody.
        let served = stats.idle > 0 || stats.in_use > 0 && stats.waiting == 0;
        let level = if served { HealthLevel::Warning } else { HealthLevel::Critical };
        let (silent, waiting) = (stats.unanswered.as_secs_f64(), waiting(stats.waiting));
        let reason =
            format!("the server has not answered for {silent:.1} s to an attempt to connect, or a check; {waiting}");
        warn(WarningKind::ServerSilent, level, reason);
    }
    let (used, max) = (u64::from(stats.in_use), u64::from(stats.max_size));
    if used >= max && max > 0 {
        let level = if stats.waiting > 0 { HealthLevel::Critical } else { HealthLevel::Warning };
        let all = match stats.max_size {
            1 => "the only connection is in use".to_owned(),
            n => format!("all {n} connections are in use"),
        };
        warn(WarningKind::NoneLeft, level, format!("{all}; {}", waiting(stats.waiting)));
    } else if used * 100 > max * NEARLY_FULL_PERCENT {
        let percent = used * 100 / max.max(1);
        let reason = format!("{used} of {max} connections are in use ({percent} %)");
        warn(WarningKind::NearlyFull, HealthLevel::Warning, reason);
    }
    if stats.waiting > 0 && stats.idle == 0 && used < max && !stats.paused {
        let numbers = format!("{used} of {max} connections are in use, {} on their way", stats.connecting);
        let waiting = waiting(stats.waiting);
        if let Some(limit) = stats.budget_used_up {
            let reason = format!("the budget of {limit} connections that it shares is used up; {numbers}; {waiting}");
            warn(WarningKind::BudgetUsedUp, HealthLevel::Critical, reason);
        } else if stats.breaker == Breaker::Closed && stats.unanswered < SILENCE {
            warn(WarningKind::CallersWait, HealthLevel::Warning, format!("nothing is idle; {numbers}; {waiting}"));
        }
    }
    if stats.paused {
        let reason = format!("the pool is paused; {}", waiting(stats.waiting));
        warn(WarningKind::Paused, HealthLevel::Warning, reason);
    }
    warnings.sort_by_key(|warning| std::cmp::Reverse(warning.level));
    warnings
}

fn away(stats: &Stats, outage: Option<&Outage>) -> String {
    let mut reason = "the server is away: connecting ".to_owned();
    match outage {
        Some(Outage { lasting, attempts, error }) => {
            let attempts = counted(*attempts, "attempt", "attempts");
            reason.push_str(&format!("has failed for {:.1} s ({attempts}): {error}", lasting.as_secs_f64()));
        }
        None => reason.push_str("fails"),
    }
    reason.push_str(&format!("; {}", waiting(stats.waiting)));
    reason
}

fn waiting(callers: u32) -> String {
    if callers == 0 { "nobody waits".to_owned() } else { counted(callers, "caller waits", "callers wait") }
}

fn counted(n: u32, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn stats(in_use: u32, max_size: u32, waiting: u32) -> Stats {
        Stats { max_size, in_use, size: in_use, waiting, ..Stats::default() }
    }

    fn kinds(stats: &Stats) -> Vec<(WarningKind, HealthLevel)> {
        Health::of("p", stats).warnings.iter().map(|warning| (warning.kind, warning.level)).collect()
    }

    #[test]
    fn eighty_percent_is_no_warning_and_more_is_one() {
        for (in_use, max) in [(0, 10), (8, 10), (4, 5), (3, 4), (80, 100), (0, 1), (0, 0)] {
            assert_eq!(kinds(&stats(in_use, max, 0)), [], "{in_use} of {max}");
        }
        for (in_use, max) in [(9, 10), (81, 100), (5, 6), (u32::MAX - 1, u32::MAX)] {
            assert_eq!(
                kinds(&stats(in_use, max, 0)),
                [(WarningKind::NearlyFull, HealthLevel::Warning)],
                "{in_use} of {max}"
            );
        }
        assert_eq!(Health::of("p", &stats(9, 10, 0)).warnings[0].reason, "9 of 10 connections are in use (90 %)");
    }

    #[test]
    fn none_left_is_critical_only_when_somebody_waits() {
        assert_eq!(kinds(&stats(10, 10, 0)), [(WarningKind::NoneLeft, HealthLevel::Warning)]);
        assert_eq!(kinds(&stats(10, 10, 7)), [(WarningKind::NoneLeft, HealthLevel::Critical)]);
        let health = Health::of("p", &stats(10, 10, 7));
        assert_eq!((health.level, health.utilisation), (HealthLevel::Critical, 1.0));
        assert_eq!(health.warnings[0].to_string(), "all 10 connections are in use; 7 callers wait");
        // The pool was made smaller while they were out.
        let health = Health::of("p", &stats(10, 3, 1));
        assert_eq!(
            (health.utilisation, health.warnings[0].reason.as_str()),
            (1.0, "all 3 connections are in use; 1 caller waits")
        );
    }

    #[test]
    fn who_waits_is_told_of_whatever_is_in_use() {
        let waiting = stats(2, 10, 8);
        assert_eq!(kinds(&waiting), [(WarningKind::CallersWait, HealthLevel::Warning)]);
        assert_eq!(
            Health::of("p", &waiting).warnings[0].reason,
            "nothing is idle; 2 of 10 connections are in use, 0 on their way; 8 callers wait"
        );
        let used_up = Stats { budget_used_up: Some(2), ..waiting.clone() };
        assert_eq!(kinds(&used_up), [(WarningKind::BudgetUsedUp, HealthLevel::Critical)]);
        assert!(Health::of("p", &used_up).warnings[0].reason.starts_with("the budget of 2 connections"));
        assert_eq!(kinds(&Stats { idle: 1, ..waiting.clone() }), [], "who is just being woken");
        assert_eq!(
            kinds(&Stats { paused: true, ..waiting.clone() }),
            [(WarningKind::Paused, HealthLevel::Warning)],
            "who waits for that is in its reason"
        );
        let silent = Stats { unanswered: SILENCE, connecting: 4, ..waiting };
        assert_eq!(kinds(&silent), [(WarningKind::ServerSilent, HealthLevel::Critical)]);
        assert_eq!(
            kinds(&Stats { idle: 1, waiting: 0, ..silent.clone() }),
            [(WarningKind::ServerSilent, HealthLevel::Warning)]
        );
        let nobody = Stats { waiting: 0, ..silent.clone() };
        assert_eq!(kinds(&nobody), [(WarningKind::ServerSilent, HealthLevel::Warning)], "some are in use");
        let none = Stats { in_use: 0, ..nobody };
        assert_eq!(kinds(&none), [(WarningKind::ServerSilent, HealthLevel::Critical)], "who comes next is not served");
        let almost = Stats { unanswered: SILENCE - Duration::from_millis(1), waiting: 0, ..silent };
        assert_eq!(kinds(&almost), []);
    }

    #[test]
    fn several_things_are_told_the_worst_first() {
        let away = Stats { breaker: Breaker::HalfOpen, paused: true, ..stats(1, 1, 0) };
        assert_eq!(
            kinds(&away),
            [
                (WarningKind::ServerAway, HealthLevel::Critical),
                (WarningKind::NoneLeft, HealthLevel::Warning),
                (WarningKind::Paused, HealthLevel::Warning)
            ]
        );
        let closed = Stats { closed_for_good: true, ..away };
        assert_eq!(kinds(&closed), [(WarningKind::Closed, HealthLevel::Critical)], "the rest does not matter any more");
        assert_eq!(Health::of("p", &closed).warnings[0].reason, "the pool is closed; 1 connection is still in use");
    }
}
