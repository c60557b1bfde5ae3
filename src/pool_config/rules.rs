//! The rules by which settings are called unwise, as `docs/configuration.md` shows them.

use super::adaptive_rules::ADAPTIVE_RULES;
use crate::adaptive::Adaptive;
use crate::config::Settings;
use crate::{Fairness, Maintenance, Nested, RetryPolicy, Validation, WarmUp};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What the rules look at.
pub(super) struct Seen<'a> {
    pub(super) settings: &'a Settings,
    pub(super) start_up: &'a RetryPolicy,
    pub(super) warm_up: Option<&'a WarmUp>,
    /// Whether a check finds anything out.
    pub(super) checked: bool,
    /// The defaults: where a rule is about something that has no effect, it is about something that was set.
    pub(super) usual: &'a Settings,
}

impl Seen<'_> {
    /// Whether idle connections are checked at all.
    fn checks(&self) -> bool {
        self.checked && self.settings.validation != Validation::Never
    }

    /// The range and its rule. One that lacks an end cannot be, which is told elsewhere.
    pub(super) fn adaptive(&self) -> Option<&Adaptive> {
        self.settings.adaptive.as_ref().filter(|adaptive| adaptive.gap().is_none())
    }

    /// The most connections that there will ever be, and the setting that says so.
    fn most(&self) -> (&'static str, u32) {
        let ceiling = self.adaptive().map(|adaptive| ("adaptive.ceiling", adaptive.ceiling()));
        ceiling.unwrap_or(("max_size", self.settings.max_size))
    }

    /// Whether fewer are kept than there may be.
    fn breathes(&self) -> bool {
        self.settings.min_idle < self.most().1
    }

    fn lifetime(&self) -> Duration {
        self.settings.max_lifetime.unwrap_or(Duration::MAX)
    }

    fn policies(&self) -> [(&'static str, &RetryPolicy); 2] {
        [("retry", &self.settings.retry), ("start_up", self.start_up)]
    }

    /// The first of both policies that is so, in words.
    fn policy(&self, is: impl Fn(&RetryPolicy) -> bool, words: impl Fn(&RetryPolicy) -> String) -> Option<String> {
        let (name, policy) = self.policies().into_iter().find(|(_, policy)| is(policy))?;
        Some(format!("{name}.{}", words(policy)))
    }
}

pub(super) struct Rule {
    pub(super) code: &'static str,
    pub(super) fields: &'static [&'static str],
    pub(super) when: &'static str,
    pub(super) why: &'static str,
    pub(super) instead: &'static str,
    pub(super) source: &'static str,
    /// What was found, in words.
    pub(super) meets: fn(&Seen<'_>) -> Option<String>,
}

const HIKARI: &str = "HikariCP, which corrects it";

/// All of them.
pub(super) fn rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain(&ADAPTIVE_RULES)
}

/// Those of HikariCP (`HikariConfig.validateNumerics`) keep its figures.
const RULES: [Rule; 32] = [
    Rule {
        code: "lifetime-short",
        fields: &["max_lifetime"],
        when: "`max_lifetime` < 30 s",
        why: "connections are opened all the time, which costs the server more than keeping them",
        instead: "set minutes, some below the shortest limit of the server or a proxy",
        source: HIKARI,
        meets: |seen| found(seen.lifetime() < 30 * SECOND, || format!("max_lifetime is {}", time(seen.lifetime()))),
    },
    Rule {
        code: "lifetime-none",
        fields: &["max_lifetime"],
        when: "`max_lifetime` is none, over a network",
        why: "load never moves to a server that is new or back, and what grows in a session grows for ever",
        instead: "leave the default of 30 min",
        source: "HikariCP's README, on maxLifetime",
        meets: |seen| found(seen.checked && seen.settings.max_lifetime.is_none(), || "max_lifetime is none".to_owned()),
    },
    Rule {
        code: "lifetime-long",
        fields: &["max_lifetime"],
        when: "`max_lifetime` > 1 day, over a network",
        why: "that is as good as none, and perhaps a slip: in durations `M` is a month and `m` a minute",
        instead: "set minutes or hours",
        source: "millpond",
        meets: |seen| {
            let lifetime =
                seen.settings.max_lifetime.filter(|&lifetime| lifetime > 24 * 60 * MINUTE && seen.checked)?;
            Some(format!("max_lifetime is {}", time(lifetime)))
        },
    },
    Rule {
        code: "keepalive-often",
        fields: &["keepalive"],
        when: "`keepalive` < 30 s",
        why: "idle connections keep the server and the helper threads busy",
        instead: "set half of the shortest idle time-out on the way, and 30 s or more",
        source: HIKARI,
        meets: |seen| {
            let every = seen.settings.keepalive.filter(|&every| every < 30 * SECOND && seen.checks())?;
            Some(format!("keepalive is {}", time(every)))
        },
    },
    Rule {
        code: "keepalive-after-lifetime",
        fields: &["keepalive", "max_lifetime"],
        when: "`keepalive` ≥ `max_lifetime`",
        why: "connections are replaced before they are checked",
        instead: "set less than the lifetime",
        source: HIKARI,
        meets: |seen| {
            let every = seen.settings.keepalive.filter(|&every| every >= seen.lifetime())?;
            found(seen.settings.keepalive != seen.usual.keepalive, || {
                format!("keepalive is {} and max_lifetime is {}", time(every), time(seen.lifetime()))
            })
        },
    },
    Rule {
        code: "keepalive-late",
        fields: &["keepalive"],
        when: "`keepalive` > 4 min",
        why: "load balancers and firewalls drop silent connections before, and tell nobody",
        instead: "set 2 min",
        source: "idle time-outs: Azure's load balancer 4 min, AWS's network balancer and NAT gateway 350 s",
        meets: |seen| {
            let every = seen.settings.keepalive.filter(|&every| every > 4 * MINUTE && seen.checks())?;
            Some(format!("keepalive is {}", time(every)))
        },
    },
    Rule {
        code: "keepalive-off",
        fields: &["keepalive", "min_idle"],
        when: "`keepalive` is none and `min_idle` > 0, over a network",
        why: "connections that are kept for quiet times are dropped in quiet times by whatever counts silence",
        instead: "set 2 min, or a min_idle of 0",
        source: "as keepalive-late",
        meets: |seen| {
            let min = seen.settings.min_idle;
            let off = seen.settings.keepalive.is_none() && min > 0 && seen.checked;
            found(off, || format!("keepalive is none and min_idle is {min}"))
        },
    },
    Rule {
        code: "keepalive-without-checks",
        fields: &["keepalive", "validation"],
        when: "`keepalive` is set and `validation` is never",
        why: "never means that nothing is checked, in the background neither",
        instead: "leave keepalive out, or set a long idle time as validation",
        source: "millpond",
        meets: |seen| {
            let every = seen.settings.keepalive.filter(|_| seen.settings.keepalive != seen.usual.keepalive)?;
            let never = seen.settings.validation == Validation::Never;
            found(never, || format!("keepalive is {} and validation is never", time(every)))
        },
    },
    Rule {
        code: "idle-timeout-short",
        fields: &["idle_timeout"],
        when: "`idle_timeout` < 10 s, and `min_idle` < `max_size`",
        why: "a pause between two bursts closes what the second one has to open again",
        instead: "set minutes",
        source: HIKARI,
        meets: |seen| {
            let after = seen.settings.idle_timeout.filter(|&after| after < 10 * SECOND && seen.breathes())?;
            Some(format!("idle_timeout is {}", time(after)))
        },
    },
    Rule {
        code: "idle-timeout-after-lifetime",
        fields: &["idle_timeout", "max_lifetime"],
        when: "`idle_timeout` + 1 s > `max_lifetime`, and `min_idle` < `max_size`",
        why: "connections are replaced for their age before they have been idle for so long",
        instead: "set less than the lifetime",
        source: HIKARI,
        meets: |seen| {
            let after = seen.settings.idle_timeout.filter(|_| seen.settings.idle_timeout != seen.usual.idle_timeout)?;
            found(after.saturating_add(SECOND) > seen.lifetime() && seen.breathes(), || {
                format!("idle_timeout is {} and max_lifetime is {}", time(after), time(seen.lifetime()))
            })
        },
    },
    Rule {
        code: "idle-timeout-without-effect",
        fields: &["idle_timeout", "min_idle", "max_size"],
        when: "`idle_timeout` is set, and `min_idle` = `max_size`",
        why: "all connections are kept",
        instead: "leave it out, or set a smaller min_idle",
        source: "HikariCP, which warns",
        meets: |seen| {
            let after = seen.settings.idle_timeout.filter(|_| seen.settings.idle_timeout != seen.usual.idle_timeout)?;
            let (limit, size) = seen.most();
            found(!seen.breathes(), || format!("idle_timeout is {}, and min_idle and {limit} are {size}", time(after)))
        },
    },
    Rule {
        code: "leak-threshold-short",
        fields: &["leak_threshold"],
        when: "`leak_threshold` < 2 s",
        why: "ordinary work is reported as a leak, until nobody reads the reports",
        instead: "set several times what the longest job takes",
        source: HIKARI,
        meets: |seen| {
            let after = seen.settings.leak_threshold.filter(|&after| after < 2 * SECOND)?;
            Some(format!("leak_threshold is {}", time(after)))
        },
    },
    Rule {
        code: "leak-threshold-after-lifetime",
        fields: &["leak_threshold", "max_lifetime"],
        when: "`leak_threshold` > `max_lifetime`",
        why: "who holds a connection for longer than it is to live keeps it from being replaced, and is reported only after that",
        instead: "set less than the lifetime",
        source: HIKARI,
        meets: |seen| {
            let after = seen.settings.leak_threshold.filter(|&after| after > seen.lifetime())?;
            Some(format!("leak_threshold is {} and max_lifetime is {}", time(after), time(seen.lifetime())))
        },
    },
    Rule {
        code: "connection-timeout-short",
        fields: &["connection_timeout"],
        when: "`connection_timeout` < 250 ms",
        why: "one lost packet on the way to a server costs as much (TCP sends again after 200 ms or more), and becomes an error",
        instead: "set 1 s or more, and use get_timeout or try_get where somebody cannot wait",
        source: HIKARI,
        meets: |seen| {
            let timeout = seen.settings.connection_timeout;
            found(timeout < Duration::from_millis(250), || format!("connection_timeout is {}", time(timeout)))
        },
    },
    Rule {
        code: "connection-timeout-long",
        fields: &["connection_timeout"],
        when: "`connection_timeout` > 30 s",
        why: "whoever has asked is gone before the answer, and threads pile up that work for nobody",
        instead: "set less than those wait who call the program",
        source: "routers and servers give up after 30 s (Heroku's router, gunicorn's workers)",
        meets: |seen| {
            let timeout = seen.settings.connection_timeout;
            found(timeout > 30 * SECOND, || format!("connection_timeout is {}", time(timeout)))
        },
    },
    Rule {
        code: "validation-always",
        fields: &["validation"],
        when: "`validation` is always, or after less than 10 ms, over a network",
        why: "each checkout is a round trip more, and passes through a helper thread",
        instead: "leave the default, which checks what has been idle for 500 ms",
        source: "HikariCP's aliveBypassWindowMs; measured in docs/benchmarks.md",
        meets: |seen| match seen.settings.validation {
            Validation::Always => found(seen.checked, || "validation is always".to_owned()),
            Validation::IfIdleFor(after) if after < Duration::from_millis(10) => {
                found(seen.checked, || format!("validation is {}", time(after)))
            }
            _ => None,
        },
    },
    Rule {
        code: "validation-never",
        fields: &["validation"],
        when: "`validation` is never, over a network",
        why: "what the server or a firewall has cut is found by a query, and that of each caller in turn",
        instead: "set a long idle time instead, unless the connections cannot go away, as those to files",
        source: "millpond",
        meets: |seen| {
            let never = seen.settings.validation == Validation::Never && seen.checked;
            found(never, || "validation is never".to_owned())
        },
    },
    Rule {
        code: "max-size-large",
        fields: &["max_size", "adaptive.ceiling"],
        when: "`max_size` > 100, or `adaptive.ceiling` where there is one",
        why: "that is all a PostgreSQL has by default, for one process; and more connections than the server has cores for \
              make all of them slower",
        instead: "reckon with sizing::Workload and scaling::Fleet",
        source: "PostgreSQL's max_connections; HikariCP's \"About Pool Sizing\"",
        meets: |seen| {
            let (limit, most) = seen.most();
            found(most > 100, || format!("{limit} is {most}"))
        },
    },
    Rule {
        code: "all-kept-open",
        fields: &["min_idle", "max_size"],
        when: "`min_idle` = `max_size` > 10",
        why: "all are opened at the start and kept, and no other process can have them. (HikariCP recommends a fixed size, \
              which is right for one process with a server of its own)",
        instead: "set min_idle to what quiet hours need",
        source: "millpond",
        meets: |seen| {
            let (limit, size) = seen.most();
            found(!seen.breathes() && size > 10, || format!("min_idle and {limit} are {size}"))
        },
    },
    Rule {
        code: "connecting-storm",
        fields: &["max_connecting"],
        when: "`max_connecting` > 8",
        why: "a burst of callers becomes a storm of handshakes, each of which costs the server more than the query it is for",
        instead: "leave the default of 4; what is returned meanwhile serves the burst",
        source: "MongoDB's maxConnecting of 2 and its reasons",
        meets: |seen| {
            let connecting = seen.settings.max_connecting;
            found(connecting > 8, || format!("max_connecting is {connecting}"))
        },
    },
    Rule {
        code: "nobody-may-wait",
        fields: &["max_waiting"],
        when: "`max_waiting` is 0",
        why: "who finds nothing idle is turned away, so that nothing is opened for anybody either",
        instead: "use try_get where nobody is to wait, and leave max_waiting out or set it to the number of threads",
        source: "millpond",
        meets: |seen| found(seen.settings.max_waiting == Some(0), || "max_waiting is 0".to_owned()),
    },
    Rule {
        code: "fairness-strict",
        fields: &["fairness"],
        when: "`fairness` is strict",
        why: "each hand-over is a thread switch, which costs most of the throughput where connections are held for less than \
              100 µs",
        instead: "leave the default, which is a queue as soon as somebody has waited for 1 ms",
        source: "measured in docs/benchmarks.md",
        meets: |seen| found(seen.settings.fairness == Fairness::Strict, || "fairness is strict".to_owned()),
    },
    Rule {
        code: "fairness-too-late",
        fields: &["fairness", "connection_timeout"],
        when: "`fairness` ≥ `connection_timeout`",
        why: "who waits has timed out before it would be served first",
        instead: "set milliseconds",
        source: "millpond",
        meets: |seen| {
            let Fairness::Bounded(patience) = seen.settings.fairness else { return None };
            let timeout = seen.settings.connection_timeout;
            let words = || format!("fairness is {} and connection_timeout is {}", time(patience), time(timeout));
            found(patience >= timeout, words)
        },
    },
    Rule {
        code: "uses-few",
        fields: &["max_uses"],
        when: "`max_uses` < 100",
        why: "opening connections becomes a good part of the work",
        instead: "set thousands, or let max_lifetime do it",
        source: "millpond",
        meets: |seen| {
            let uses = seen.settings.max_uses.filter(|&uses| uses < 100)?;
            Some(format!("max_uses is {uses}"))
        },
    },
    Rule {
        code: "nested-allowed",
        fields: &["nested"],
        when: "`nested` is allow",
        why: "threads that hold a connection while they wait for another one come to wait for each other, without a word",
        instead: "leave warn, and take with get_many what is needed together",
        source: "HikariCP's \"pool-locking\"",
        meets: |seen| found(seen.settings.nested == Nested::Allow, || "nested is allow".to_owned()),
    },
    Rule {
        code: "retry-in-step",
        fields: &["retry.jitter", "start_up.jitter"],
        when: "`jitter` < 0.1",
        why: "processes that have lost their server together come back together, again and again",
        instead: "leave the default of 0.5",
        source: "AWS Architecture Blog, \"Exponential Backoff And Jitter\"",
        meets: |seen| seen.policy(|policy| policy.jitter < 0.1, |policy| format!("jitter is {}", policy.jitter)),
    },
    Rule {
        code: "retry-hasty",
        fields: &["retry.max_delay", "start_up.max_delay"],
        when: "`max_delay` < 10 ms",
        why: "a server that is starting is kept busy with refusing",
        instead: "leave the default, which follows the length of the outage",
        source: "millpond",
        meets: |seen| {
            let hasty = |policy: &RetryPolicy| policy.max_delay < Duration::from_millis(10);
            seen.policy(hasty, |policy| format!("max_delay is {}", time(policy.max_delay)))
        },
    },
    Rule {
        code: "retry-slow",
        fields: &["retry.max_delay", "connection_timeout"],
        when: "`retry.max_delay` is set, and > `connection_timeout`",
        why: "callers time out, or with fail_fast are turned away, for as long although the server is back",
        instead: "set a fraction of the time-out",
        source: "millpond",
        meets: |seen| {
            let (delay, timeout) = (seen.settings.retry.max_delay, seen.settings.connection_timeout);
            let set = delay != seen.usual.retry.max_delay;
            let words = || format!("retry.max_delay is {} and connection_timeout is {}", time(delay), time(timeout));
            found(set && delay > timeout, words)
        },
    },
    Rule {
        code: "retry-ends-early",
        fields: &["retry.give_up", "start_up.give_up"],
        when: "`give_up` < `max_delay`",
        why: "it gives up before the pauses have grown to their length, and the next caller waits for the handshake",
        instead: "set ten times the longest pause, or none",
        source: "millpond",
        meets: |seen| {
            let early = |policy: &RetryPolicy| policy.give_up.is_some_and(|after| after < policy.max_delay);
            let words = |policy: &RetryPolicy| format!("give_up is {}", time(policy.give_up.unwrap_or(Duration::MAX)));
            seen.policy(early, words)
        },
    },
    Rule {
        code: "manual-without-upkeep",
        fields: &["maintenance", "min_idle", "keepalive", "adaptive.every"],
        when: "`maintenance` is manual, and `min_idle` > 0 or `keepalive` or `adaptive` is set",
        why: "nothing is refilled, checked or resized in the background except while the program calls Pool::maintain",
        instead: "call it as often as that asks for, or leave these out",
        source: "millpond",
        meets: |seen| {
            let min = seen.settings.min_idle;
            let keepalive = seen.settings.keepalive.filter(|_| seen.settings.keepalive != seen.usual.keepalive);
            let what = match keepalive {
                _ if min > 0 => format!("min_idle is {min}"),
                Some(every) => format!("keepalive is {}", time(every)),
                None => format!("adaptive.every is {}", time(seen.adaptive()?.every)),
            };
            let manual = seen.settings.maintenance == Maintenance::Manual;
            found(manual, || format!("maintenance is manual and {what}"))
        },
    },
    Rule {
        code: "warm-up-out-of-time",
        fields: &["warm_up.within", "warm_up.pause", "warm_up.batch", "warm_up.connections"],
        when: "the pauses of a blocking `warm_up` take longer than `within`",
        why: "it cannot be ready in time",
        instead: "set a longer within, larger batches or shorter pauses",
        source: "millpond",
        meets: |seen| {
            let plan = seen.warm_up.filter(|plan| plan.waits)?;
            let batch = plan.batch.unwrap_or(u32::MAX).min(seen.settings.max_connecting).max(1);
            let pauses = plan.pause.saturating_mul(plan.wanted.div_ceil(batch).saturating_sub(1));
            let within = plan.within.unwrap_or(seen.settings.connection_timeout);
            found(pauses > within, || {
                format!("warm_up.within is {} and the pauses between its batches take {}", time(within), time(pauses))
            })
        },
    },
    Rule {
        code: "warm-up-batch-large",
        fields: &["warm_up.batch", "max_connecting"],
        when: "`warm_up.batch` > `max_connecting`",
        why: "no more than max_connecting are opened side by side, and after so many comes the pause",
        instead: "set both",
        source: "millpond",
        meets: |seen| {
            let batch = seen.warm_up?.batch?;
            let most = seen.settings.max_connecting;
            found(batch > most, || format!("warm_up.batch is {batch} and max_connecting is {most}"))
        },
    },
];

pub(super) fn found(unwise: bool, words: impl FnOnce() -> String) -> Option<String> {
    unwise.then(words)
}

pub(super) fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::pool_config::PoolConfig;

    #[test]
    fn the_documentation_shows_the_rules_as_they_are() {
        let mut table = "| lint | when | because | instead | source |\n|---|---|---|---|---|\n".to_owned();
        for Rule { code, when, why, instead, source, .. } in rules() {
            table.push_str(&format!("| `{code}` | {when} | {why} | {instead} | {source} |\n"));
        }
        let page = include_str!("../../docs/configuration.md");
        assert!(page.contains(&table), "docs/configuration.md is to have\n\n{table}");
    }

    #[test]
    fn each_rule_has_a_name_of_its_own_and_is_about_settings() {
        let mut config = PoolConfig::default();
        let names: Vec<_> = config.slots().into_iter().map(|(name, _)| name).collect();
        for (index, rule) in rules().enumerate() {
            assert!(rules().skip(index + 1).all(|other| other.code != rule.code), "{}", rule.code);
            assert!(!rule.fields.is_empty() && rule.fields.iter().all(|field| names.contains(field)), "{}", rule.code);
        }
    }
}
