//! The work: what a thread asks of a connection, and whether the answer was right.

use rusqlite::{Connection, TransactionBehavior};

use super::Failure;
use super::airports::{Airport, Atlas, Dice};

pub(crate) enum Operation<'a> {
    LookUp(&'a Airport),
    Nearby(&'a Airport),
    Fly { origin: &'a Airport, destination: &'a Airport },
}

impl<'a> Operation<'a> {
    /// 80 % look-ups, 18 % searches, 2 % writes: few, because SQLite has room for one writer at a time. Even so they
    /// take about half of the time.
    pub(crate) fn draw(atlas: &'a Atlas, dice: &mut Dice) -> Self {
        match dice.below(100) {
            0..80 => Self::LookUp(atlas.flight(dice).0),
            80..98 => Self::Nearby(atlas.airport(dice)),
            _ => {
                let (origin, destination) = atlas.flight(dice);
                Self::Fly { origin, destination }
            }
        }
    }

    pub(crate) fn writes(&self) -> bool {
        matches!(self, Self::Fly { .. })
    }

    pub(crate) fn run(&self, conn: &mut Connection) -> Result<(), Failure> {
        match self {
            Self::LookUp(airport) => {
                let name = name_of(conn, &airport.code)?;
                expect(name == airport.name, || format!("{} is called {name}", airport.code))
            }
            Self::Nearby(airport) => {
                let found = nearby(conn, airport)?;
                expect(found.contains(&airport.code), || format!("{} is not near itself", airport.code))
            }
            Self::Fly { origin, destination } => Ok(fly(conn, &origin.code, &destination.code)?),
        }
    }
}

fn expect(right: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if right { Ok(()) } else { Err(format!("wrong answer: {}", otherwise()).into()) }
}

fn name_of(conn: &Connection, code: &str) -> rusqlite::Result<String> {
    // Statements live as long as the connection, so a pool saves their preparation too.
    conn.prepare_cached("SELECT name FROM airport WHERE code = ?1")?.query_row([code], |row| row.get(0))
}

/// The five airports nearest to this one, itself included, within half a degree north and south, one east and west.
pub(crate) fn nearby(conn: &Connection, to: &Airport) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT code FROM airport
         WHERE latitude BETWEEN ?1 - 0.5 AND ?1 + 0.5 AND longitude BETWEEN ?2 - 1 AND ?2 + 1
         ORDER BY (latitude - ?1) * (latitude - ?1) + (longitude - ?2) * (longitude - ?2) * ?3 LIMIT 5",
    )?;
    // A degree of longitude shrinks towards the poles.
    let shrunk = to.latitude.to_radians().cos().powi(2);
    statement.query_map((to.latitude, to.longitude, shrunk), |row| row.get(0))?.collect()
}

fn fly(conn: &mut Connection, origin: &str, destination: &str) -> rusqlite::Result<()> {
    // A transaction that reads first and wants to write later can fail at once when another writes: this one waits.
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction
        .prepare_cached("INSERT INTO flight (origin, destination) VALUES (?1, ?2)")?
        .execute([origin, destination])?;
    transaction.prepare_cached("UPDATE airport SET departures = departures + 1 WHERE code = ?1")?.execute([origin])?;
    transaction.commit()
}

/// One airport in words.
pub(crate) fn describe(conn: &Connection, code: &str) -> rusqlite::Result<String> {
    conn.query_row("SELECT name, city, state FROM airport WHERE code = ?1", [code], |row| {
        let (name, city, state): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(format!("{name} ({city}, {state})"))
    })
}
