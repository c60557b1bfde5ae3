//! lockfree-object-pool: an object pool over a linked list of pages, without a maximum and without waiting.

use lockfree_object_pool::LinearObjectPool;

use super::{Conn, Lender};

pub(super) struct Lockfree {
    pool: LinearObjectPool<Conn>,
}

impl Lockfree {
    pub(super) fn new() -> Self {
        Self { pool: LinearObjectPool::new(|| Conn { id: 0, uses: 0 }, |_| {}) }
    }
}

impl Lender for Lockfree {
    fn visit(&self, visitor: impl FnOnce(&mut Conn)) -> bool {
        visitor(&mut self.pool.pull());
        true
    }

    fn hold(&self) -> impl Sized {
        self.pool.pull()
    }
}
