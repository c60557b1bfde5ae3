//! The sections of a run, in the order in which they are printed.

pub mod checkout;
pub mod deadlines;
pub mod holds;
pub mod instructions;
pub mod memory;
pub mod redis;
pub mod sizes;
pub mod sqlite;

use crate::plan::Plan;
use crate::report::Report;

pub type Section = fn(Plan, &mut Report);

pub const ALL: [(&str, Section); 8] = [
    ("checkout", checkout::run),
    ("sizes", sizes::run),
    ("holds", holds::run),
    ("deadlines", deadlines::run),
    ("sqlite", sqlite::run),
    ("redis", redis::run),
    ("memory", memory::run),
    ("instructions", instructions::run),
];
