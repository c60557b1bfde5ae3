//! A manager of r2d2 for pools that need none in particular.

use millpond::r2d2::ManageConnection;
use std::io;

#[derive(Debug)]
pub(crate) struct Nothing;

impl ManageConnection for Nothing {
    type Connection = ();
    type Error = io::Error;
    fn connect(&self) -> io::Result<()> {
        Ok(())
    }
    fn is_valid(&self, (): &mut ()) -> io::Result<()> {
        Ok(())
    }
    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}
