//! A connection pool for blocking clients: threads, no async runtime; a drop-in for r2d2.
//!
//! A [`Pool`] keeps connections open and lends them to threads: a thread borrows one, uses it, and gives it back by
//! dropping the guard. There are never more than a maximum; who has to wait waits in turn, up to one deadline.
//!
//! All that a pool needs is a closure that opens a connection, or a manager that was written for r2d2: to SQLite,
//! Redis, PostgreSQL, MySQL, or anything else that is opened and used from one thread at a time.
//!
//! ```
//! use millpond::Pool;
//! use rusqlite::Connection;
//! use std::thread;
//!
//! # let folder = std::env::temp_dir().join(format!("millpond-front-page-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # std::env::set_current_dir(&folder)?;
//! let pool = Pool::builder(|| Connection::open("app.db")).max_size(4).build()?;
//! pool.get()?.execute_batch("CREATE TABLE visit (page TEXT)")?;
//!
//! thread::scope(|scope| {
//!     for _ in 0..8 {
//!         scope.spawn(|| {
//!             let conn = pool.get().expect("a connection within 5 s");
//!             conn.execute("INSERT INTO visit VALUES ('/')", []).expect("one row")
//!         }); // here the guard is dropped, and its connection is free for the next thread
//!     }
//! });
//!
//! let visits: i64 = pool.get()?.query_row("SELECT count(*) FROM visit", [], |row| row.get(0))?;
//! assert_eq!(visits, 8);
//! # pool.close_and_wait(std::time::Duration::from_secs(10))?;
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A pool is a handle. Threads share it by reference, by clone or through an `Arc`; when the last handle is dropped,
//! the pool closes.
//!
//! The [`guide`] goes from choosing a pool to shutting one down, and has a table of symptoms.
//!
//! # What happens in a checkout
//!
//! - **Take.** If a connection is idle, and was used or checked within the last 500 ms, the caller has it: no lock, no
//!   check, no other thread. The thread, the source line and the time are written down.
//! - **Check.** One that was idle for longer is first asked whether it still works ([`Manager::is_valid`]), on a helper
//!   thread while the caller waits. A connection that fails is closed, and the pool goes on to the next; so it does after
//!   100 ms of a check that does not end.
//! - **Open.** If none is idle and there is room below the maximum, a helper thread connects, at most four at a time.
//!   The caller gets whatever comes first, a new connection or a returned one. One that comes too late for it is kept.
//! - **Suspect.** When a check or an attempt to connect fails, everything that lies idle is checked in the background
//!   before anybody gets it: after a restart of the server one caller waits for a new connection, and no caller meets
//!   the other dead ones.
//! - **Wait.** Otherwise the caller queues. Whoever returns a connection hands it to the oldest waiter, once that one
//!   has waited for 1 ms. At the deadline, which covers all of this together, the caller gets an [`Error`] that says
//!   what the pool lacked, who holds the connections, and what the server said.
//! - **Return.** Dropping the guard asks whether the connection [is broken](Manager::has_broken),
//!   [cleans](Manager::reset) it, and lends it on or keeps it. One that is broken, too old, or was dropped by a
//!   panicking thread is closed instead, by a helper thread.
//!
//! # Settings
//!
//! Functions of [`Builder`], in the order in which people need them:
//!
//! | setting | default | what it says |
//! |---|---|---|
//! | [`name`](Builder::name) | `pool-1`, `pool-2` … | what errors, events and log lines call the pool |
//! | [`max_size`](Builder::max_size) | 10 | the most connections |
//! | [`adaptive`](Builder::adaptive) | no | whether the maximum follows the load, and within which range: [`adaptive`] |
//! | [`min_idle`](Builder::min_idle) | 0 | how many idle connections are kept ready |
//! | [`connection_timeout`](Builder::connection_timeout) | 5 s | how long a checkout may take |
//! | [`validation`](Builder::validation) | when idle for 500 ms | when a connection is checked before it is lent |
//! | [`keepalive`](Builder::keepalive) | every 2 min | when an idle connection is checked in the background |
//! | [`max_lifetime`](Builder::max_lifetime) | 30 min, less a random part | at what age a connection is replaced |
//! | [`idle_timeout`](Builder::idle_timeout) | 10 min | how long more than `min_idle` connections may lie idle |
//! | [`max_uses`](Builder::max_uses) | no limit | after how many checkouts a connection is replaced |
//! | [`max_waiting`](Builder::max_waiting) | no limit | how many callers may wait; one more fails at once |
//! | [`fairness`](Builder::fairness) | in turn after 1 ms | who gets a connection that others wait for |
//! | [`max_connecting`](Builder::max_connecting) | 4 | how many connections are opened at the same time |
//! | [`retry`](Builder::retry) | a thirtieth of the outage, 25 ms to 1 s | pauses after failed attempts to connect |
//! | [`start_up`](Builder::start_up) | the same, without an end | pauses until the first connection was opened |
//! | [`warm_up`](Builder::warm_up) | `min_idle`, at least one, required | what is opened at the start, and who waits for it |
//! | [`when_down`](Builder::when_down) | wait | what callers do while connecting fails |
//! | [`nested`](Builder::nested) | warn | what happens when a thread borrows while it holds a connection |
//! | [`leak_threshold`](Builder::leak_threshold) | never | after how long a borrowed connection is told of |
//! | [`on_open`](Builder::on_open), [`on_return`](Builder::on_return), [`on_close`](Builder::on_close) | nothing | functions over a connection at these moments |
//! | [`event_handler`](Builder::event_handler) | nobody | who hears what the pool does, or is given samples of its numbers |
//! | [`incidents`](Builder::incidents) | 64 | how many incidents the pool keeps |
//! | [`budget`](Builder::budget) | none | the ceiling over connections that it shares with other pools |
//! | [`bound_only`](Builder::bound_only) | no | whether `with` needs a connection that is bound to the thread |
//! | [`use_times`](Builder::use_times) | off | whether the time that connections are borrowed is measured |
//! | [`maintenance`](Builder::maintenance) | in the background | whether the pool has threads of its own |
//!
//! They can come from files and the environment, over presets for development, staging and production: `PoolConfig`
//! (feature `config`), whose lints say what is legal and unwise. How large `max_size` is to be, [`sizing`] reckons.
//!
//! [`Builder::build`] opens `min_idle` connections, at least one, so that a wrong address is found at the start;
//! [`Builder::build_lazy`] opens none; a [`WarmUp`] says otherwise. Both report all that is wrong with the settings in one
//! error.
//!
//! A running pool can be [resized](Pool::resize), [refreshed](Pool::refresh), at once or
//! [bit by bit](Pool::refresh_over), [paused](Pool::pause), [warmed up](Pool::warm_up) and [closed](Pool::close), and its
//! times can be changed, by [`set_connection_timeout`](Pool::set_connection_timeout) and its neighbours.
//!
//! # Which pool to choose
//!
//! **How to borrow.** Start with `get`.
//!
//! | you want | call |
//! |---|---|
//! | a connection to use, keep or hand to another thread | [`Pool::get`]; [`Pool::get_timeout`] with a deadline of its own |
//! | a plain `&mut` for the length of a closure, at the least cost | [`Pool::with`] |
//! | several at once | [`Pool::get_many`]: all or none |
//! | one for all that a request or a job does on its thread, without passing it down | [`Pool::bind`], and [`Pool::with`] below; [`Scope`] for more than one pool |
//! | one only if it can be had without waiting | [`Pool::try_get`] |
//! | one of the pool of a tenant, a shard or a URL | [`Pools::get`] and [`Pools::with`] |
//! | one of each of many pools, for one closure and within one deadline | [`fan_out`], [`Pools::fan_out`] |
//! | one for each chunk of many items, over several threads | [`batch::Batch`] |
//! | one of several servers that can do the same | [`Balanced`]: in turn, by weight, the least busy, the first that is there |
//! | one to write, and others to read | [`ReadWrite`] |
//! | one by what it is for (`"reporting"`) | [`Roles`] |
//!
//! Do not borrow while you hold a guard of the same pool: when enough threads do, they wait for each other until their
//! deadlines. Take all that you need with one `get_many`. The pool warns of such checkouts when they have to wait, and
//! refuses them if you wish ([`Builder::nested`]).
//!
//! ```
//! # use millpond::Pool;
//! # use rusqlite::Connection;
//! # let open = || Connection::open("file:/borrow?vfs=memdb");
//! # let pool = Pool::builder(open).max_size(4).build()?;
//! let mut conn = pool.get()?;
//! let change = conn.transaction()?; // a guard stands in for the connection, also where that must be `mut`
//! change.execute_batch("CREATE TABLE town (name TEXT)")?;
//! change.commit()?;
//! drop(conn);
//!
//! // The first `?` is the pool's error, the second one SQLite's.
//! let towns: i64 = pool.with(|conn| conn.query_row("SELECT count(*) FROM town", [], |row| row.get(0)))??;
//! assert_eq!(towns, 0);
//!
//! let [from, to] = <[_; 2]>::try_from(pool.get_many(2)?).expect("as many as were asked for");
//! # assert!(from.is_autocommit() && to.is_autocommit());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Who waits for whom.** [`Fairness::Bounded`], the default, lets newcomers pass while nobody has waited for long (1
//! ms): with short holds the pool runs at full speed, with long holds it is a queue. [`Fairness::Strict`] is a queue
//! always, and costs most of the throughput where connections are held for less than 100 µs.
//!
//! **What to pool.** [`Pool::new`] and [`Pool::builder`] take any of these:
//!
//! | you have | pass | the pool's type |
//! |---|---|---|
//! | a way to open a connection | a closure or function | `Pool<FnManager<F, C, E>>` |
//! | besides, a way to check or to clean one | [`FnManager`] | the same |
//! | a SQLite database | a [`SqliteManager`](crate::sqlite::SqliteManager); or take a [`SqlitePool`](crate::sqlite::SqlitePool) | `Pool<SqliteManager>` |
//! | an HTTP client that keeps its connections alive | a closure that makes one for a single connection: [`over_http`] | the same |
//! | a Redis or Valkey server | a `RedisManager` (feature `redis`), or take a `RedisPool` | `Pool<RedisManager>` |
//! | a manager from r2d2_sqlite, redis, r2d2_postgres, diesel … | it, as it is | `Pool<R2d2<TheManager>>` |
//! | more to say than that | your [`Manager`] | `Pool<YourManager>` |
//!
//! A closure's type has no name. Where you need one, say in the field of a `struct`, box the manager:
//!
//! ```
//! use millpond::{FnManager, Manager, Pool};
//! use rusqlite::Connection;
//!
//! type Opener = Box<dyn Manager<Connection = Connection, Error = rusqlite::Error>>;
//!
//! struct App {
//!     db: Pool<Opener>,
//! }
//!
//! # let path = "file:/app?vfs=memdb".to_owned();
//! let opener = FnManager::new(move || Connection::open(&path))
//!     .check(|conn| conn.execute_batch("SELECT 1"))
//!     .reset(|conn| if conn.is_autocommit() { Ok(()) } else { conn.execute_batch("ROLLBACK") });
//! let app = App { db: Pool::new(Box::new(opener) as Opener)? };
//! assert!(app.db.get()?.is_autocommit());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Seeing what goes on
//!
//! - [`Pool::stats`]: how many connections there are and what they do; what was opened, and closed for what reason;
//!   waits, time-outs, failures, panics; how waiting and connecting times were distributed. Holds up nobody.
//! - [`Pool::health`]: a level, the numbers and warnings with their reasons, for people and as JSON; [`HealthReport`] has many
//!   pools, the worst first. Answers in less than a microsecond, whoever waits.
//! - [`render_prometheus`]: the numbers as text for Prometheus, without an exporter. [`observing`] has what to alert on, with
//!   thresholds and their reasons, and a dashboard.
//! - [`Pool::holders`]: who has a connection now: thread, source line of the checkout, for how long, and the label, if
//!   it was given one.
//! - [`Pool::incidents`]: what went wrong lately, with times and holders, kept by the pool itself.
//! - [`Pool::table`]: all of that for a terminal; [`Status`] has many pools, of whatever kinds, and is JSON, too.
//! - [`Error`]: a [`kind`](Error::kind) to match on, the same numbers and holders, and the manager's own error as
//!   `source()`.
//! - [`EventHandler`]: a function for everything that happens, and samples of the numbers every so often; see [`event`].
//! - The example `server` mounts health, numbers and the status page on a threaded HTTP server.
//! - `metrics::Metrics` (feature `metrics`): OpenTelemetry's names through the facade `metrics`, at no cost for a checkout.
//! - Messages through the crate `log`, with the pool's name: a warning when connecting begins to fail, a word when it
//!   works again; a warning when a lease is overdue, and another when it ends; a warning for each source line where a
//!   nested checkout had to wait; an error for each panic of a callback; all else, time-outs included, at the level
//!   `debug`.
//!
//! ```
//! use millpond::{ErrorKind, Pool, PooledConnection};
//! use std::time::Duration;
//!
//! let pool = Pool::builder(|| Ok::<_, std::io::Error>(())).name("orders").max_size(1).build()?;
//! let mut held = pool.get()?;
//! PooledConnection::set_label(&mut held, "nightly report");
//!
//! let error = pool.get_timeout(Duration::from_millis(20)).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Exhausted);
//! // timed out after 0.02 s waiting for a connection from "orders" (max 1: 1 in use, 0 idle, 0 opening; 1 waiting);
//! // the thread that waited holds 1 itself; held longest by thread "main" at src/main.rs:5 for 0.02 s (nightly
//! // report)
//! let text = error.to_string();
//! assert!(text.contains(r#"from "orders" (max 1: 1 in use, 0 idle, 0 opening; 1 waiting); the thread that waited"#));
//! assert!(text.ends_with("(nightly report)"));
//!
//! let stats = pool.stats();
//! assert_eq!((stats.size, stats.in_use, stats.opened, stats.timeouts), (1, 1, 1, 1));
//! assert_eq!(pool.holders()[0].label(), Some("nightly report"));
//! # drop(held);
//! # Ok::<(), millpond::Error>(())
//! ```
//!
//! # Guarantees
//!
//! - **The maximum holds.** Connections that are open, being opened and being closed are never more than `max_size`
//!   together. Three things are outside of it: a connection whose closing takes longer than 100 ms gives its place
//!   away, unless `max_size` others have done so (or sixteen, where that is more) and are not closed yet; one that was
//!   [taken out](PooledConnection::into_inner) is the pool's no longer; after [`Pool::resize`] to less, those that are
//!   borrowed stay until they come back.
//! - **The deadline holds**, also while `connect` or `is_valid` hangs: both run on helper threads. It cannot hold
//!   against what runs on the caller's own thread: an event handler; a check, where the system refuses another thread;
//!   in the module [`r2d2`], also the check of a connection that worked within the last 500 ms; and everything with
//!   [`Maintenance::Manual`], where there are no helper threads.
//! - **No place is lost.** Not to a panic in any callback, not to a failed attempt to connect, not to a waiter that
//!   gives up. Whenever a place comes free, somebody who waits learns of it.
//! - **Cleaning comes first.** [`Manager::reset`] and `on_return` have run before anybody else can have the connection,
//!   and one that a panicking thread drops is closed.
//! - **Limits are exact.** No connection is lent after its lifetime (to within 10 ms, the step of the clock), after a
//!   [`refresh`](Pool::refresh), or more often than `max_uses`. One exception: what came due while the process was stopped is
//!   checked and replaced bit by bit, because all at once would be a storm.
//! - **A forked child shares nothing.** It gets [`ErrorKind::Forked`] instead of a connection whose socket its parent uses,
//!   and dropping what it inherited says no word to the server. It can have a pool of its own.
//! - **Secrets stay in.** What the pool prints or logs has no password of a URL in it, no user that may be a token
//!   (`https://TOKEN@host`), no parameter that is called like a secret (`?key=…`), and no value of a word like `password`
//!   or `token`, also where a driver's error or a panic brought it along. The error in `source()` is the driver's own.
//! - **Everybody learns the cause.** All who waited in vain for a connection that could not be opened get the manager's
//!   own error, not only one of them.
//! - **The books balance.** `opened - closed = size` in all [`Stats`], whatever goes on meanwhile.
//! - No `unsafe` code in this crate.
//!
//! Models that go through the interleavings of threads (loom, shuttle), a property test against a model of the whole
//! pool, and tests with real servers that are killed, suspended and cut off check these.
//!
//! # What is not provided
//!
//! - Async. Use a pool of your runtime.
//! - Time-outs inside of a driver. A `connect` that never ends costs no caller more than its deadline, but it keeps its
//!   place and its thread: set the driver's connect and read time-outs.
//! - A limit on how long somebody holds a connection: `holders` tells who, but nothing is taken from anybody.
//! - Cleaning by itself. The pool does not know what a transaction is: roll back in [`Manager::reset`] or
//!   [`Builder::on_return`]. They run on the thread that drops the guard, and their time is that thread's. For PostgreSQL
//!   and MySQL, `millpond::reset` has what it takes.
//! - SQL, caches of prepared statements, and one pool for several processes: [`scaling`] says what each of them is to set,
//!   and what goes between.
//!
//! # Features
//!
//! | feature | what it adds | what it costs |
//! |---|---|---|
//! | `r2d2` (on by default) | every `r2d2::ManageConnection` is a manager; the module [`millpond::r2d2`](crate::r2d2) | the crates r2d2 0.8 and scheduled-thread-pool 0.2 with what they need; nothing at run time |
//! | `sqlite` | [`millpond::sqlite`](crate::sqlite): a manager for SQLite, and a pool of one writer and many readers | rusqlite, in the version from 0.37 to 0.41 that the program names |
//! | `sqlite-bundled` | the same, with SQLite itself | a C compiler, half a minute |
//! | `postgres` | `millpond::reset::postgres`: cleans a session for its next user | the crate postgres 0.19; a round trip at each return, where it is used |
//! | `mysql` | `millpond::reset::mysql`: the same | the crate mysql, 25 to 28, without TLS of its own choice; a round trip |
//! | `redis` | `millpond::redis`: a manager and a pool for Redis and Valkey, with time-outs, cleaning, and one call for a command | the crate redis 1.8 or newer, which brings about 40, most of them to read URLs |
//! | `redis-cluster` | the same for Redis Cluster | six more, for rand and crc16 |
//! | `config` | [`millpond::pool_config`](crate::pool_config): settings from the environment, presets, lints | the crate humantime, which needs no others |
//! | `serde` | the same from and to files, in any format that serde reads and that says what its values are; and [`Stats`], [`PoolsStats`], [`BudgetStats`], [`Health`] and what they are made of can be serialized; switches `config` on | the crate serde with its macros |
//! | `json` | `to_json` of [`Health`], [`HealthReport`] and [`Status`], and the status page (`status::page`) | besides, serde_json and three more |
//! | `url` | `UrlKey`: URLs as keys of [`Pools`], those that mean the same as one key; comes with `redis` | the crate url 2.5, which brings about 30 |
//! | `metrics` | [`millpond::metrics`](crate::metrics): numbers under OpenTelemetry's names, through the facade of that name | the crate metrics 0.24, which brings one more; nothing per checkout |
//! | `testing` | [`millpond::testing`](crate::testing): a manager that follows a script, a clock that tests move by hand, what must hold after a fault, databases that are as before after each test | no crate; a branch where the clock is read |
//!
//! All features may be combined. Rust 1.95 or newer is needed.
//!
//! A process has one thread for the timers of all its pools (`millpond-keeper`), and helper threads (`millpond-helper`)
//! for connecting, checking and closing, which leave after five idle seconds. All are gone with the last pool;
//! [`Pool::close_and_wait`] waits for that. A [`fan_out`] has threads of its own (`millpond-fan-out`) for as long as it
//! takes, and so has a [`batch`] (`millpond-batch`). Where threads are not wanted, [`Maintenance::Manual`] does without.
//!
//! # From r2d2
//!
//! Change the import; the rest of the program stays as it is. [`from_r2d2`] lists what differs and why, shows the
//! way on to the functions above, and has the patch that moves programs whose dependencies name r2d2's types.
//!
//! ```
//! # #[cfg(feature = "r2d2")] {
//! use millpond::r2d2; // this line is the change
//! use r2d2_sqlite::SqliteConnectionManager;
//!
//! let pool = r2d2::Pool::builder().max_size(2).build(SqliteConnectionManager::memory())?;
//! let answer: i64 = pool.get()?.query_row("SELECT 6 * 7", [], |row| row.get(0))?;
//! assert_eq!(answer, 42);
//! assert_eq!(pool.state().idle_connections, 2);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

// The module `r2d2` names this crate as other crates do, because its files are also part of one: see there.
#[cfg(feature = "r2d2")]
extern crate self as millpond;

pub mod adaptive;
mod alarm;
pub mod balance;
pub mod batch;
mod budget;
mod builder;
mod clock;
mod config;
#[doc(hidden)]
pub mod drop_in;
#[cfg(feature = "serde")]
mod encode;
mod error;
pub mod event;
mod extensions;
mod fan_out;
pub mod health;
mod helpers;
mod incident;
mod keyed;
mod lease;
mod maintenance;
pub mod manager;
#[cfg(feature = "metrics")]
pub mod metrics;
mod pool;
#[cfg(feature = "config")]
pub mod pool_config;
pub mod prometheus;
#[cfg(feature = "r2d2")]
pub mod r2d2;
pub mod read_write;
mod redact;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub mod reset;
pub mod roles;
pub mod scaling;
mod scope;
pub mod sizing;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod stats;
pub mod status;
mod sync;
#[cfg(any(test, loom, shuttle, feature = "testing"))]
pub mod testing;
mod text;
mod warm_up;

pub use balance::{Balance, Balanced};
pub use budget::{Budget, BudgetStats};
pub use builder::Builder;
pub use config::{Fairness, Maintenance, Nested, RetryPolicy, Validation, WhenDown};
pub use error::{Error, ErrorKind};
pub use event::{CloseReason, EventHandler};
pub use extensions::Extensions;
pub use fan_out::{FanOut, FanOutError, FanOutRow, fan_out, fan_out_scoped};
pub use health::{Health, HealthReport};
pub use incident::{Incident, IncidentKind};
#[cfg(feature = "url")]
pub use keyed::UrlKey;
pub use keyed::{Pools, PoolsBuilder, PoolsStats, Recovery, RecoveryAction};
pub use lease::Lease;
#[cfg(feature = "r2d2")]
pub use manager::R2d2;
pub use manager::{Fault, FnManager, IntoManager, Manager, kind};
pub use pool::{Bound, Pool, PooledConnection};
#[cfg(feature = "config")]
pub use pool_config::PoolConfig;
pub use prometheus::render_prometheus;
pub use read_write::ReadWrite;
pub use roles::Roles;
pub use scope::{Scope, ScopeBound};
pub use stats::{Breaker, Closed, Distribution, Outage, Stats};
pub use status::{Observe, PoolStatus, Status};
pub use warm_up::{WarmUp, WarmUpProgress};

#[cfg(feature = "r2d2")]
#[doc = include_str!("../docs/from-r2d2.md")]
pub mod from_r2d2 {}

#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

#[doc = include_str!("../docs/observing.md")]
pub mod observing {}

#[doc = include_str!("../docs/over-http.md")]
pub mod over_http {}

#[doc = include_str!("../docs/design.md")]
pub mod design {}
