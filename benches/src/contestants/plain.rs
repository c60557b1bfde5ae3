//! The pool that everybody writes first: a mutex around a vector, and a condition variable. No check, no age, no
//! statistics, no order among those who wait.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::{Conn, Factory, Lender, Setting};

struct Shelf {
    idle: Vec<Conn>,
    opened: u32,
}

pub(super) struct Plain {
    factory: Factory,
    shelf: Mutex<Shelf>,
    returned: Condvar,
    size: u32,
    timeout: Duration,
}

struct Guard<'a> {
    pool: &'a Plain,
    /// Taken only by `drop`.
    conn: Option<Conn>,
}

impl Plain {
    pub(super) fn new(setting: Setting) -> Self {
        let shelf = Shelf { idle: Vec::with_capacity(setting.size as usize), opened: 0 };
        Self {
            factory: Factory::default(),
            shelf: Mutex::new(shelf),
            returned: Condvar::new(),
            size: setting.size,
            timeout: setting.timeout.unwrap_or(Duration::from_secs(30)),
        }
    }

    fn get(&self) -> Option<Guard<'_>> {
        let mut shelf = self.shelf.lock().expect("no user code runs under the lock");
        let mut deadline = None;
        loop {
            if let Some(conn) = shelf.idle.pop() {
                return Some(Guard { pool: self, conn: Some(conn) });
            }
            if shelf.opened < self.size {
                shelf.opened += 1;
                return Some(Guard { pool: self, conn: Some(self.factory.make()) });
            }
            let now = Instant::now();
            let deadline = *deadline.get_or_insert(now + self.timeout);
            let left = deadline.checked_duration_since(now).filter(|left| !left.is_zero())?;
            (shelf, _) = self.returned.wait_timeout(shelf, left).expect("no user code runs under the lock");
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.pool.shelf.lock().expect("no user code runs under the lock").idle.push(conn);
            self.pool.returned.notify_one();
        }
    }
}

impl Lender for Plain {
    fn visit(&self, visitor: impl FnOnce(&mut Conn)) -> bool {
        match self.get() {
            Some(mut guard) => visitor(guard.conn.as_mut().expect("only drop takes it")),
            None => return false,
        }
        true
    }

    fn hold(&self) -> impl Sized {
        self.get().expect("nobody else has connections of this pool")
    }
}
