//! r2d2's behaviour, by the tests that millpond's module `r2d2` must pass too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]
#![allow(clippy::disallowed_methods, reason = "r2d2 has no clock but the real one")]

use ::r2d2;

#[path = "../../tests/r2d2_compat/fake.rs"]
mod fake;
#[path = "../../tests/r2d2_compat/hooks.rs"]
mod hooks;
#[path = "../../tests/r2d2_compat/lending.rs"]
mod lending;
#[path = "../../tests/r2d2_compat/repaired.rs"]
mod repaired;
#[path = "../../tests/r2d2_compat/surface.rs"]
mod surface;
