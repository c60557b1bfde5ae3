//! For tests of programs that use a pool: a clock that is moved by hand.
//!
//! # Examples
//!
//! ```
//! use millpond::{Pool, testing::HandClock};
//! use std::time::Duration;
//!
//! let clock = HandClock::new();
//! let pool = Pool::builder(|| Ok::<_, std::io::Error>(()))
//!     .idle_timeout(Some(Duration::from_secs(60)))
//!     .clock(clock.clone())
//!     .build()?;
//! assert_eq!(pool.stats().size, 1);
//! clock.advance(Duration::from_secs(61));
//! pool.maintain();
//! assert_eq!(pool.stats().idle, 0);
//! # Ok::<(), millpond::Error>(())
//! ```

pub use crate::clock::HandClock;
