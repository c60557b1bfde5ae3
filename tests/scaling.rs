//! The planner: whatever is asked, the sum stays below the limit, and what cannot be is said.

use millpond::scaling::{Fleet, Plan};
use millpond::{Error, ErrorKind};
use proptest::prelude::*;

/// A fleet and what it was made of.
#[derive(Clone, Debug)]
struct Asked {
    processes: u32,
    limit: u32,
    reserved: Option<u32>,
    pools: u32,
    threads: Option<u32>,
    rolling: u32,
    share: u32,
}

impl Asked {
    fn fleet(&self) -> Fleet {
        let fleet = Fleet::new(self.processes, self.limit)
            .pools_per_process(self.pools)
            .rolling(self.rolling)
            .min_idle_share(self.share);
        let fleet = match self.reserved {
            Some(reserved) => fleet.reserved(reserved),
            None => fleet,
        };
        match self.threads {
            Some(threads) => fleet.threads_per_process(threads),
            None => fleet,
        }
    }

    fn plan(&self) -> Result<Plan, Error> {
        self.fleet().plan()
    }

    fn pools_at_once(&self, processes: u32) -> u64 {
        let processes = u64::from(processes);
        (processes + (processes * u64::from(self.rolling)).div_ceil(100)) * u64::from(self.pools)
    }

    /// What is left for the pools.
    fn available(&self) -> u64 {
        let reserved = self.reserved.unwrap_or((self.limit / 10).max(3));
        u64::from(self.limit.saturating_sub(reserved))
    }
}

fn sensible() -> impl Strategy<Value = Asked> {
    (
        1..400_u32,
        1..2_000_u32,
        prop::option::of(0..300_u32),
        1..4_u32,
        prop::option::of(1..64_u32),
        0..200_u32,
        0..=100_u32,
    )
        .prop_map(|(processes, limit, reserved, pools, threads, rolling, share)| Asked {
            processes,
            limit,
            reserved,
            pools,
            threads,
            rolling,
            share,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_sum_never_exceeds_the_limit_and_nothing_is_given_away(asked in sensible()) {
        let pools = asked.pools_at_once(asked.processes);
        let Ok(plan) = asked.plan() else {
            prop_assert!(asked.available() < pools, "there was room");
            return Ok(());
        };
        let size = u64::from(plan.max_size());
        prop_assert!(size >= 1);
        prop_assert_eq!(plan.connections_at_most(), size * pools);
        prop_assert!(plan.connections_at_most() <= asked.available());
        prop_assert!(plan.connections() <= plan.connections_at_most());
        prop_assert!(plan.min_idle() <= plan.max_size());
        // As large as it can be: one more each would be too many, or more than there are threads.
        let threads = asked.threads.map_or(u64::MAX, u64::from);
        prop_assert!(size <= threads);
        prop_assert!(size == threads || (size + 1) * pools > asked.available());
    }

    #[test]
    fn a_fleet_that_is_too_large_is_told_how_many_fit_and_what_helps(asked in sensible()) {
        let Err(error) = asked.plan() else { return Ok(()) };
        let text = error.to_string();
        prop_assert_eq!(error.kind(), ErrorKind::Config);
        prop_assert!(text.contains(&format!("server_limit is {}", asked.limit)), "{}", text);
        if asked.available() == 0 {
            prop_assert!(text.contains("reserved is"), "{}", text);
            return Ok(());
        }
        prop_assert!(text.contains(&format!("processes is {}", asked.processes)), "{}", text);
        prop_assert!(text.contains("PgBouncer"), "{}", text);
        // The largest fleet that fits is the one that is named.
        let fits = |&processes: &u32| asked.pools_at_once(processes) <= asked.available();
        let most = (1..=asked.processes).take_while(fits).last();
        let said = match most {
            None => "not even one process has room".to_owned(),
            Some(1) => "at most 1 process,".to_owned(),
            Some(most) => format!("at most {most} processes,"),
        };
        prop_assert!(text.contains(&said), "{} in {}", said, text);
        if let Some(processes) = most {
            let smaller = Asked { processes, ..asked };
            prop_assert!(smaller.plan().is_ok());
        }
    }

    #[test]
    fn behind_pgbouncer_the_server_has_room_and_so_has_every_client(asked in sensible(), instances in 1..6_u32) {
        let Some(threads) = asked.threads else { return Ok(()) };
        let Ok(plan) = asked.fleet().pgbouncer(instances).plan() else {
            prop_assert!(asked.available() < u64::from(instances), "there was room");
            return Ok(());
        };
        let bouncer = plan.pgbouncer().expect("one was asked for");
        prop_assert_eq!(plan.max_size(), threads);
        prop_assert!(bouncer.default_pool_size() >= 1);
        prop_assert!(u64::from(bouncer.max_db_connections()) * u64::from(instances) <= asked.available());
        prop_assert!(bouncer.max_client_conn() >= plan.connections_at_most());
        prop_assert_eq!(plan.connections_at_most(), u64::from(threads) * asked.pools_at_once(asked.processes));
    }

    #[test]
    fn no_number_is_too_large_or_too_small_to_be_answered(
        numbers in prop::array::uniform7(prop::sample::select(vec![0, 1, 2, 99, 100, 101, u32::MAX - 1, u32::MAX])),
        some in prop::array::uniform3(any::<bool>()),
    ) {
        let [processes, limit, reserved, pools, threads, rolling, share] = numbers;
        let [with_reserved, with_threads, bouncer] = some;
        let asked = Asked {
            processes,
            limit,
            reserved: with_reserved.then_some(reserved),
            pools,
            threads: with_threads.then_some(threads),
            rolling,
            share,
        };
        let fleet = if bouncer { asked.fleet().pgbouncer(pools) } else { asked.fleet() };
        match fleet.plan() {
            Ok(plan) => prop_assert!(plan.max_size() >= 1 && !plan.to_string().is_empty()),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Config),
        }
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_field_and_value() {
    let fleet = Fleet::new(0, 0).pools_per_process(0).threads_per_process(0).min_idle_share(130).pgbouncer(0);
    let text = fleet.plan().expect_err("nothing of this can be").to_string();
    for word in [
        "processes is 0",
        "server_limit is 0",
        "pools_per_process is 0",
        "threads_per_process is 0",
        "pgbouncer is 0",
        "min_idle_share is 130 %",
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let text = Fleet::new(2, 10).reserved(10).plan().expect_err("nothing is left").to_string();
    assert!(text.contains("reserved is 10 and server_limit is 10"), "{text}");
    let text = Fleet::new(2, 10).pgbouncer(1).plan().expect_err("how large are the pools?").to_string();
    assert!(text.contains("threads_per_process is not given"), "{text}");
    let text = Fleet::new(2, 10).threads_per_process(4).pgbouncer(8).plan().expect_err("eight of seven").to_string();
    assert!(text.contains("pgbouncer is 8") && text.contains("server_limit is 10"), "{text}");
}

#[test]
fn a_second_set_of_processes_is_reckoned_with_unless_the_deployment_says_otherwise() {
    let fleet = Fleet::new(9, 100);
    let size = |fleet: Fleet| fleet.plan().expect("there is room").max_size();
    assert_eq!(size(fleet.clone()), 5, "90 over 18");
    assert_eq!(size(fleet.clone().rolling(25)), 7, "90 over 12: a quarter of nine is rounded up");
    assert_eq!(size(fleet.rolling(0)), 10, "90 over 9");
}

#[test]
fn what_is_kept_idle_is_a_share_rounded_up() {
    let idle = |share| Fleet::new(9, 100).min_idle_share(share).plan().expect("there is room").min_idle();
    assert_eq!([idle(0), idle(1), idle(25), idle(40), idle(41), idle(100)], [0, 1, 2, 2, 3, 5]);
}

#[test]
fn the_plan_reads_as_a_table_with_reasons_and_advice() {
    let plan = Fleet::new(8, 100).threads_per_process(20).plan().expect("there is room");
    assert_eq!(
        plan.to_string(),
        "\
max_size      5  90 connections (100 less 10 reserved) over 16 processes while a deployment rolls
min_idle      2  25 % of it, kept open
connections  40  of all pools, when nothing is being deployed
at most      80  of all pools: 16 processes while a deployment rolls
- 20 threads share 5 of a pool: they queue when more than 5 of them use a connection at once. Hold connections for \
short; if Stats::wait_time shows that it is not enough, put PgBouncer between
- between deployments at most 40 of 90 connections are used; where a deployment starts no more than 25 % of the \
processes at a time, and old ones end at once, rolling(25) gives a max_size of 9
"
    );
    let plan = Fleet::new(10, 50).threads_per_process(20).pools_per_process(2).pgbouncer(2).plan().expect("room");
    assert_eq!(
        plan.to_string(),
        "\
max_size             20  as many as threads: PgBouncer keeps the limit of the server
min_idle              5  25 % of it, kept open
connections         400  of all pools, when nothing is being deployed
at most             800  of all pools: 20 processes while a deployment rolls, 2 pools each
max_client_conn     880  each takes them all, so that one may be away, and 10 % that are on their way out
default_pool_size    22  45 connections (50 less 5 reserved) over 2 PgBouncers, for each user and database
max_db_connections   22  the same, for all users of the database
"
    );
    assert_eq!(plan.advice(), [""; 0]);
}
