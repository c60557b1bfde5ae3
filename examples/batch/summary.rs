//! What the program says at its end.

use super::flags::Flags;
use super::load::{Ending, Loaded};
use indicatif::{HumanBytes, HumanCount, HumanDuration};
use std::env;
use std::time::Duration;

/// Prints the table, and how to go on where there is something left.
pub(crate) fn print(flags: &Flags, loaded: &Loaded) {
    let row = |what: &str, value: String| println!("  {what:<26} {value:>16}");
    let counts = loaded.report.as_ref().map(|report| report.counts).unwrap_or_default();
    let (settled, rejected) = loaded.before;
    println!("\ntable {:?}", loaded.table);
    if settled > 0 {
        row("lines settled before", HumanCount(settled).to_string());
        row("  rejected of them", HumanCount(rejected).to_string());
    }
    row("lines read", HumanCount(counts.read).to_string());
    row("rows committed", HumanCount(counts.done).to_string());
    row("lines rejected", HumanCount(counts.failed).to_string());
    if counts.left > 0 {
        row("lines read, not loaded", HumanCount(counts.left).to_string());
    }
    row("transactions", HumanCount(loaded.transactions).to_string());
    row("time", duration(counts.elapsed));
    row("rows per second", HumanCount(counts.rate() as u64).to_string());
    if let Some(size) = flags.file.as_ref().and_then(|file| file.metadata().ok()).filter(|file| file.is_file()) {
        row("size of the file", HumanBytes(size.len()).to_string());
    }
    if !loaded.pool.is_empty() {
        println!("\nThe writer, which the workers take turns with:\n{}", loaded.pool.trim_end());
    }
    println!();
    match &loaded.ending {
        Ending::Complete if loaded.rejected() > 0 => println!("Loaded, but for the lines that were rejected."),
        Ending::Complete => println!("Every line is loaded."),
        Ending::NothingToDo => println!("There is nothing left to do: this load was completed before."),
        Ending::Interrupted if loaded.can_be_resumed => {
            println!("Interrupted. What is committed stays; to go on:\n\n  {}", command_to_resume());
        }
        Ending::Interrupted => {
            println!("Interrupted. What is committed stays; a source that can be read only once cannot be resumed.");
        }
        Ending::Failed(_) if loaded.can_be_resumed => {
            println!("Failed. What is committed stays; to go on once the reason is gone:\n\n  {}", command_to_resume());
        }
        Ending::Failed(_) => println!("Failed. What is committed stays."),
    }
}

/// As it was called, so that it can be pasted.
fn command_to_resume() -> String {
    let quote = |word: String| match word.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_./=:,".contains(c)) {
        true => format!("'{}'", word.replace('\'', r"'\''")),
        false => word,
    };
    let words = env::args_os().map(|word| quote(word.to_string_lossy().into_owned()));
    let words = words.filter(|word| word != "--resume" && word != "--anew");
    words.chain(["--resume".to_owned()]).collect::<Vec<_>>().join(" ")
}

fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.2} s", duration.as_secs_f64()),
        _ => HumanDuration(duration).to_string(),
    }
}
