//! Ports for servers that come and go.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// A port that nobody listens on, below the range that the kernel takes source
/// ports from: a port of that range could be lost to any outgoing connection
/// while the server is down, and a client that knocks on it in that time can even
/// be connected to itself.
pub(crate) fn free_port() -> u16 {
    choose(20_000, is_free)
}

/// The same where the port that is 10,000 above it must be free, too, and below that range: nodes of a Redis Cluster talk
/// to each other there.
pub(crate) fn free_port_of_node() -> u16 {
    choose(12_000, |port| is_free(port) && is_free(port + 10_000))
}

fn choose(range: u64, fits: impl Fn(u16) -> bool) -> u16 {
    let random = RandomState::new();
    (0..1000_u32)
        .map(|attempt| 10_240 + (random.hash_one(attempt) % range) as u16)
        .find(|&port| fits(port))
        .expect("one port in a thousand is free")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
