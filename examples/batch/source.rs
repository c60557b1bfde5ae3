//! Reading: a file as a stream of records with their line numbers, one in memory at a time.

use super::Failure;
use super::flags::{Flags, Format};
use super::lines::Lines;
use csv::ByteRecord;
use sha2::{Digest, Sha256};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

/// A record, and the line on which it begins.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) record: Record,
}

#[derive(Clone, Debug)]
pub(crate) enum Record {
    Csv(ByteRecord),
    Json(Vec<u8>),
}

/// By what a file is known to be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

/// The records of a file, from its first to its last.
pub(crate) struct Source {
    records: Records,
    /// The names in the header of a CSV file.
    pub(crate) header: Option<Vec<String>>,
    /// How far it is.
    pub(crate) meter: Rc<Meter>,
    /// The size, where it is known.
    pub(crate) size: Option<u64>,
}

enum Records {
    Csv(Box<csv::Reader<Metered>>),
    Json { lines: BufReader<Metered>, number: u64, longest: u64 },
}

/// Bytes that were read, all in all and of the record that is being read.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) bytes: Cell<u64>,
    of_this_record: Cell<u64>,
    lines: RefCell<Lines>,
}

/// Counts what it reads, and fails where a record is too long.
struct Metered {
    from: Box<dyn Read>,
    meter: Rc<Meter>,
    longest: u64,
}

impl Read for Metered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // What was read before may belong to the next record, but for the last piece of it.
        if self.meter.of_this_record.get() > self.longest.saturating_add(BUFFER as u64) {
            return Err(too_long(self.longest));
        }
        let read = self.from.read(into)?;
        self.meter.bytes.update(|bytes| bytes + read as u64);
        self.meter.of_this_record.update(|bytes| bytes + read as u64);
        self.meter.lines.borrow_mut().read(into.get(..read).unwrap_or_default());
        Ok(read)
    }
}

const BUFFER: usize = 1 << 16;

fn too_long(longest: u64) -> io::Error {
    io::Error::other(format!("the record is longer than {longest} bytes (--max-record): is a quote not closed?"))
}

impl Source {
    pub(crate) fn open(file: &Path, flags: &Flags) -> Result<Self, Failure> {
        let (from, size): (Box<dyn Read>, _) = if file.as_os_str() == "-" {
            (Box::new(io::stdin()), None)
        } else {
            let from = open(file)?;
            let size = from.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
            (Box::new(from), size)
        };
        let meter = Rc::new(Meter::default());
        let metered = Metered { from, meter: Rc::clone(&meter), longest: flags.max_record };
        let mut source = match flags.format() {
            Format::Csv => {
                // Records of any length come through, so that they can be told of with their lines.
                let mut options = csv::ReaderBuilder::new();
                options.flexible(true).delimiter(flags.delimiter).buffer_capacity(BUFFER);
                Self { records: Records::Csv(Box::new(options.from_reader(metered))), header: None, meter, size }
            }
            Format::Jsonl => {
                let lines = BufReader::with_capacity(BUFFER, metered);
                let records = Records::Json { lines, number: 0, longest: flags.max_record };
                Self { records, header: None, meter, size }
            }
        };
        if let Records::Csv(reader) = &mut source.records {
            let header = reader.byte_headers().map_err(|error| format!("the header of {}: {error}", file.display()))?;
            let names = header.iter().map(|name| String::from_utf8(name.to_vec()));
            let names: Vec<_> = names.collect::<Result<_, _>>().map_err(|_| "the header is not UTF-8")?;
            if names.is_empty() {
                return Err(format!("{} is empty: it has no header", file.display()).into());
            }
            source.header = Some(names);
        }
        Ok(source)
    }

    pub(crate) fn next(&mut self) -> Result<Option<Line>, Failure> {
        self.meter.of_this_record.set(0);
        match &mut self.records {
            Records::Csv(reader) => {
                let mut record = ByteRecord::new();
                let after = reader.position().byte();
                match reader.read_byte_record(&mut record) {
                    Ok(false) => Ok(None),
                    Ok(true) => {
                        let at = record.position().map_or(after, csv::Position::byte);
                        let number = self.meter.lines.borrow_mut().number_at(at);
                        Ok(Some(Line { number, record: Record::Csv(record) }))
                    }
                    Err(error) => {
                        let number = self.meter.lines.borrow_mut().number_at(after);
                        Err(format!("line {number}: {error}").into())
                    }
                }
            }
            Records::Json { lines, number, longest } => loop {
                let mut line = Vec::new();
                self.meter.of_this_record.set(0);
                // With the end of the line, which does not count.
                let read = lines.by_ref().take(longest.saturating_add(2)).read_until(b'\n', &mut line);
                *number += 1;
                if read.map_err(|error| format!("line {number}: {error}"))? == 0 {
                    return Ok(None);
                }
                if line.pop_if(|last| *last == b'\n').is_some() {
                    line.pop_if(|last| *last == b'\r');
                }
                if line.len() as u64 > *longest {
                    return Err(format!("line {number}: {}", too_long(*longest)).into());
                }
                if *number == 1 && line.starts_with(b"\xEF\xBB\xBF") {
                    line.drain(..3);
                }
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(Line { number: *number, record: Record::Json(line) }));
                }
            },
        }
    }
}

impl Line {
    /// As it stood in the file, but for the quotes.
    pub(crate) fn text(&self) -> String {
        match &self.record {
            Record::Csv(record) => {
                let fields: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
                fields.join(",")
            }
            Record::Json(line) => String::from_utf8_lossy(line.trim_ascii_end()).into_owned(),
        }
    }
}

/// Reads all of it: a change anywhere would make another row of the same line. None for what can be read only once.
pub(crate) fn identify(file: &Path) -> Result<Option<Identity>, Failure> {
    if file.as_os_str() == "-" {
        return Ok(None);
    }
    let mut from = open(file)?;
    if !from.metadata()?.is_file() {
        return Ok(None);
    }
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = from.read(&mut buffer)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { break };
        hash.update(piece);
        size += read as u64;
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(Identity { size, sha256 }))
}

fn open(file: &Path) -> Result<File, Failure> {
    let from = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    if from.metadata()?.is_dir() {
        return Err(format!("{} is a folder", file.display()).into());
    }
    Ok(from)
}
