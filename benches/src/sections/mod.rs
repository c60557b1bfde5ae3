//! The sections of a run, in the order in which they are printed.

pub mod checkout;
pub mod deadlines;
pub mod holds;
pub mod instructions;
pub mod memory;
pub mod redis;
pub mod sizes;
pub mod sqlite;
pub mod writers;

use crate::plan::Plan;
use crate::report::Report;

pub type Section = fn(Plan, &mut Report);

pub const ALL: [(&str, Section); 9] = [
    ("checkout", checkout::run),
    ("sizes", sizes::run),
    ("holds", holds::run),
    ("deadlines", deadlines::run),
    ("sqlite", sqlite::run),
    ("writers", writers::run),
    ("redis", redis::run),
    ("memory", memory::run),
    ("instructions", instructions::run),
];
