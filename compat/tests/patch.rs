//! The patch is in effect: every crate that names r2d2 gets this one.

use diesel::SqliteConnection;
use r2d2_sqlite::SqliteConnectionManager;
use std::any::type_name;

/// What the lock file says of the packages of this name: the version of each, and where it comes from unless that is a folder.
fn locked(name: &str) -> Vec<(Option<&str>, Option<&str>)> {
    include_str!("../Cargo.lock")
        .split("[[package]]")
        .map(|package| {
            move |key: &str| package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).map(unquoted)
        })
        .filter(|value| value("name") == Some(name))
        .map(|value| (value("version"), value("source")))
        .collect()
}

fn unquoted(value: &str) -> &str {
    value.trim_matches('"')
}

#[test]
fn there_is_one_r2d2_and_it_is_this_crate() {
    assert_eq!(locked("r2d2"), [(Some(env!("CARGO_PKG_VERSION")), None)]);
    let [(_, Some(_))] = locked("diesel")[..] else { panic!("diesel comes from elsewhere") };
}

#[test]
fn the_version_is_what_asks_for_r2d2_0_8_gets() {
    assert!(env!("CARGO_PKG_VERSION").starts_with("0.8."), "a patch of another version is not used");
}

#[test]
fn the_types_of_other_crates_are_these() {
    fn same(pool: diesel::r2d2::Pool<SqliteConnectionManager>) -> r2d2::Pool<SqliteConnectionManager> {
        pool
    }
    let pool = same(r2d2::Pool::new(SqliteConnectionManager::memory()).expect("memory can be had"));
    assert_eq!(pool.stats().size, 10, "millpond counts");

    type Guard = diesel::r2d2::PooledConnection<diesel::r2d2::ConnectionManager<SqliteConnection>>;
    assert!(type_name::<Guard>().starts_with("r2d2::guard::"), "this crate's file: {}", type_name::<Guard>());
    assert!(type_name::<r2d2::Extensions>().starts_with("millpond::"));
}
