//! What happens to a pool without anybody asking: the keeper's visits, and what is done on them.

pub(crate) mod keeper;
pub(crate) mod sweep;
