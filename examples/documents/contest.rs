//! The contest: the same requests of the same threads, over one shared agent and through a pool of clients.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value as Json, json};

use crate::Failure;
use crate::airports::{Airport, Atlas, Dice};
use crate::client::{ClientError, Comparison, Direction, Documents, Fields, KeepAlive, Wanted};
use crate::server::{Census, Manners};
use crate::site::{Opener, Site};
use crate::store::Stores;

pub(crate) const AIRPORTS: &str = "airports";
/// How many airports of a state are asked for.
const NORTHERNMOST: usize = 3;

/// How much is done.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) threads: u64,
    pub(crate) rounds: u64,
    /// By each thread, in each round.
    pub(crate) requests: u64,
    /// The size of the pool.
    pub(crate) clients: u32,
    pub(crate) manners: Manners,
}

impl Scale {
    pub(crate) fn requests_of_all(&self) -> u64 {
        self.threads * self.rounds * self.requests
    }
}

/// Something to be done with a client, and a way to have it done.
type Job<'a, D> = &'a mut dyn FnMut(&mut D) -> Result<(), Failure>;
type Lend<D> = Box<dyn Fn(Job<'_, D>) -> Result<(), Failure> + Sync>;

struct Entrant<D> {
    name: String,
    bound: Option<u32>,
    site: Site,
    lend: Lend<D>,
    tally: Tally,
    elapsed: Duration,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) name: String,
    /// The most connections that it may have open, if it knows any bound.
    pub(crate) bound: Option<u32>,
    pub(crate) census: Census,
    pub(crate) elapsed: Duration,
    pub(crate) tally: Tally,
}

#[derive(Default)]
pub(crate) struct Tally {
    /// Until there was a client to send the request with.
    pub(crate) waits: Vec<Duration>,
    /// From then on, until the answer was there.
    pub(crate) answers: Vec<Duration>,
    pub(crate) puts: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<Failure>,
}

/// Lets the ways of sending requests play in turns, each against a server of its own, so that the server's counts are its
/// alone. All servers have the same documents behind them.
pub(crate) fn run<D: Documents>(
    title: &str,
    open: &impl Opener<D>,
    stores: &Arc<Stores>,
    atlas: &Atlas,
    scale: Scale,
) -> Result<Vec<Outcome>, Failure> {
    let mut entrants = vec![
        // As many idle connections for a server, and for so long, as agents keep if nobody says otherwise.
        shared_agent("one agent", KeepAlive { connections: 3, idle: Duration::from_secs(15) }, open, stores, scale)?,
        shared_agent(
            &format!("keeping {}", scale.threads),
            KeepAlive { connections: scale.threads as usize, ..KeepAlive::ONE },
            open,
            stores,
            scale,
        )?,
        pooled(open, stores, scale)?,
    ];

    // indicatif draws on standard error, and only when that is a terminal.
    let bar = ProgressBar::new(entrants.len() as u64 * scale.requests_of_all());
    bar.set_style(ProgressStyle::with_template("{msg:>22} {wide_bar} {percent:>3} %, {eta} left")?);
    for round in 0..scale.rounds {
        for entrant in &mut entrants {
            bar.set_message(format!("{title}: {}", entrant.name));
            entrant.play(round, atlas, scale, &bar)?;
        }
    }
    bar.finish_and_clear();
    let outcome = |entrant: Entrant<D>| {
        let Entrant { name, bound, site, elapsed, tally, .. } = entrant;
        Outcome { name, bound, census: site.server.census(), elapsed, tally }
    };
    Ok(entrants.into_iter().map(outcome).collect())
}

fn shared_agent<D: Documents>(
    name: &str,
    keep: KeepAlive,
    open: &impl Opener<D>,
    stores: &Arc<Stores>,
    scale: Scale,
) -> Result<Entrant<D>, Failure> {
    let site = Site::open(scale.manners, stores)?;
    let (base, agent, open) = (site.base(), keep.agent(), open.clone());
    // An agent is a handle: its clones share their connections.
    let lend = move |job: Job<'_, D>| job(&mut open(&base, agent.clone())?);
    Ok(Entrant::new(name.to_owned(), None, site, Box::new(lend)))
}

fn pooled<D: Documents>(open: &impl Opener<D>, stores: &Arc<Stores>, scale: Scale) -> Result<Entrant<D>, Failure> {
    let site = Site::open(scale.manners, stores)?;
    let pool = site.clients(open).max_size(scale.clients).build()?;
    let lend = move |job: Job<'_, D>| job(&mut *pool.get()?);
    Ok(Entrant::new(format!("pool of {}", scale.clients), Some(scale.clients), site, Box::new(lend)))
}

impl<D: Documents> Entrant<D> {
    fn new(name: String, bound: Option<u32>, site: Site, lend: Lend<D>) -> Self {
        Self { name, bound, site, lend, tally: Tally::default(), elapsed: Duration::ZERO }
    }

    fn play(&mut self, round: u64, atlas: &Atlas, scale: Scale, bar: &ProgressBar) -> Result<(), Failure> {
        let (lend, name) = (&*self.lend, self.name.as_str());
        let start = Instant::now();
        let tallies: Vec<_> = thread::scope(|scope| {
            let one =
                |worker| scope.spawn(move || Tally::of(name, lend, round * scale.threads + worker, atlas, scale, bar));
            let workers: Vec<_> = (0..scale.threads).map(one).collect();
            workers.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        self.elapsed += start.elapsed();
        for tally in tallies {
            self.tally.add(tally.map_err(|_| format!("{}: a worker panicked", self.name))?);
        }
        Ok(())
    }
}

impl Tally {
    /// One worker's share of one round. Worker and round decide what is drawn, so no entrant is dealt an easier hand.
    fn of<D: Documents>(
        name: &str,
        lend: &(dyn Fn(Job<'_, D>) -> Result<(), Failure> + Sync),
        seed: u64,
        atlas: &Atlas,
        scale: Scale,
        bar: &ProgressBar,
    ) -> Self {
        let (mut tally, mut dice) = (Self::default(), Dice(seed));
        for number in 0..scale.requests {
            let request = Request::draw(atlas, &mut dice, || format!("{name}/{seed}/{number}"));
            let asked = Instant::now();
            let mut lent = None;
            let outcome = lend(&mut |client| {
                lent = Some(Instant::now());
                request.send(client, name, atlas)
            });
            let lent = lent.unwrap_or_else(Instant::now);
            tally.waits.push(lent - asked);
            tally.answers.push(lent.elapsed());
            match outcome {
                Ok(()) => tally.puts += u64::from(request.is_put()),
                Err(error) => {
                    tally.errors += 1;
                    tally.first_error.get_or_insert(error);
                }
            }
        }
        bar.inc(scale.requests);
        tally
    }

    fn add(&mut self, other: Self) {
        self.waits.extend(other.waits);
        self.answers.extend(other.answers);
        self.puts += other.puts;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

enum Request<'a> {
    Get(&'a Airport),
    Find(&'a str),
    Put { id: String, to: &'a Airport },
}

impl<'a> Request<'a> {
    /// 50 % gets, 30 % queries, 20 % puts.
    fn draw(atlas: &'a Atlas, dice: &mut Dice, id: impl FnOnce() -> String) -> Self {
        let airport = atlas.airport(dice);
        match dice.below(100) {
            0..50 => Self::Get(airport),
            50..80 => Self::Find(&airport.state),
            // Firestore takes no slash in an id, encoded or not.
            _ => Self::Put { id: id().replace('/', ":"), to: airport },
        }
    }

    fn is_put(&self) -> bool {
        matches!(self, Self::Put { .. })
    }

    /// Sends it, and compares the answer with what is known.
    fn send(&self, client: &mut impl Documents, entrant: &str, atlas: &Atlas) -> Result<(), Failure> {
        match self {
            Self::Get(airport) => {
                let found = client.get(AIRPORTS, &airport.code)?;
                expect(found == document(airport), || format!("{} is {found:?}", airport.code))
            }
            Self::Find(state) => {
                let found = northernmost(client, state)?;
                expect(found == known_northernmost(atlas, state), || format!("northernmost of {state}: {found:?}"))
            }
            Self::Put { id, to } => Ok(client.put(&visits(entrant), id, &document(to))?),
        }
    }
}

fn expect(right: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if right { Ok(()) } else { Err(format!("wrong answer: {}", otherwise()).into()) }
}

/// The collection that an entrant writes to.
pub(crate) fn visits(entrant: &str) -> String {
    format!("visits: {entrant}")
}

/// An airport as a document.
pub(crate) fn document(airport: &Airport) -> Fields {
    let Airport { name, city, state, latitude, longitude, .. } = airport;
    let fields = json!({
        "name": name, "city": city, "state": state, "latitude": latitude, "longitude": longitude,
    });
    fields.as_object().map_or_else(Map::new, Clone::clone)
}

/// The codes of the airports of a state that lie farthest north.
pub(crate) fn northernmost(client: &mut impl Documents, state: &str) -> Result<Vec<String>, ClientError> {
    let wanted = Wanted {
        conditions: vec![("state", Comparison::Equal, Json::from(state))],
        order: vec![("latitude", Direction::Descending)],
        limit: Some(NORTHERNMOST as u32),
    };
    Ok(client.find(AIRPORTS, &wanted)?.into_iter().map(|(code, _)| code).collect())
}

fn known_northernmost(atlas: &Atlas, state: &str) -> Vec<String> {
    let mut airports: Vec<_> = atlas.airports().iter().filter(|airport| airport.state == state).collect();
    airports.sort_by(|a, b| b.latitude.total_cmp(&a.latitude).then_with(|| a.code.cmp(&b.code)));
    airports.into_iter().take(NORTHERNMOST).map(|airport| airport.code.clone()).collect()
}

/// Puts all airports into a store, each as a document of its own.
pub(crate) fn load(client: &mut impl Documents, atlas: &Atlas) -> Result<(), ClientError> {
    atlas.airports().iter().try_for_each(|airport| client.put(AIRPORTS, &airport.code, &document(airport)))
}
