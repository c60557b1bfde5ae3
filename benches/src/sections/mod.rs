//! The sections of a run, in the order in which they are printed.

pub mod adaptive;
pub mod checkout;
pub mod deadlines;
pub mod holds;
pub mod instructions;
pub mod memory;
pub mod redis;
pub mod sizes;
pub mod sqlite;
pub mod watching;
pub mod writers;

use crate::plan::Plan;
use crate::report::Report;

pub type Section = fn(Plan, &mut Report);

/// Sections that measure nothing, so that they may be written by themselves, and their headings.
pub const SIMULATED: [(&str, &str); 1] = [("adaptive", adaptive::HEADING)];

pub const ALL: [(&str, Section); 11] = [
    ("checkout", checkout::run),
    ("sizes", sizes::run),
    ("holds", holds::run),
    ("deadlines", deadlines::run),
    ("sqlite", sqlite::run),
    ("writers", writers::run),
    ("redis", redis::run),
    ("adaptive", adaptive::run),
    ("watching", watching::run),
    ("memory", memory::run),
    ("instructions", instructions::run),
];
