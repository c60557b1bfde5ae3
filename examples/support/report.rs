//! The closing table, and what the database has to tell.

use std::time::Duration;

use indicatif::HumanCount;
use rusqlite::Connection;

use super::airports::Atlas;
use super::contest::{Entrant, OPERATIONS, ROUNDS, THREADS};
use super::{Failure, work};

/// Prints the entrants side by side, each with the number of connections that it opened.
pub(crate) fn table(entrants: &[(&Entrant<'_>, u64)]) {
    let first = entrants.first().map_or(f64::NAN, |(entrant, _)| entrant.rate());
    let waits: Vec<_> = entrants.iter().map(|(entrant, _)| sorted_waits(entrant)).collect();
    let each = |label, cell: &dyn Fn(&Entrant<'_>, u64) -> String| {
        row(label, entrants.iter().map(|&(entrant, opened)| cell(entrant, opened)));
    };
    let wait = |label, share| row(label, waits.iter().map(|waits| duration(quantile(waits, share))));

    println!("\n{THREADS} threads, {} operations each in {ROUNDS} rounds:\n", count(ROUNDS * OPERATIONS));
    each("", &|entrant, _| entrant.name.to_owned());
    each("operations", &|entrant, _| count(entrant.operations()));
    each("operations per second", &|entrant, _| count(entrant.rate() as u64));
    each("  against millpond", &|entrant, _| format!("{:.2} x", entrant.rate() / first));
    wait("wait for a connection, p50", 0.5);
    wait("  p99", 0.99);
    wait("  p99.9", 0.999);
    wait("  longest", 1.0);
    each("connections opened", &|_, opened| count(opened));
    each("  operations on each", &|entrant, opened| count(entrant.operations() / opened.max(1)));
    each("errors", &|entrant, _| count(entrant.tally.errors));
}

/// Prints what can be learned from the rows that were loaded and those that the threads wrote.
pub(crate) fn answers(conn: &Connection, atlas: &Atlas) -> Result<(), Failure> {
    let states = rows(conn, "SELECT state, count(*) FROM airport GROUP BY 1 ORDER BY 2 DESC LIMIT 5")?;
    let states: Vec<_> = states.iter().map(|(state, airports)| format!("{state} {airports}")).collect();
    println!("\nMost airports: {}.", states.join(", "));

    let home = atlas.find("SFO")?;
    println!("Nearest to {}: {}.", home.name, work::nearby(conn, home)?.join(", "));

    println!("Busiest by the flights just written, and by those of 2008, from which they were drawn:");
    let written = rows(conn, "SELECT code, departures FROM airport ORDER BY 2 DESC LIMIT 10")?;
    let all: i64 = conn.query_row("SELECT count(*) FROM flight", [], |row| row.get(0))?;
    for (code, departures) in written {
        let airport = atlas.find(&code)?;
        let (now, then) = (departures as f64 / all as f64, atlas.share_of_departures(airport));
        println!("  {code}  {:<36}{:>6.2} %{:>8.2} %", airport.name, 100.0 * now, 100.0 * then);
    }
    Ok(())
}

fn rows(conn: &Connection, query: &str) -> rusqlite::Result<Vec<(String, i64)>> {
    conn.prepare(query)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn row(label: &str, cells: impl Iterator<Item = String>) {
    let cells: String = cells.map(|cell| format!("{cell:>14}")).collect();
    println!("  {label:<27}{cells}");
}

fn sorted_waits(entrant: &Entrant<'_>) -> Vec<Duration> {
    let mut waits = entrant.tally.waits.clone();
    waits.sort_unstable();
    waits
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

fn duration(duration: Duration) -> String {
    match duration.as_nanos() as f64 {
        nanos @ ..1e3 => format!("{nanos} ns"),
        nanos @ ..1e6 => format!("{:.1} µs", nanos / 1e3),
        nanos => format!("{:.1} ms", nanos / 1e6),
    }
}
