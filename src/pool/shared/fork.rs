//! What a forked child makes of its parent's pool: nothing. The sockets are the same in both processes, and two that talk
//! over one would read each other's answers.

use super::Core;
use crate::error::Error;
use crate::manager::Manager;

impl<M: Manager> Core<M> {
    /// Whether this process was forked off the one that made the pool. Two loads and a comparison: a handler counts forks
    /// in the child (`getpid`, the usual way, is a system call, and costs several checkouts).
    #[inline]
    pub(crate) fn forked(&self) -> bool {
        self.origin.clone().detected_fork()
    }

    pub(crate) fn refuse_forked(&self) -> Result<(), Error> {
        if self.forked() { Err(Error::forked(&self.name)) } else { Ok(()) }
    }
}
