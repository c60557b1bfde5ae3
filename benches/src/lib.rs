//! What the benches are made of: the contestants, the measuring, the sections, tables and charts.
//!
//! A library only because three programs share it: the benches themselves and the two small ones that
//! they start for memory and for instruction counts.

#![forbid(unsafe_code)]

pub mod block_on;
pub mod chart;
pub mod contestants;
pub mod end_to_end;
pub mod figures;
pub mod measure;
pub mod plan;
pub mod report;
pub mod sections;
pub mod sibling;
pub mod table;
