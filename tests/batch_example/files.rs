//! Kinds of files: JSON lines, empty ones, records that are too long, and what comes through a pipe.

use crate::program::{Job, Running, good_csv};
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::process::Stdio;

#[test]
fn json_lines_are_rows_whatever_is_in_them_and_bad_ones_are_told() {
    let lines = [
        r#"{"n": 1, "name": "one", "tags": ["a", {"b": 2}], "on": true}"#,
        "",
        r#"{"name": "two", "n": 2.5, "big": 18446744073709551615}"#,
        r#"{"n": 3, "name": nothing}"#,
        r#"[1, 2]"#,
        r#"{"n": null, "name": "späť"}"#,
    ];
    let job = Job::new("t.jsonl", lines.join("\n"));
    let done = job.run(&["--bad-lines", "skip"]);
    assert_eq!(done.code, 3, "{}", done.err);
    assert_eq!(done.err, "line 4: not JSON: expected ident (column 19)\nline 5: not an object\n");
    let rows = job.rows("SELECT n, name, tags, \"on\", big FROM t ORDER BY name");
    assert_eq!(rows, [r#"1.0|one|["a",{"b":2}]|1|"#, "|späť|||", "2.5|two|||18446744073709551615"]);
}

#[test]
fn a_key_that_no_earlier_line_had_is_a_bad_line_and_not_lost_silently() {
    let mut text = (0..1500).map(|n| format!("{{\"n\": {n}}}\n")).collect::<String>();
    text.push_str("{\"n\": 1, \"m\": 2}\n");
    let done = Job::new("t.jsonl", text).run(&["--bad-lines", "skip"]);
    assert_eq!((done.code, &*done.err), (3, "line 1501: there is no column \"m\"\n"));
}

#[test]
fn files_without_records_are_loaded_and_one_without_a_header_is_not() {
    let header = Job::new("t.csv", "a,b\n");
    assert_eq!(header.run(&[]).code, 0);
    assert_eq!(header.rows("SELECT count(*) FROM t"), ["0"]);
    let done = header.run(&["--resume"]);
    assert!(done.code == 0 && done.out.contains("nothing left to do"), "{}", done.out);

    let empty = Job::new("t.csv", "").run(&[]);
    assert_eq!((empty.code, &*empty.err), (1, "error: t.csv is empty: it has no header\n"));
    assert_eq!(Job::new("t.jsonl", "").run(&[]).code, 0);
    assert_eq!(Job::new("t.jsonl", "nothing\n").run(&["--bad-lines", "skip"]).code, 1);
    let twice = Job::new("t.csv", "a,A\n").run(&[]);
    assert_eq!((twice.code, &*twice.err), (1, "error: there are two columns called \"A\"\n"));
}

#[test]
fn a_huge_field_is_loaded_and_one_beyond_the_limit_is_an_error_with_its_line() {
    let huge = "x".repeat(3 << 20);
    for (name, text) in
        [("t.csv", format!("a,b\n1,2\n3,\"{huge}")), ("t.jsonl", format!("{{\"b\":1}}\n\n{{\"b\":\"{huge}\"}}"))]
    {
        let job = Job::new(name, text);
        let done = job.run(&["--max-record", "1000000"]);
        assert_eq!(done.code, 1);
        assert!(done.err.starts_with("error: line 3: "), "{}", done.err);
        assert!(done.err.contains("longer than 1000000 bytes (--max-record)"), "{}", done.err);
        let done = job.run(&["--anew"]);
        assert_eq!(done.code, 0, "{}", done.err);
        assert_eq!(job.rows("SELECT max(length(b)) FROM t"), [(3 << 20).to_string()]);
    }
}

#[test]
fn the_end_of_a_line_does_not_count_for_the_longest_record() {
    let line = r#"{"b":"12345678"}"#;
    let run = |text: &str, most: usize| Job::new("t.jsonl", text).run(&["--max-record", &most.to_string()]);
    for text in [line.to_owned(), format!("{line}\n"), format!("{line}\r\n"), format!("{line}\n{line}\r\n{line}")] {
        let done = run(&text, line.len());
        assert_eq!((done.code, &*done.err), (0, ""), "{text:?}");
        let done = run(&text, line.len() - 1);
        assert!(
            done.code == 1 && done.err.starts_with("error: line 1: the record is longer than 15 bytes"),
            "{text:?}"
        );
    }
}

#[test]
fn standard_input_is_loaded_and_cannot_be_resumed() {
    let job = Job::new("t.csv", "");
    let args = ["-", "--into", "t.db", "--format", "csv", "--table", "t"];
    let mut command = job.command(&args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(good_csv(5000).as_bytes()).expect("it reads");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert_eq!(job.rows("SELECT count(*), sum(id) FROM t"), ["5000|12497500"]);
    let done = job.bare(&[&args[..], &["--resume"]].concat());
    assert!(done.code == 2 && done.err.contains("cannot be resumed"), "{}", done.err);
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let job = Job::new("t.csv", "");
    let mut command = job.command(&["-", "--into", "t.db", "--format", "csv", "--table", "t"]);
    let mut running =
        Running::start(command.args(["--bad-lines", "skip", "--per-transaction", "10"]).stdin(Stdio::piped()));
    // More than the sample, and then nothing more comes, but the pipe stays open: reading never ends.
    running.feed(&format!("a\n1,2\n{}", "1\n".repeat(1500)));
    let running = running.wait_for("line 2: 2 fields");
    running.signal(Signal::INT);
    let running = running.wait_for("interrupted: what is in work is committed");
    running.signal(Signal::INT);
    assert_eq!(running.end().code, 130);
    let committed = job.rows("SELECT count(*) FROM t").concat().parse::<u32>().expect("a number");
    assert!((1..=1500).contains(&committed), "{committed}");
}

#[test]
fn fields_may_be_separated_by_something_else() {
    let job = Job::new("t.tsv", "a\tb\n1\tx,y\n");
    assert_eq!(job.run(&["--delimiter", "tab"]).code, 0);
    assert_eq!(job.rows("SELECT a, b FROM t"), ["1|x,y"]);
    assert!(fs::exists(job.file("t.db")).is_ok_and(|there| there));
}
