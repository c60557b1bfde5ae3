//! What the benches are made of: the contestants, the measuring, the sections, tables and charts; the outage drill; the soak;
//! and the load on the example server.
//!
//! A library only because six programs share it: the benches themselves, the two small ones that they start for memory
//! and for instruction counts, the drill, the soak and the load.

#![forbid(unsafe_code)]

pub mod block_on;
pub mod chart;
pub mod contestants;
pub mod drill;
pub mod end_to_end;
pub mod figures;
pub mod load;
pub mod measure;
pub mod plan;
pub mod report;
pub mod sections;
pub mod sibling;
// The rule is tested by the same simulation.
#[path = "../../tests/simulation/mod.rs"]
pub mod simulation;
pub mod soak;
pub mod steps;
pub mod table;
