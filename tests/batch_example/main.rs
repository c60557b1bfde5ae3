//! The example of a batch job, as its users run it: files, flags, exit codes, signals.
#![cfg(unix)]

#[path = "../support/mod.rs"]
mod support;

mod files;
mod interrupted;
mod program;

use program::{Job, good_csv};
use std::fs;

#[test]
fn a_good_file_is_loaded_with_types_and_whatever_names_it_has() {
    let job = Job::new(
        "my \"odd\"; table.csv",
        "id,\"a \"\"b\"\"\",code,drop table x,\n1,1.5,007,x,\n2,-2,08,\"y, z\",tail\n",
    );
    let done = job.run(&[]);
    assert_eq!((done.code, &*done.err), (0, ""), "{}", done.out);
    assert!(done.out.contains("Every line is loaded."), "{}", done.out);
    let rows = job.rows(r#"SELECT id, "a ""b""", code, "drop table x", column_5 FROM "my ""odd""; table" ORDER BY id"#);
    assert_eq!(rows, ["1|1.5|007|x|", "2|-2.0|08|y, z|tail"]);
    let types =
        r#"SELECT typeof(id), typeof("a ""b"""), typeof(code), typeof(column_5) FROM "my ""odd""; table" LIMIT 1"#;
    assert_eq!(job.rows(types), ["integer|real|text|null"]);
}

#[test]
fn the_command_line_alone_shows_something_and_its_mistakes_have_a_code_of_their_own() {
    let job = Job::new("a.csv", "a\n1\n");
    let done = job.bare(&[]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains("rows committed                        5,348"), "{}", done.out);
    assert!(done.out.contains("SFO to LAX: 13788 flights") && done.out.contains("--resume"), "{}", done.out);
    for wrong in
        [&["a.csv"][..], &["--resume"], &["-", "--into", "x.db"], &["a.csv", "--into", "x.db", "--workers", "0"]]
    {
        let done = job.bare(wrong);
        assert_eq!(done.code, 2, "{wrong:?}: {}", done.err);
        assert!(done.err.starts_with("error: "), "{}", done.err);
    }
    let help = job.bare(&["--help"]);
    assert!(help.code == 0 && help.out.contains("130  interrupted"), "{}", help.out);
}

#[test]
fn a_file_that_is_not_there_is_a_failure_that_names_it() {
    let job = Job::new("a.csv", "a\n1\n");
    let done = job.bare(&["missing.csv", "--into", "a.db"]);
    assert_eq!(done.code, 1);
    assert!(done.err.starts_with("error: missing.csv: No such file"), "{}", done.err);
    let done = job.bare(&[".", "--into", "a.db", "--format", "csv", "--table", "t"]);
    assert!(done.code == 1 && done.err.contains(". is a folder"), "{}", done.err);
}

#[test]
fn bad_lines_are_skipped_and_told_with_their_numbers_and_reasons() {
    let mut text = b"id,text\n1,good\n2,\"two\nlines\"\n3\n4,\xff\xfe\n5,a,b\n6,good\n".to_vec();
    text.extend((7..40).flat_map(|_| *b"nothing\n"));
    let job = Job::new("t.csv", text);
    // One worker: with more, bad lines are told in the order in which their transactions end.
    let done = job.run(&["--bad-lines", "skip", "--rejects", "bad.csv", "--per-transaction", "3", "--workers", "1"]);
    assert_eq!(done.code, 3, "{}", done.err);
    let told: Vec<_> = done.err.lines().collect();
    assert_eq!(told.len(), 21, "twenty, and how many more: {told:?}");
    assert_eq!(
        told[..4],
        [
            "line 5: 1 fields, where the header has 2",
            "line 6: \"text\" is not UTF-8 (byte 1)",
            "line 7: 3 fields, where the header has 2",
            "line 9: 1 fields, where the header has 2"
        ]
    );
    assert_eq!(told.last(), Some(&"… and 16 more bad lines"));
    assert_eq!(job.rows("SELECT id, text FROM t ORDER BY id"), ["1|good", "2|two\nlines", "6|good"]);
    let rejects = fs::read_to_string(job.file("bad.csv")).expect("it is written");
    assert_eq!(rejects.lines().count(), 37, "a header, and all of them");
    assert!(rejects.starts_with("line,reason,text\n5,\"1 fields, where the header has 2\",3\n"), "{rejects}");
}

#[test]
fn lines_are_counted_as_editors_count_them_whatever_they_end_with() {
    for (text, lines) in [
        ("id,text\r\n1,good\r\n2\r\n3,\"two\r\nlines\"\r\n4\r\n", [3, 6]),
        ("id,text\n1,good\n\n\n2\n\r\n3,good\n4", [5, 8]),
        ("id,text\n\n1\n2,\"\n\n\n\"\n3\n", [3, 8]),
    ] {
        let job = Job::new("t.csv", text);
        let done = job.run(&["--bad-lines", "skip", "--workers", "1"]);
        let told: Vec<_> = done.err.lines().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect();
        assert_eq!(told, lines.map(|line| format!("line {line}")), "{text:?}: {}", done.err);
    }
}

#[test]
fn what_is_no_number_in_a_column_of_numbers_stays_as_it_is() {
    let mut text = "price\n".to_owned() + &"1.5\n".repeat(2000);
    text += "NaN\n";
    let job = Job::new("t.csv", text);
    assert_eq!(job.run(&[]).code, 0);
    assert_eq!(job.rows("SELECT price FROM t WHERE typeof(price) <> 'real' ORDER BY 1"), ["NaN"]);
}

#[test]
fn the_first_bad_line_is_fatal_unless_it_is_said_otherwise_and_what_was_committed_stays() {
    let mut text = good_csv(1000);
    text.push_str("x,y\n");
    text.push_str(&good_csv(1000).lines().skip(1).map(|line| format!("{line}\n")).collect::<String>());
    let job = Job::new("t.csv", text);
    let done = job.run(&["--per-transaction", "10", "--workers", "1"]);
    assert_eq!(done.code, 1);
    assert!(done.err.ends_with("error: line 1102: 2 fields, where the header has 3\n"), "{}", done.err);
    assert!(done.out.contains("Failed. What is committed stays"), "{}", done.out);
    assert_eq!(job.rows("SELECT count(*), count(DISTINCT id) FROM t"), ["1000|1000"]);
}

#[test]
fn what_violates_a_constraint_of_a_table_that_is_there_is_a_bad_line_and_it_alone() {
    let job = Job::new("t.csv", good_csv(500));
    job.sql(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'name 77'), amount REAL, more DEFAULT 'm')",
    );
    job.sql("INSERT INTO t (id, name) VALUES (123, 'there before')");
    let done = job.run(&["--bad-lines", "skip", "--per-transaction", "100"]);
    assert_eq!(done.code, 3);
    let mut told: Vec<_> = done.err.lines().collect();
    told.sort_unstable();
    // Each tenth name has a line break: before record 77 there are 8 of them, and the header.
    assert_eq!(
        told,
        ["line 138: UNIQUE constraint failed: t.id", "line 87: CHECK constraint failed: name <> 'name 77'"]
    );
    assert_eq!(job.rows("SELECT count(*), count(more) FROM t"), ["499|499"]);
}

#[test]
fn the_columns_of_a_table_that_is_there_are_those_of_the_file_or_it_is_an_error() {
    let job = Job::new("t.csv", "id,other\n1,2\n");
    job.sql("CREATE TABLE t (id INTEGER)");
    let done = job.run(&[]);
    assert_eq!(done.code, 1);
    assert_eq!(done.err, "error: the table \"t\" has no column \"other\", but id\n");
    assert_eq!(job.rows("SELECT count(*) FROM sqlite_schema"), ["1"], "the ledger was not begun either");
}

#[test]
fn the_comparison_checks_every_database_and_shows_ratios() {
    let job = Job::new("t.csv", good_csv(3000));
    let done = job.bare(&["t.csv", "--compare", "--rounds", "1", "--per-transaction", "100", "--workers", "3"]);
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.starts_with("3,000 rows, 100 in a transaction, 3 workers; medians of 1 rounds:"), "{}", done.out);
    for name in ["one connection", "r2d2", "millpond"] {
        assert!(
            done.out.lines().any(|line| line.trim_start().starts_with(name) && line.ends_with(" x")),
            "{}",
            done.out
        );
    }
    assert!(!job.file("t.db").exists());
}
