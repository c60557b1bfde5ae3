//! The crate r2d2 0.8 over millpond's pool: `use millpond::r2d2;` is the whole migration.
//!
//! Names, signatures, defaults, panics and texts are r2d2's. [`ManageConnection`], [`CustomizeConnection`] and
//! [`HandleError`] *are* r2d2's, so every existing manager, customizer and error handler works unchanged. What r2d2 does
//! wrong is not kept: the guide `docs/from-r2d2.md` lists each difference with its reason, and shows the way on to the
//! native API, [`millpond::Pool`](crate::Pool).
//!
//! # Examples
//!
//! ```
//! # #[derive(Debug)] struct Memory;
//! # impl r2d2::ManageConnection for Memory {
//! #     type Connection = Vec<u8>;
//! #     type Error = std::io::Error;
//! #     fn connect(&self) -> std::io::Result<Vec<u8>> { Ok(Vec::new()) }
//! #     fn is_valid(&self, _: &mut Vec<u8>) -> std::io::Result<()> { Ok(()) }
//! #     fn has_broken(&self, _: &mut Vec<u8>) -> bool { false }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use millpond::r2d2;
//! use std::thread;
//!
//! let pool = r2d2::Pool::builder().max_size(3).build(Memory)?;
//! let workers: Vec<_> = (0..8)
//!     .map(|n| {
//!         let pool = pool.clone();
//!         thread::spawn(move || pool.get().map(|mut conn| conn.push(n)))
//!     })
//!     .collect();
//! for worker in workers {
//!     worker.join().expect("no panic")?;
//! }
//! assert_eq!(pool.state().idle_connections, 3);
//! # Ok(())
//! # }
//! ```

// All but this file and `traits` is also the crate in `compat/`, which shares these files: hence `millpond::` where
// other modules say `crate::`.
mod builder;
mod error;
/// These types are millpond's own, with r2d2's names and accessors, because only r2d2 itself can make its own. A handler
/// is therefore an implementation of [`millpond::r2d2::HandleEvent`](HandleEvent); the change of one `use` line is all it
/// takes.
pub mod event;
mod guard;
mod hooks;
mod pool;
mod traits;

pub use self::builder::Builder;
pub use self::error::Error;
pub use self::event::{HandleEvent, NopEventHandler};
pub use self::guard::PooledConnection;
pub use self::pool::{Pool, State};
pub use self::traits::{
    CustomizeConnection, HandleError, LoggingErrorHandler, ManageConnection, NopConnectionCustomizer, NopErrorHandler,
};
pub use crate::Extensions;
