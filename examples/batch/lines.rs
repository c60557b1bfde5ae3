//! On which line a record begins: the csv crate counts a line when it has passed its end, and begins a record where the last one
//! ended, which is before the `\n` of a `\r\n`, and before lines without anything.

use std::collections::VecDeque;

/// The ends of lines that were read and not passed.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Where each is, and whether a `\r` is before it.
    ends: VecDeque<(u64, bool)>,
    read: u64,
    passed: u64,
    /// The last byte that was read is a `\r`.
    after_return: bool,
}

impl Lines {
    /// These bytes come next.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.ends.push_back((self.read, self.after_return));
            }
            self.after_return = byte == b'\r';
            self.read += 1;
        }
    }

    /// The line, counted from 1, of a record that begins here, or behind the ends of lines that are here. Records come in their
    /// order.
    pub(crate) fn number_at(&mut self, mut at: u64) -> u64 {
        while let Some(&(end, after_return)) = self.ends.front() {
            let nothing_before = end <= at || (end == at + 1 && after_return);
            if !nothing_before {
                break;
            }
            self.ends.pop_front();
            self.passed += 1;
            at = at.max(end + 1);
        }
        self.passed + 1
    }
}
