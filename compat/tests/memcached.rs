//! memcache, whose client makes its r2d2 pools itself.

use std::error::Error as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// What knows one word of the protocol, which is the one that memcache checks connections with.
fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(&stream));
        }
    });
    address
}

fn serve(stream: &TcpStream) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let answer = if line == "version" { "VERSION 1.6.0\r\n" } else { "ERROR\r\n" };
        let mut writer = stream;
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn manager(address: SocketAddr) -> memcache::ConnectionManager {
    let url = format!("memcache://{address}?protocol=ascii");
    memcache::ConnectionManager::new(memcache::Url::parse(&url).expect("it is a URL"))
}

#[test]
fn a_client_works_on_a_pool_that_it_is_given() {
    let pool: memcache::Pool = r2d2::Pool::builder().max_size(2).build(manager(server())).expect("it is up");
    let client = memcache::Client::with_pool(pool.clone()).expect("it only takes it");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let versions = client.version().expect("it answers");
                assert_eq!(versions.first().map(|(_, version)| version.as_str()), Some("1.6.0"));
            });
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.max_size, stats.opened, stats.checkouts), (2, 2, 4));
}

#[test]
fn a_client_that_makes_its_own_pool_makes_it_of_millpond() {
    let client = memcache::Client::builder()
        .add_server(format!("memcache://{}?protocol=ascii", server()))
        .and_then(|builder| builder.with_max_pool_size(1).build())
        .expect("it is up");
    assert_eq!(client.version().expect("it answers").len(), 1);

    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a port");
    let error = memcache::Client::builder()
        .add_server(format!("memcache://{free}?protocol=ascii"))
        .and_then(|builder| builder.with_connection_timeout(Duration::from_millis(200)).build())
        .map(drop)
        .expect_err("nobody listens");
    let memcache::MemcacheError::PoolError(error) = error else { panic!("{error:?}") };
    assert!(error.source().is_some_and(|source| source.is::<millpond::Error>()), "{error:?}");
}
