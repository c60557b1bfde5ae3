//! The example `server`, as a process of its own that is talked to over HTTP.

#[path = "../status_page/browser.rs"]
#[allow(dead_code, reason = "the tests of the status page use more of it")]
mod browser;
mod ending;
#[path = "../../examples/server/failure.rs"]
#[allow(dead_code, reason = "the example uses more of it")]
mod failure;
mod failures;
mod flags;
mod pages;
mod pressure;
mod process;
mod seen;
#[path = "../support/mod.rs"]
mod support;
