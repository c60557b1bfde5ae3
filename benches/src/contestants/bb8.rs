//! bb8 behind `block_on`, without its check at checkout.
//!
//! bb8 wraps every `get` in a tokio time-out and opens connections in tokio tasks, so a runtime must be entered and its
//! timer must run. The least that does: one multi-thread runtime with one worker and only the timer enabled; every
//! thread enters it once, outside the measured loop, and polls its own future.

use std::convert::Infallible;
use std::sync::LazyLock;

use bb8::{ManageConnection, Pool};
use tokio::runtime::{Builder, Runtime};

use super::{Conn, Factory, Lender, Setting};
use crate::block_on::block_on;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("one more thread can be had")
});

/// Inside the runtime, for as long as the value lives.
pub(super) fn inside_runtime() -> impl Sized {
    RUNTIME.enter()
}

#[derive(Debug, Default)]
struct Connections(Factory);

impl ManageConnection for Connections {
    type Connection = Conn;
    type Error = Infallible;

    async fn connect(&self) -> Result<Conn, Infallible> {
        Ok(self.0.make())
    }

    async fn is_valid(&self, _: &mut Conn) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Conn) -> bool {
        false
    }
}

pub(super) struct Bb8 {
    pool: Pool<Connections>,
}

impl Bb8 {
    pub(super) fn new(setting: Setting) -> Self {
        let _inside = inside_runtime();
        let mut builder = Pool::builder().max_size(setting.size).test_on_check_out(false);
        if let Some(timeout) = setting.timeout {
            builder = builder.connection_timeout(timeout);
        }
        Self { pool: builder.build_unchecked(Connections::default()) }
    }
}

impl Lender for Bb8 {
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
