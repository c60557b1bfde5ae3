//! Bad lines: told at once, the first of them, and written down, all of them, where that is wished.

use super::Failure;
use super::source::Line;
use indicatif::ProgressBar;
use std::fs::{File, OpenOptions};
use std::path::Path;

/// So many are told on the terminal.
const TOLD: u64 = 20;

pub(crate) struct Rejects {
    bar: ProgressBar,
    file: Option<csv::Writer<File>>,
    count: u64,
    /// The file cannot be written any more.
    broken: Option<csv::Error>,
}

impl Rejects {
    /// With a file that is begun, or, where a load goes on, added to.
    pub(crate) fn open(path: Option<&Path>, goes_on: bool, bar: ProgressBar) -> Result<Self, Failure> {
        let open = |path: &Path| -> Result<_, Failure> {
            let said = |error| format!("{}: {error}", path.display());
            let mut options = OpenOptions::new();
            options.create(true).write(true).append(goes_on).truncate(!goes_on);
            let file = options.open(path).map_err(said)?;
            let is_new = file.metadata()?.len() == 0;
            let mut writer = csv::Writer::from_writer(file);
            if is_new {
                writer.write_record(["line", "reason", "text"])?;
            }
            Ok(writer)
        };
        Ok(Self { bar, file: path.map(open).transpose()?, count: 0, broken: None })
    }

    pub(crate) fn add(&mut self, line: &Line, reason: &str) {
        self.count += 1;
        if self.count <= TOLD {
            self.bar.suspend(|| eprintln!("line {}: {reason}", line.number));
        }
        if let Some(file) = &mut self.file {
            let record = [&*line.number.to_string(), reason, &line.text()];
            // At once, because a program that is killed writes nothing more.
            if let Err(error) = file.write_record(record).and_then(|()| Ok(file.flush()?)) {
                (self.broken, self.file) = (Some(error), None);
            }
        }
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        if self.count > TOLD {
            eprintln!("… and {} more bad lines", self.count - TOLD);
        }
        if let Some(error) = self.broken {
            return Err(format!("the bad lines could not be written: {error}").into());
        }
        Ok(())
    }
}
