//! A fair, fast and honest connection pool for blocking clients: threads, no async runtime.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod alarm;
mod builder;
mod clock;
mod config;
mod error;
pub mod event;
mod extensions;
mod helpers;
mod lease;
mod maintenance;
pub mod manager;
mod pool;
#[cfg(feature = "r2d2")]
pub mod r2d2;
mod stats;
mod sync;
#[cfg(any(test, loom, shuttle, feature = "testing"))]
pub mod testing;

pub use builder::Builder;
pub use config::{Fairness, RetryPolicy, Validation};
pub use error::{Error, ErrorKind};
pub use event::{CloseReason, EventHandler};
pub use extensions::Extensions;
pub use lease::Lease;
#[cfg(feature = "r2d2")]
pub use manager::R2d2;
pub use manager::{Fault, FnManager, IntoManager, Manager, kind};
pub use pool::{Pool, PooledConnection};
pub use stats::{Closed, Distribution, Stats};
