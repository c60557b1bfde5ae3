//! What the system says of this process: its threads, its descriptors, its memory.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How many threads have a name that begins so; all of them for the empty one.
pub fn threads(prefix: &str) -> usize {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

/// How many descriptors are open, without the one that looks.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count).saturating_sub(1)
}

/// Resident memory in bytes.
pub fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Waits until `done`; how long it took, or `None` if it was not done within `limit`.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> Option<Duration> {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > limit {
            return None;
        }
        // The kernel announces neither the end of a thread nor that of a descriptor.
        thread::sleep(Duration::from_micros(200));
    }
    Some(begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_thread_is_counted_by_its_name_until_it_has_ended() {
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("counted".to_owned()).spawn(move || ended.recv());
        let thread = thread.expect("the system has a thread left");
        // A thread gives itself its name after it has been started.
        assert!(wait_until(SOON, || threads("counted") == 1).is_some());
        drop(end);
        thread.join().expect("it only waits").expect_err("nothing is ever sent");
        assert!(wait_until(SOON, || threads("counted") == 0).is_some());
    }

    #[test]
    fn an_open_file_is_a_descriptor() {
        let files: Vec<_> = (0..100).map(|_| File::open("/dev/null").expect("it is there")).collect();
        assert!(descriptors() > files.len());
        assert!(resident() > 0);
    }
}
