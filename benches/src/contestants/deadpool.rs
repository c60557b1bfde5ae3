//! deadpool's managed pool behind `block_on`. It waits for ever by default and needs no runtime for that; where a
//! time-out is asked for, threads are inside the runtime that bb8 needs too.

use std::convert::Infallible;

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Pool, RecycleResult};

use super::bb8::inside_runtime;
use super::{Conn, Factory, Lender, Setting};
use crate::block_on::block_on;

#[derive(Debug, Default)]
struct Connections(Factory);

impl Manager for Connections {
    type Type = Conn;
    type Error = Infallible;

    async fn create(&self) -> Result<Conn, Infallible> {
        Ok(self.0.make())
    }

    async fn recycle(&self, _: &mut Conn, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

pub(super) struct Deadpool {
    pool: Pool<Connections>,
}

impl Deadpool {
    pub(super) fn new(setting: Setting) -> Self {
        let pool = Pool::builder(Connections::default())
            .max_size(setting.size as usize)
            .wait_timeout(setting.timeout)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a runtime is given for the time-out");
        Self { pool }
    }
}

impl Lender for Deadpool {
    fn visit(&self, visitor: impl FnOnce(&mut Conn)) -> bool {
        match block_on(self.pool.get()) {
            Ok(mut conn) => visitor(&mut conn),
            Err(_) => return false,
        }
        true
    }

    fn hold(&self) -> impl Sized {
        block_on(self.pool.get()).expect("nobody else has connections of this pool")
    }

    fn enter(&self) -> impl Sized {
        inside_runtime()
    }
}
