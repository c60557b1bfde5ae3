//! `millpond::r2d2` measured against the crate that it takes the place of.
//!
//! `surface`, `lending` and `hooks` describe r2d2 0.8 as it is: they pass unchanged when the import below names the real
//! crate. `repaired` describes where millpond is meant to differ: each of its tests names a defect of r2d2 0.8.10.

#![cfg(feature = "r2d2")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]
#![allow(clippy::disallowed_methods, reason = "r2d2 has no clock but the real one")]

use millpond::r2d2;

#[path = "r2d2_compat/fake.rs"]
mod fake;
#[path = "r2d2_compat/hooks.rs"]
mod hooks;
#[path = "r2d2_compat/lending.rs"]
mod lending;
#[path = "r2d2_compat/repaired.rs"]
mod repaired;
#[path = "r2d2_compat/surface.rs"]
mod surface;
