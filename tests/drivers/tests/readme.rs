//! The Rust code of README.md compiles, and does what stands there: whole programs as they are, parts of one within a
//! function.

#![allow(clippy::print_stdout, reason = "the programs of README.md print")]

use std::{env, error::Error, time::Duration};

use millpond::{Pool, Pools};
use millpond_drivers::{Redis, TempDir};
use rusqlite::Connection;

const README: &str = include_str!("../../../README.md");
const VISITS: &str = include_str!("readme/visits.rs");
const SHOP: &str = include_str!("readme/shop.rs");
const THIS: &str = include_str!("readme.rs");

type Done = Result<(), Box<dyn Error>>;

mod visits {
    include!("readme/visits.rs");

    pub(super) fn run() -> super::Done {
        main()
    }
}

mod shop {
    include!("readme/shop.rs");

    pub(super) fn run() -> super::Done {
        main()
    }
}

fn birds(url: &str) -> Done {
    let pool = millpond::redis::RedisPool::new(url)?; // "redis://user:password@host:6379/2"
    pool.set("bird", "heron")?;
    let (bird, visits): (String, u64) = pool.pipeline(redis::pipe().get("bird").incr("visits", 1))?;
    assert_eq!((bird.as_str(), visits), ("heron", 1));
    Ok(())
}

fn shards() -> Done {
    let shards = Pools::new(|shard: &u32| {
        let file = format!("shard-{shard}.db");
        Pool::builder(move || Connection::open(&file)).max_size(4).build_lazy()
    });
    Connection::open("shard-3.db")?.execute_batch("CREATE TABLE sale (what); INSERT INTO sale VALUES ('lamp')")?;
    let rows = shards.fan_out(0..16, 4, Duration::from_secs(1), |_, conn| {
        conn.query_row("SELECT count(*) FROM sale", [], |row| row.get::<_, i64>(0))
    });
    println!("{rows}"); // a shard that is dead, slow or damaged spoils its own row
    assert_eq!(rows.ok().collect::<Vec<_>>(), [(&3, &1)]);
    Ok(())
}

fn settings() -> Done {
    use millpond::{Pool, PoolConfig};

    let manager = || Connection::open("visits.db");
    let config = PoolConfig::production().merge(PoolConfig::from_env("DB_POOL")?); // DB_POOL_MAX_SIZE=20, DB_POOL_KEEPALIVE=90s
    config.lint().iter().for_each(|lint| eprintln!("{lint}"));
    let pool = Pool::builder(manager).config(&config).build()?;

    let body = millpond::render_prometheus([&pool]); // GET /metrics: no exporter, no other crate
    println!("{}", millpond::Status::of([&pool])); // the same as a table: levels, waits, holders, what went wrong lately
    assert!(body.contains("db_client_connection_max"), "{body}");
    Ok(())
}

/// One test, because the programs' files are in the working directory, of which a process has one.
#[test]
fn programs_and_parts_do_what_stands_there() -> Done {
    let folder = TempDir::new("readme");
    env::set_current_dir(folder.path())?;
    visits::run()?;
    shop::run()?;
    shards()?;
    settings()?;
    if let Some(redis) = Redis::start() {
        birds(&redis.url())?;
    }
    env::set_current_dir("/")?;
    Ok(())
}

#[test]
fn what_runs_here_is_what_stands_there() {
    let here: Vec<_> = THIS.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let blocks = README.split("```rust\n").skip(1).map(|rest| rest.split_once("```").expect("an end").0);
    for block in blocks {
        let part: Vec<_> = block.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        // What a part needs of its surroundings may stand between its lines.
        let mut lines = here.iter();
        let mut is_part = || part.iter().all(|line| lines.any(|other| other == line));
        let one_import = block == "use millpond::r2d2;\n";
        assert!(one_import || [VISITS, SHOP].contains(&block) || is_part(), "not tested:\n{block}");
    }
}
