//! The size of a pool: no bound is exceeded, nothing useful is left out, and what cannot be is said.

use millpond::scaling::Fleet;
use millpond::sizing::{Bound, Size, Workload};
use millpond::{ErrorKind, Pool};
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
struct Asked {
    threads: u32,
    holding: f64,
    background: u32,
    reserve: u32,
    cores: Option<u32>,
    disks: u32,
    working: f64,
    /// Processes, limit, percent of a deployment, whether there is a PgBouncer.
    fleet: Option<(u32, u32, u32, bool)>,
}

impl Asked {
    fn workload(&self) -> Workload {
        let workload = Workload::threads(self.threads)
            .holding(self.holding)
            .background(self.background)
            .reserve(self.reserve)
            .disks(self.disks)
            .working(self.working);
        let workload = match self.cores {
            Some(cores) => workload.server_cores(cores),
            None => workload,
        };
        match self.fleet {
            Some((processes, limit, rolling, bouncer)) => {
                let fleet = Fleet::new(processes, limit).rolling(rolling);
                workload.fleet(if bouncer { fleet.pgbouncer(1) } else { fleet })
            }
            None => workload,
        }
    }
}

fn sensible() -> impl Strategy<Value = Asked> {
    (
        1..300_u32,
        0.001..=1.0_f64,
        0..20_u32,
        0..5_u32,
        prop::option::of(1..64_u32),
        0..8_u32,
        0.05..=1.0_f64,
        prop::option::of((1..40_u32, 10..2_000_u32, 0..=100_u32, any::<bool>())),
    )
        .prop_map(|(threads, holding, background, reserve, cores, disks, working, fleet)| Asked {
            threads,
            holding,
            background,
            reserve,
            cores,
            disks,
            working,
            fleet,
        })
}

/// The share of those who wait (Erlang C), as textbooks have it.
fn waits(load: f64, connections: u32) -> f64 {
    let n = f64::from(connections);
    if load >= n {
        return 1.0;
    }
    // Terms load^k / k!, from the first one on.
    let mut term = 1.0;
    let mut below = 0.0;
    for k in 0..connections {
        below += term;
        term *= load / f64::from(k + 1);
    }
    let all_busy = term * n / (n - load);
    all_busy / (below + all_busy)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bound_is_exceeded_and_one_of_them_is_reached(asked in sensible()) {
        let Ok(size) = asked.workload().size() else {
            prop_assert!(asked.fleet.is_some(), "{:?}", asked.workload().size());
            return Ok(());
        };
        let max = size.max_size();
        prop_assert!(max >= 1 && size.min_idle() <= max);
        let all = asked.threads + asked.background + asked.reserve;
        prop_assert!(max <= all);

        let bouncer = asked.fleet.is_some_and(|(.., bouncer)| bouncer);
        let pools = asked.fleet.map_or(1, |(processes, ..)| processes);
        if let (Some(cores), false) = (asked.cores, bouncer) {
            let at_once = f64::from(cores * 2 + asked.disks) / asked.working;
            let working = max.saturating_sub(asked.reserve).max(1);
            prop_assert!(working == 1 || f64::from(working * pools) <= at_once, "{size}");
            if size.decided_by() == Bound::Server {
                prop_assert!(f64::from((working + 1) * pools) > at_once, "there was room: {size}");
            }
        }
        if let (Some((_, limit, ..)), Some(plan)) = (asked.fleet, size.plan()) {
            prop_assert_eq!(plan.max_size(), max);
            if !bouncer {
                prop_assert!(plan.connections_at_most() <= u64::from(limit));
            }
        }
        if size.decided_by() == Bound::Threads {
            let load = f64::from(asked.threads) * asked.holding;
            let peak = max.checked_sub(asked.background + asked.reserve).expect("they are on top");
            prop_assert!(!bouncer || peak == asked.threads);
            prop_assert!(peak == asked.threads || waits(load, peak) <= 0.050_001, "{} of {load}: {size}", waits(load, peak));
            prop_assert!(bouncer || peak == 1 || waits(load, peak - 1) >= 0.049_999, "fewer would do: {size}");
        }
        prop_assert!(size.to_string().contains("max_size  "));
        Pool::builder(|| Ok::<_, std::io::Error>(())).max_size(max).min_idle(size.min_idle()).build_lazy()?;
    }

    #[test]
    fn more_work_never_asks_for_less(asked in sensible(), more in 1..50_u32, longer in 1.0..2.0_f64) {
        let size = |asked: &Asked| asked.workload().size().ok().map(|size| size.max_size());
        let first = size(&asked);
        let threads = Asked { threads: asked.threads + more, ..asked };
        let holding = Asked { holding: (asked.holding * longer).min(1.0), ..asked };
        let jobs = Asked { background: asked.background + more, ..asked };
        for busier in [threads, holding, jobs] {
            prop_assert!(size(&busier) >= first, "{busier:?}: {:?} < {first:?}", size(&busier));
        }
        let cores = Asked { cores: asked.cores.map(|cores| cores + more), ..asked };
        prop_assert!(size(&cores) >= first);
    }

    #[test]
    fn nothing_that_is_asked_makes_it_panic(
        (threads, background, reserve) in (any::<u32>(), any::<u32>(), any::<u32>()),
        (cores, disks) in (any::<u32>(), any::<u32>()),
        (holding, working, rate) in (any::<f64>(), any::<f64>(), any::<f64>()),
        held_for in (any::<u64>(), 0..1_000_000_000_u32),
        (processes, limit) in (any::<u32>(), any::<u32>()),
        measured in any::<bool>(),
    ) {
        let workload = Workload::threads(threads).background(background).reserve(reserve).server_cores(cores).disks(disks);
        let workload = match measured {
            true => workload.checkouts(rate, Duration::new(held_for.0, held_for.1)),
            false => workload.holding(holding).working(working),
        };
        for workload in [workload.clone(), workload.fleet(Fleet::new(processes, limit))] {
            match workload.size() {
                Ok(size) => drop((size.to_string(), size.advice())),
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Config),
            }
        }
    }
}

#[test]
fn what_measuring_makes_of_all_threads_is_all_threads() {
    let measured = |nanos| Workload::threads(1).checkouts(1_000.0, Duration::from_nanos(nanos)).size();
    for nanos in [1_000_100, 1_009_900] {
        let size = measured(nanos).expect("within 1 %");
        assert_eq!(size.max_size(), 1);
        assert!(size.to_string().contains("1.0"), "{size}");
    }
    assert!(measured(1_011_000).is_err());
    let error = Workload::threads(1).checkouts(f64::MAX, Duration::from_secs(1)).size().expect_err("too much");
    assert!(error.to_string().len() < 300, "{error}");
}

#[test]
fn the_largest_figures_are_reckoned_with_at_once() {
    let size = Workload::threads(u32::MAX).background(u32::MAX).reserve(u32::MAX).server_cores(u32::MAX).size();
    assert_eq!(size.expect("it can be").max_size(), 1 << 20);
}

#[test]
fn all_problems_are_told_at_once_each_with_field_and_value() {
    let error = Workload::threads(0)
        .holding(0.0)
        .working(f64::NAN)
        .checkouts(-1.0, Duration::from_secs(1))
        .server_cores(0)
        .fleet(Fleet::new(0, 0).min_idle_share(200))
        .size()
        .expect_err("nothing is right");
    assert_eq!(error.kind(), ErrorKind::Config);
    let error = error.to_string();
    for problem in [
        "threads is 0 and background is 0",
        "holding is 0, but",
        "working is NaN, but",
        "checkouts is -1 per second held for 1s and holding is given too",
        "but the rate must be a number of 0 or more",
        "server_cores is 0",
        "processes is 0",
        "server_limit is 0",
        "min_idle_share is 200 %",
    ] {
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
    let error = Workload::threads(4).checkouts(100.0, Duration::from_millis(50)).size().expect_err("5 by 4 threads");
    assert!(error.to_string().contains("which is 5.0 at once, but threads is 4"), "{error}");
    let error = Workload::threads(4).fleet(Fleet::new(60, 100)).size().expect_err("60 processes, twice");
    assert!(error.to_string().contains("run at most 45 processes"), "{error}");
}

#[test]
fn the_table_gives_the_reason_for_each_figure() {
    let size = |workload: &Workload| -> Size { workload.size().expect("it can be") };
    let workload = Workload::threads(32).holding(0.2).background(2).reserve(1).server_cores(8);
    assert_eq!(
        size(&workload).to_string(),
        "on average  6.4  32 threads, each holding one for 20 % of its time\n\
         at a peak    12  so that at most 5 % of the checkouts wait\n\
         background    2  jobs that hold one while they run\n\
         reserve       1  on top, for what is rare and must not wait\n\
         server       17  are worked on at once: 8 cores × 2 + 1 disk\n\
         max_size     15  what threads and jobs use decides\n\
         min_idle      4  kept open, for a burst to begin with\n"
    );

    let four = size(&workload.clone().fleet(Fleet::new(4, 100)));
    assert_eq!((four.max_size(), four.decided_by()), (5, Bound::Server));
    let table = four.to_string();
    for line in [
        "are worked on at once: 8 cores × 2 + 1 disk; over 4 pools",
        "what the server works on decides",
        "- threads and jobs would use 15, but more connections would queue in the server",
        "- 33.6 connections of all pools are held on average, and the server works on 17: at such times it cannot keep up",
    ] {
        assert!(table.contains(line), "{line} is not in\n{table}");
    }

    // Where nobody has said for how long connections are held, nobody knows.
    let unknown = size(&Workload::threads(32).server_cores(8));
    assert_eq!((unknown.max_size(), unknown.decided_by(), unknown.advice().len()), (17, Bound::Server, 1));

    let many = size(&workload.clone().working(0.1).fleet(Fleet::new(20, 100)));
    assert_eq!((many.max_size(), many.decided_by()), (2, Bound::Limit));
    let table = many.to_string();
    for line in [
        "for 10 % of the time that one is held; over 20 pools",
        "the limit of the server decides: 90 connections over 40 pools",
        "- 2 background jobs can hold all 2: give them a pool of their own",
        "- threads and jobs would use 15, and queue for 2",
        "rolling(25) gives a max_size of 3",
    ] {
        assert!(table.contains(line), "{line} is not in\n{table}");
    }

    let behind = size(&workload.fleet(Fleet::new(60, 100).pgbouncer(1)));
    assert_eq!((behind.max_size(), behind.decided_by()), (35, Bound::Threads), "one for each thread");
    assert!(behind.to_string().contains("a default_pool_size of 17 is enough"), "{behind}");
}
