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
    let random = RandomState::new();
    (0..1000_u32)
        .map(|attempt| 10_240 + (random.hash_one(attempt) % 20_000) as u16)
        .find(|&port| TcpListener::bind(loopback(port)).is_ok())
        .expect("one port in a thousand is free")
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
