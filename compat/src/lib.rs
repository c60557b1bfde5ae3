#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// All but the traits is `millpond::r2d2`, from the same files.
#[path = "../../src/r2d2/builder.rs"]
mod builder;
#[path = "../../src/r2d2/error.rs"]
mod error;
#[path = "../../src/r2d2/event.rs"]
pub mod event;
#[path = "../../src/r2d2/guard.rs"]
mod guard;
#[path = "../../src/r2d2/hooks.rs"]
mod hooks;
#[path = "../../src/r2d2/pool.rs"]
mod pool;
mod traits;

pub use builder::Builder;
pub use error::Error;
pub use event::{HandleEvent, NopEventHandler};
pub use guard::PooledConnection;
pub use millpond::Extensions;
pub use pool::{Pool, State};
pub use traits::{
    CustomizeConnection, HandleError, LoggingErrorHandler, ManageConnection, NopConnectionCustomizer, NopErrorHandler,
};
