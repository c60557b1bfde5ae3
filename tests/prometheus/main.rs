//! What pools tell Prometheus: a text that its own tools read without complaint, with the numbers of pools that are really
//! used; and the alerts and the dashboard that are made of it.

#[path = "../support/mod.rs"]
mod support;

mod numbers;
mod promtool;
mod scrape;
mod validity;
mod watching;
