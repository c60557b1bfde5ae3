//! SQLite, first class (feature `sqlite`): a manager that sets connections up in the right order and cleans them, and a pool
//! of one writer and many readers.
//!
//! ```
//! use millpond::sqlite::{SqliteManager, SqlitePool};
//!
//! # let folder = std::env::temp_dir().join(format!("millpond-sqlite-front-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("app.db");
//! let manager = SqliteManager::file(&path)
//!     .on_first_connect(|conn| conn.execute_batch("CREATE TABLE IF NOT EXISTS visit (page TEXT NOT NULL)"));
//! let pool = SqlitePool::new(manager)?;
//!
//! pool.write(|conn| conn.execute("INSERT INTO visit VALUES (?1)", ["/"]))?;
//! let visits: i64 = pool.read(|conn| conn.query_row("SELECT count(*) FROM visit", [], |row| row.get(0)))?;
//! assert_eq!(visits, 1);
//! # pool.close_and_wait(std::time::Duration::from_secs(10))?;
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | you have | take |
//! |---|---|
//! | a program that reads and writes one database from several threads | [`SqlitePool`] |
//! | code that wants a `rusqlite::Connection` to keep, or `&mut`; a database that is only read | [`Pool`](crate::Pool) over a [`SqliteManager`] |
//! | another driver (diesel), or another version of rusqlite than this crate takes | [`Pool`](crate::Pool) over a closure or a manager of r2d2's |
//!
//! Closures get a `&Connection`, which is all that rusqlite asks for, except for its own transactions. They return a
//! `rusqlite::Result`, and what comes out is one flat [`Result`](Error): no connection, a refused statement and a deadline are
//! told apart by [`ErrorKind`]. Errors of nested work are passed on with `?`; one of your own goes through [`abort`].
//!
//! rusqlite is taken in any version from 0.37 to 0.41: Cargo settles on the one that your program names, because there can be
//! only one SQLite in a program. Name it there with the features that you want (`bundled`, say); it is also
//! [here](rusqlite). Nothing is bundled by this crate, unless by its feature `sqlite-bundled`.

mod builder;
mod error;
mod fault;
mod held;
mod limit;
mod manager;
mod opening;
mod pool;
mod session;
mod settings;
mod transaction;

pub use builder::SqlitePoolBuilder;
pub use error::{Error, ErrorKind, abort};
pub use manager::SqliteManager;
pub use pool::{SqlitePool, SqliteStats};
pub use rusqlite;
pub use settings::{JournalMode, OnReturn, Synchronous};
