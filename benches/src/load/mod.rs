//! A load on the example `server`: the server as a process, and clients that keep their connections.

pub mod client;
pub mod crowd;
pub mod host;
pub mod outcome;
