//! r2d2, with its check on every checkout (its default) and without.

use std::convert::Infallible;

use r2d2::{ManageConnection, Pool};

use super::{Conn, Factory, Lender, Setting};

#[derive(Debug, Default)]
struct Connections(Factory);

impl ManageConnection for Connections {
    type Connection = Conn;
    type Error = Infallible;

    fn connect(&self) -> Result<Conn, Infallible> {
        Ok(self.0.make())
    }

    fn is_valid(&self, _: &mut Conn) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Conn) -> bool {
        false
    }
}

pub(super) struct R2d2 {
    pool: Pool<Connections>,
}

impl R2d2 {
    pub(super) fn new(setting: Setting, min_idle: Option<u32>, checked: bool) -> Self {
        let mut builder = Pool::builder().max_size(setting.size).min_idle(min_idle).test_on_check_out(checked);
        if let Some(timeout) = setting.timeout {
            builder = builder.connection_timeout(timeout);
        }
        Self { pool: builder.build_unchecked(Connections::default()) }
    }
}

impl Lender for R2d2 {
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
