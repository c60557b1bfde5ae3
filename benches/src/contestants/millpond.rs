//! millpond with its defaults: validation of long idle connections, holder records, counters.

use std::convert::Infallible;

use millpond::{Fairness, Manager, Pool};

use super::{Conn, Factory, Lender, Setting};

#[derive(Debug, Default)]
struct Connections(Factory);

impl Manager for Connections {
    type Connection = Conn;
    type Error = Infallible;

    fn connect(&self) -> Result<Conn, Infallible> {
        Ok(self.0.make())
    }

    fn is_valid(&self, _: &mut Conn) -> Result<(), Infallible> {
        Ok(())
    }
}

fn pool(setting: Setting, strict: bool) -> Pool<Connections> {
    let mut builder = Pool::builder(Connections::default()).max_size(setting.size);
    if let Some(timeout) = setting.timeout {
        builder = builder.connection_timeout(timeout);
    }
    if strict {
        builder = builder.fairness(Fairness::Strict);
    }
    builder.build_lazy().expect("the settings are in range")
}

/// `get`, and drop of the owning guard.
pub(super) struct Get {
    pool: Pool<Connections>,
}

impl Get {
    pub(super) fn new(setting: Setting, strict: bool) -> Self {
        Self { pool: pool(setting, strict) }
    }
}

impl Lender for Get {
    fn visit(&self, visitor: impl FnOnce(&mut Conn)) -> bool {
        match self.pool.get() {
            Ok(mut conn) => visitor(&mut conn),
            Err(_) => return false,
        }
        true
    }

    fn hold(&self) -> impl Sized {
        self.pool.get().expect("nobody else has connections of this pool")
    }
}

/// `with`, and no guard at all.
pub(super) struct With {
    pool: Pool<Connections>,
}

impl With {
    pub(super) fn new(setting: Setting) -> Self {
        Self { pool: pool(setting, false) }
    }
}

impl Lender for With {
    fn visit(&self, visitor: impl FnOnce(&mut Conn)) -> bool {
        self.pool.with(visitor).is_ok()
    }

    fn hold(&self) -> impl Sized {
        self.pool.get().expect("nobody else has connections of this pool")
    }
}
