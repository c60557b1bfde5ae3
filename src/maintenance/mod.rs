//! What happens to a pool without anybody asking: the keeper's visits, and what is done on them.

mod adapt;
pub(crate) mod keeper;
mod leaks;
pub(crate) mod sweep;
