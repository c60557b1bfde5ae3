//! Clocks, crews of threads, and what is made of the numbers.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

fn cpu_clock(id: ClockId) -> Duration {
    let spent = clock_gettime(id);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// CPU time of the calling thread: does not count what other processes took.
pub fn thread_cpu() -> Duration {
    cpu_clock(ClockId::ThreadCPUTime)
}

/// CPU time of all threads, the pools' own included.
pub fn process_cpu() -> Duration {
    cpu_clock(ClockId::ProcessCPUTime)
}

/// How long the calling thread has stood in the scheduler's queue, ready to run, while others ran. Zero where the system
/// does not tell.
fn queued() -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = told.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// What a crew of threads did between the common start and the stop.
#[derive(Debug)]
pub struct Run<R> {
    pub results: Vec<R>,
    pub elapsed: Duration,
    /// CPU time of the process over the same time.
    pub cpu: Duration,
    /// CPU time of the working threads alone.
    pub crew_cpu: Duration,
    /// How long the working threads stood in the scheduler's queue.
    queued: Duration,
}

impl<R> Run<R> {
    /// Whether other processes had the cores that these threads needed. With more threads than cores they have them from
    /// each other, and nothing can be said.
    pub fn is_disturbed(&self) -> bool {
        let threads = self.results.len();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        threads <= cores && self.queued > self.elapsed * threads as u32 / 20
    }
}

/// Runs again while other processes disturb it, some times: a thread without its core says nothing about a pool.
pub fn undisturbed<R>(mut run: impl FnMut() -> Run<R>) -> Run<R> {
    const TRIES: usize = 3;
    for _ in 1..TRIES {
        let ran = run();
        if !ran.is_disturbed() {
            return ran;
        }
    }
    run()
}

/// Runs `work` on `threads` threads for `span`. Each thread runs `prepare` before the common start: opening what it
/// needs, and warming up, so that caches and lazily checked connections are not part of what is measured.
pub fn crew<S, R: Send>(
    threads: usize,
    span: Duration,
    prepare: impl Fn(usize) -> S + Sync,
    work: impl Fn(&mut S, &AtomicBool) -> R + Sync,
) -> Run<R> {
    let stop = AtomicBool::new(false);
    let (ready, start) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    thread::scope(|scope| {
        let crew: Vec<_> = (0..threads)
            .map(|number| {
                let (stop, ready, start, prepare, work) = (&stop, &ready, &start, &prepare, &work);
                scope.spawn(move || {
                    let mut state = prepare(number);
                    ready.wait();
                    start.wait();
                    let waited = queued();
                    let (begun, cpu) = (Instant::now(), thread_cpu());
                    let result = work(&mut state, stop);
                    let cpu = thread_cpu() - cpu;
                    (result, begun, cpu, queued() - waited)
                })
            })
            .collect();
        ready.wait();
        let cpu = process_cpu();
        start.wait();
        thread::sleep(span);
        let (stopped, cpu) = (Instant::now(), process_cpu() - cpu);
        stop.store(true, Ordering::Relaxed);

        // With more threads than cores this one may wake long after the first of the crew: theirs is the beginning.
        let mut earliest = stopped;
        let (mut crew_cpu, mut queued) = (Duration::ZERO, Duration::ZERO);
        let mut results = Vec::with_capacity(threads);
        for member in crew {
            let (result, begun, cpu, waited) = member.join().expect("nothing in a measured loop panics");
            earliest = earliest.min(begun);
            crew_cpu += cpu;
            queued += waited;
            results.push(result);
        }
        Run { results, elapsed: stopped - earliest, cpu, crew_cpu, queued }
    })
}

/// Each of so many threads does it once, as soon as it has been started. No thread ends before all are through, as a
/// server's do not: the end of a thread holds up the memory allocation of the others.
pub fn crowd<R: Send>(threads: usize, meanwhile: impl FnOnce(), job: impl Fn() -> R + Sync) -> Vec<R> {
    let through = Barrier::new(threads);
    thread::scope(|scope| {
        let crew: Vec<_> = (0..threads)
            .map(|_| {
                let (job, through) = (&job, &through);
                let work = move || {
                    let result = job();
                    through.wait();
                    result
                };
                // With little stack, because there are thousands.
                thread::Builder::new()
                    .stack_size(128 << 10)
                    .spawn_scoped(scope, work)
                    .expect("so many threads can be had")
            })
            .collect();
        meanwhile();
        crew.into_iter().map(|member| member.join().expect("nobody panics")).collect()
    })
}

/// Nanoseconds of one run.
pub fn timed(job: impl FnOnce()) -> u64 {
    let begun = Instant::now();
    job();
    begun.elapsed().as_nanos() as u64
}

/// The value at quantile `q` of 0 to 1; sorts. Zero when there is none.
pub fn quantile(values: &mut [u64], q: f64) -> u64 {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * q).ceil() as usize).copied().unwrap_or(0)
}

/// One value per round.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        }
    }

    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    pub fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    /// This over the other, round by round: what changed between rounds is in both.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(own, its)| own / its).collect())
    }
}

impl FromIterator<f64> for Rounds {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let rounds: Rounds = [4.0, 1.0, 3.0, 2.0].into_iter().collect();
        assert_eq!(rounds.median(), 2.5);
        assert_eq!((rounds.least(), rounds.most()), (1.0, 4.0));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let fast: Rounds = [10.0, 100.0].into_iter().collect();
        let slow: Rounds = [5.0, 50.0].into_iter().collect();
        assert_eq!(fast.over(&slow).median(), 2.0);
    }

    #[test]
    fn quantiles_reach_from_the_least_to_the_most() {
        let mut waits = [5, 1, 4, 2, 3];
        assert_eq!(quantile(&mut waits, 0.0), 1);
        assert_eq!(quantile(&mut waits, 0.5), 3);
        assert_eq!(quantile(&mut waits, 1.0), 5);
        assert_eq!(quantile(&mut [], 0.5), 0);
    }
}
