//! What the quick start stands on: the data, the work, the contest and its table.

pub(crate) mod airports;
pub(crate) mod contest;
mod folder;
pub(crate) mod report;
pub(crate) mod work;

pub(crate) use folder::TempFolder;

/// Any error, from any of the libraries in play.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
