//! opool: an object pool over a bounded lock-free queue. It has no maximum and nobody waits: an empty pool makes one
//! more object. It shows what storage alone costs.

use opool::{Pool, PoolAllocator};

use super::{Conn, Factory, Lender, Setting};

#[derive(Debug, Default)]
struct Connections(Factory);

impl PoolAllocator<Conn> for Connections {
    fn allocate(&self) -> Conn {
        self.0.make()
    }
}

pub(super) struct Opool {
    pool: Pool<Connections, Conn>,
}

impl Opool {
    pub(super) fn new(setting: Setting) -> Self {
        Self { pool: Pool::new(setting.size as usize, Connections::default()) }
    }
}

impl Lender for Opool {
    fn visit(&self, visitor: impl FnOnce(&mut Conn)) -> bool {
        visitor(&mut self.pool.get());
        true
    }

    fn hold(&self) -> impl Sized {
        self.pool.get()
    }
}
