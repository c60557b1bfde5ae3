//! What one borrower's session leaves to the next.

use millpond::{Manager, Pool};

use crate::PATIENCE;

/// Something that a session may be left with.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "tests write them out")]
pub struct Leftover<C> {
    /// What it is called in a failure's text.
    pub name: &'static str,
    /// Leaves it.
    pub make: fn(&mut C),
    /// Whether it is there; may change the session.
    pub there: fn(&mut C) -> bool,
}

impl<C> Leftover<C> {
    /// Whether the next borrower finds it. Somebody borrows the pool's one connection, leaves it, and gives it
    /// back; somebody else looks. The connection must be the same one, which `number` tells: cleaning is not closing.
    ///
    /// # Panics
    ///
    /// If the pool lends nothing, or another connection.
    pub fn leaks<M: Manager<Connection = C>>(&self, pool: &Pool<M>, number: fn(&mut C) -> u64) -> bool {
        assert_eq!(pool.stats().max_size, 1, "or the next one may get another connection");
        let mut first = pool.get_timeout(PATIENCE).expect("nobody else is here");
        let was = number(&mut first);
        (self.make)(&mut first);
        drop(first);
        let mut next = pool.get_timeout(PATIENCE).expect("it came back");
        let there = (self.there)(&mut next);
        if !there {
            assert_eq!(number(&mut next), was, "{}: it was closed, not cleaned", self.name);
        }
        there
    }
}
