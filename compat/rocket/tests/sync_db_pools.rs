//! Rocket's attribute `database`, whose pools are r2d2's.

use diesel::prelude::*;
use rocket::figment::Figment;
use rocket::figment::util::map;
use rocket::figment::value::{Map, Value};
use rocket::http::Status;
use rocket::local::blocking::Client;
use rocket_sync_db_pools::{Poolable, database, diesel};
use std::any::type_name;

#[database("memory")]
struct Memory(diesel::SqliteConnection);

#[rocket::get("/answer")]
async fn answer(memory: Memory) -> String {
    let sum = diesel::dsl::sql::<diesel::sql_types::Integer>("6 * 7");
    let answer: i32 = memory.run(|conn| diesel::select(sum).get_result(conn).expect("SQLite can")).await;
    answer.to_string()
}

#[test]
fn a_route_borrows_from_a_pool_of_millpond() {
    let memory: Map<_, Value> = map! { "url" => ":memory:".into(), "pool_size" => 2.into() };
    let figment =
        Figment::from(rocket::Config { log_level: rocket::config::LogLevel::Off, ..rocket::Config::debug_default() })
            .merge(("databases", map! { "memory" => memory }));
    let rocket = rocket::custom(figment).attach(Memory::fairing()).mount("/", rocket::routes![answer]);
    let client = Client::tracked(rocket).expect("it ignites");
    for _ in 0..3 {
        let response = client.get("/answer").dispatch();
        assert_eq!(response.status(), Status::Ok);
        assert_eq!(response.into_string().as_deref(), Some("42"));
    }
}

#[test]
fn the_pool_that_rocket_makes_is_this_one() {
    fn rockets<P: Poolable>(rocket: &rocket::Rocket<rocket::Build>) -> r2d2::Pool<P::Manager> {
        P::pool("memory", rocket).unwrap_or_else(|error| panic!("{error:?}"))
    }
    let memory: Map<_, Value> = map! { "url" => ":memory:".into(), "pool_size" => 2.into() };
    let rocket = rocket::custom(
        Figment::from(rocket::Config::debug_default()).merge(("databases", map! { "memory" => memory })),
    );
    let pool = rockets::<diesel::SqliteConnection>(&rocket);
    assert_eq!((pool.stats().max_size, pool.stats().size), (2, 2), "millpond counts");
    assert!(type_name::<r2d2::Extensions>().starts_with("millpond::"));
}
