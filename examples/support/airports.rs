//! The data: airports and the routes between them, from `examples/data`, and the database made of them.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::Connection;

use super::Failure;

const AIRPORTS: &str = include_str!("../data/airports.csv");
const ROUTES: &str = include_str!("../data/routes.csv");

pub(crate) struct Airport {
    pub(crate) code: String,
    pub(crate) name: String,
    pub(crate) city: String,
    pub(crate) state: String,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

/// Two airports, as indices, and how many flights went from one to the other, on this route and all before it.
struct Route {
    origin: usize,
    destination: usize,
    flights_so_far: u64,
}

/// The rows in memory: the work is drawn from them, and the answers of the database are compared with them.
pub(crate) struct Atlas {
    airports: Vec<Airport>,
    routes: Vec<Route>,
}

impl Atlas {
    pub(crate) fn read() -> Result<Self, Failure> {
        let mut airports = Vec::new();
        for line in AIRPORTS.lines().skip(1) {
            let [code, name, city, state, latitude, longitude] = fields(line)?;
            let (latitude, longitude) = (latitude.parse()?, longitude.parse()?);
            airports.push(Airport { code, name, city, state, latitude, longitude });
        }
        let by_code: HashMap<_, _> = airports.iter().enumerate().map(|(at, airport)| (&airport.code, at)).collect();
        let find = |code| by_code.get(&code).copied().ok_or_else(|| format!("no airport {code}"));
        let (mut routes, mut flights_so_far) = (Vec::new(), 0);
        for line in ROUTES.lines().skip(1) {
            let [origin, destination, flights] = fields(line)?;
            flights_so_far += flights.parse::<u64>()?;
            routes.push(Route { origin: find(origin)?, destination: find(destination)?, flights_so_far });
        }
        Ok(Self { airports, routes })
    }

    pub(crate) fn airports(&self) -> &[Airport] {
        &self.airports
    }

    /// Any airport, each as likely as another.
    pub(crate) fn airport(&self, dice: &mut Dice) -> &Airport {
        let at = dice.below(self.airports.len() as u64) as usize;
        self.airports.get(at).expect("the dice stay below the length")
    }

    /// Origin and destination of a flight, each route as likely as it was flown in 2008.
    pub(crate) fn flight(&self, dice: &mut Dice) -> (&Airport, &Airport) {
        let drawn = dice.below(self.flights());
        let at = self.routes.partition_point(|route| route.flights_so_far <= drawn);
        let route = self.routes.get(at).expect("the dice stay below the last route's sum");
        let airport = |at| self.airports.get(at).expect("routes were made from indices into the airports");
        (airport(route.origin), airport(route.destination))
    }

    pub(crate) fn find(&self, code: &str) -> Result<&Airport, Failure> {
        let found = self.airports.iter().find(|airport| airport.code == code);
        found.ok_or_else(|| format!("no airport {code}").into())
    }

    /// The part of all flights of 2008 that left from this airport.
    pub(crate) fn share_of_departures(&self, airport: &Airport) -> f64 {
        let (mut flights, mut before) = (0, 0);
        for route in &self.routes {
            if self.airports.get(route.origin).is_some_and(|origin| origin.code == airport.code) {
                flights += route.flights_so_far - before;
            }
            before = route.flights_so_far;
        }
        flights as f64 / self.flights() as f64
    }

    fn flights(&self) -> u64 {
        self.routes.last().map_or(0, |route| route.flights_so_far)
    }
}

/// Makes the database and returns a connection to it.
///
/// Whoever keeps that connection spares SQLite from closing the database whenever a connection is dropped that happens to
/// be the last one. Programs without a pool pay for that too; here they are let off.
pub(crate) fn create_database(file: &Path, atlas: &Atlas) -> Result<Connection, Failure> {
    let mut conn = Connection::open(file)?;
    conn.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = NORMAL;
         CREATE TABLE airport (
             code TEXT PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, state TEXT NOT NULL,
             latitude REAL NOT NULL, longitude REAL NOT NULL, departures INTEGER NOT NULL DEFAULT 0
         ) WITHOUT ROWID;
         CREATE INDEX airport_place ON airport (latitude, longitude);
         CREATE TABLE flight (
             id INTEGER PRIMARY KEY, origin TEXT NOT NULL REFERENCES airport, destination TEXT NOT NULL REFERENCES airport
         );",
    )?;
    let load = conn.transaction()?;
    {
        let mut insert = load.prepare(
            "INSERT INTO airport (code, name, city, state, latitude, longitude) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for a in atlas.airports() {
            insert.execute((&a.code, &a.name, &a.city, &a.state, a.latitude, a.longitude))?;
        }
    }
    load.commit()?;
    Ok(conn)
}

/// Splits one line of a CSV file: fields may be quoted, and a quote inside a quoted field is doubled.
fn fields<const N: usize>(line: &str) -> Result<[String; N], Failure> {
    let (mut fields, mut field, mut quoted) = (Vec::with_capacity(N), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(letter),
        }
    }
    fields.push(field);
    fields.try_into().map_err(|_| format!("not {N} fields: {line}").into())
}

/// SplitMix64 (Steele, Lea, Flood 2014): seeded, so that every entrant gets the same work on every machine.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * u128::from(bound)) >> 64) as u64
    }
}
