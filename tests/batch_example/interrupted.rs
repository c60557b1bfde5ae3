//! A load that is interrupted, politely or not, and goes on: no row is lost, and none is there twice.

use crate::program::{Done, Job, good_csv};
use rustix::process::Signal;
use std::fs;

const RECORDS: u32 = 5000;
const ALL: &str = "SELECT id, name, amount FROM t ORDER BY id, rowid";

/// In transactions of ten, so that there is much to be interrupted.
const SMALL: [&str; 4] = ["--per-transaction", "10", "--workers", "3"];

/// What is in the table when nothing comes in between.
fn in_one_go() -> Vec<String> {
    let job = Job::new("t.csv", good_csv(RECORDS));
    assert_eq!(job.run(&[]).code, 0);
    job.rows(ALL)
}

fn count(job: &Job) -> u32 {
    job.rows("SELECT count(*) FROM t").concat().parse().expect("a number")
}

fn resume(job: &Job) -> Done {
    job.run(&[&SMALL[..], &["--resume"]].concat())
}

#[test]
fn ctrl_c_keeps_what_is_committed_says_how_to_go_on_and_that_does() {
    for signal in [Signal::INT, Signal::TERM] {
        let job = Job::new("t.csv", good_csv(RECORDS));
        let running = job.run_to("read:2500", &SMALL);
        running.signal(signal);
        let done = running.end();
        assert_eq!(done.code, 130, "{}", done.err);
        assert!(done.err.contains("interrupted: what is in work is committed"), "{}", done.err);
        assert!(done.out.contains("--into t.db --per-transaction 10 --workers 3 --resume\n"), "{}", done.out);
        let committed = count(&job);
        // Two transactions for each worker are read ahead of what has ended, the first of which are finished.
        assert!((2440..=2500).contains(&committed), "{committed}");

        let done = job.run(&SMALL);
        assert_eq!(done.code, 1);
        assert!(done.err.contains("was interrupted: --resume goes on with it, --anew forgets it"), "{}", done.err);
        assert_eq!(count(&job), committed, "nothing was loaded twice by mistake");

        let done = resume(&job);
        assert_eq!(done.code, 0, "{}", done.err);
        let line = |what: &str| done.out.lines().find(|line| line.contains(what)).map(|line| line.replace(',', ""));
        assert!(
            line("lines settled before").is_some_and(|line| line.ends_with(&format!(" {committed}"))),
            "{}",
            done.out
        );
        let rest = RECORDS - committed;
        assert!(line("rows committed").is_some_and(|line| line.ends_with(&format!(" {rest}"))), "{}", done.out);
        assert_eq!(job.rows(ALL), in_one_go());
        assert_eq!(resume(&job).code, 0, "once more, there is nothing left to do");
        assert_eq!(count(&job), RECORDS);
    }
}

#[test]
fn after_kill_9_at_any_place_again_and_again_it_goes_on_exactly() {
    let expected = in_one_go();
    let job = Job::new("t.csv", good_csv(RECORDS));
    let mut before = 0;
    // Before anything is read, between transactions, and within one, after its rows and its progress are written.
    for (nth, gate) in
        ["read:0", "read:1500", "commit:1", "commit:2", "commit:57", "read:4200", "commit:9"].iter().enumerate()
    {
        let goes_on: &[&str] = if nth == 0 { &[] } else { &["--resume"] };
        let running = job.run_to(gate, &[&SMALL[..], goes_on].concat());
        running.signal(Signal::KILL);
        assert_eq!(running.end().code, -1);
        let (rows, progress) = (count(&job), "SELECT coalesce(sum(next - first), 0) FROM millpond_batch_progress");
        assert_eq!(job.rows(progress), [rows.to_string()], "{gate}: rows and progress are one");
        assert!(rows >= before, "{gate}: {rows} of {before} rows are left");
        before = rows;
    }
    assert!((4000..RECORDS).contains(&before), "{before}");
    let done = resume(&job);
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(job.rows(ALL), expected);
    assert_eq!(job.rows("SELECT first, next, failed FROM millpond_batch_progress"), [format!("0|{RECORDS}|0")]);
    assert_eq!(job.rows("PRAGMA integrity_check"), ["ok"]);
}

#[test]
fn bad_lines_are_counted_once_over_all_runs() {
    let mut lines: Vec<_> = (0..3000).map(|n| format!("{{\"n\": {n}}}")).collect();
    for bad in (7..3000).step_by(100) {
        lines[bad] = format!("bad {bad}");
    }
    let job = Job::new("t.jsonl", lines.join("\n"));
    let args = ["--bad-lines", "skip", "--rejects", "bad.csv", "--per-transaction", "10", "--workers", "3"];
    for gate in ["read:1000", "commit:30"] {
        let going_on: &[&str] = if gate == "read:1000" { &[] } else { &["--resume"] };
        let running = job.run_to(gate, &[&args[..], going_on].concat());
        running.signal(Signal::INT);
        assert_eq!(running.end().code, 130);
    }
    let done = job.run(&[&args[..], &["--resume"]].concat());
    assert_eq!(done.code, 3, "rejected by this run or an earlier one");
    assert_eq!(job.rows("SELECT count(*), count(DISTINCT n) FROM t"), ["2970|2970"]);
    assert_eq!(job.rows("SELECT sum(failed) FROM millpond_batch_progress"), ["30"]);
    assert_eq!(rejected(&job), (8..3001).step_by(100).collect::<Vec<_>>());
    assert_eq!(job.run(&[&args[..], &["--resume"]].concat()).code, 3, "as before, when there is nothing left to do");
}

#[test]
fn another_file_or_another_way_to_read_it_is_refused() {
    let job = Job::new("t.csv", good_csv(RECORDS));
    let running = job.run_to("read:2500", &SMALL);
    running.signal(Signal::KILL);
    drop(running);
    let committed = count(&job);

    let text = good_csv(RECORDS);
    let refused = |changed: &str| {
        fs::write(job.file("t.csv"), changed).expect("there is room");
        let done = resume(&job);
        assert_eq!(done.code, 1);
        assert!(
            done.err.starts_with("error: cannot resume: t.csv is not the file whose load into \"t\""),
            "{}",
            done.err
        );
        assert_eq!(count(&job), committed);
    };
    // One byte in the middle, with the same size; and a line more.
    refused(&text.replace("2600.25", "2600.26"));
    refused(&format!("{text}1,2,3\n"));

    fs::write(job.file("t.csv"), &text).expect("there is room");
    let done = job.run(&["--resume", "--delimiter", ";"]);
    assert!(done.code == 1 && done.err.contains("cannot resume: the file was read as Csv ','"), "{}", done.err);
    assert_eq!(resume(&job).code, 0);
    assert_eq!(job.rows(ALL), in_one_go());
}

#[test]
fn anew_forgets_an_interrupted_load_and_keeps_its_rows() {
    let job = Job::new("t.csv", good_csv(100));
    drop(job.run_to("commit:3", &["--per-transaction", "10", "--workers", "1"]));
    assert_eq!(count(&job), 20);
    assert_eq!(job.run(&["--anew"]).code, 0);
    assert_eq!(count(&job), 120);
    assert_eq!(job.run(&["--resume"]).code, 0);
    assert_eq!(count(&job), 120);
}

/// The numbers of the lines in the file of rejects, in order.
fn rejected(job: &Job) -> Vec<u32> {
    let rejects = fs::read_to_string(job.file("bad.csv")).expect("it is written");
    let mut numbers: Vec<u32> =
        rejects.lines().skip(1).filter_map(|line| line.split(',').next()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_bad_line_that_ends_a_load_is_rejected_once_by_the_one_that_goes_on() {
    let mut lines: Vec<_> = (0..100).map(|n| format!("{{\"n\": {n}}}")).collect();
    lines[50] = "bad".to_owned();
    let job = Job::new("t.jsonl", lines.join("\n"));
    let args = ["--rejects", "bad.csv", "--per-transaction", "10", "--workers", "1"];
    let done = job.run(&args);
    assert!(done.code == 1 && done.err.starts_with("error: line 51: not JSON"), "{}", done.err);
    assert_eq!((count(&job), rejected(&job)), (50, vec![]), "it is not settled");
    assert_eq!(job.run(&[&args[..], &["--resume", "--bad-lines", "skip"]].concat()).code, 3);
    assert_eq!((count(&job), rejected(&job)), (99, vec![51]));
}

#[test]
fn a_bad_line_whose_transaction_is_lost_is_rejected_once_by_the_load_that_goes_on() {
    let mut lines: Vec<_> = (0..100).map(|n| format!("{{\"n\": {n}, \"of\": 1}}")).collect();
    // In one transaction: a line that is bad as it stands, one that the table refuses, and one that only the commit refuses.
    (lines[51], lines[53]) = ("bad".to_owned(), "{\"n\": -1, \"of\": 1}".to_owned());
    lines[52] = "{\"n\": 52, \"of\": 2}".to_owned();
    let job = Job::new("t.jsonl", lines.join("\n"));
    job.sql(
        "CREATE TABLE whole (id INTEGER PRIMARY KEY); INSERT INTO whole VALUES (1);
         CREATE TABLE t (n INTEGER CHECK (n >= 0), \"of\" INTEGER REFERENCES whole DEFERRABLE INITIALLY DEFERRED)",
    );
    let args = ["--bad-lines", "skip", "--rejects", "bad.csv", "--per-transaction", "10", "--workers", "1"];
    let done = job.run(&args);
    assert!(done.code == 1 && done.err.contains("FOREIGN KEY constraint failed"), "{}", done.err);
    assert_eq!((count(&job), rejected(&job)), (50, vec![]), "nothing of that transaction is settled");
    job.sql("INSERT INTO whole VALUES (2)");
    let done = job.run(&[&args[..], &["--resume"]].concat());
    assert_eq!(done.code, 3, "{}", done.err);
    assert_eq!((count(&job), rejected(&job)), (98, vec![52, 54]));
    assert_eq!(job.rows("SELECT sum(failed) FROM millpond_batch_progress"), ["2"]);
}
