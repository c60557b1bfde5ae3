//! Threads that use a pool, and status texts made by hand.

use crate::support::Lab;
use millpond::{Manager, Pool, PooledConnection};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

/// Threads that borrow and return until they are dropped.
pub(crate) struct Load {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn on<M: Manager>(pool: &Pool<M>, threads: usize, held: Duration, between: Duration) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let work = |n: usize| {
            let (pool, ended) = (pool.clone(), Arc::clone(&ended));
            let work = move || {
                while !ended.load(SeqCst) {
                    match pool.get() {
                        Ok(mut connection) => {
                            PooledConnection::set_label(&mut connection, format!("request {n}"));
                            sleep(held);
                        }
                        Err(_) => sleep(Duration::from_millis(10)),
                    }
                    sleep(between);
                }
            };
            thread::Builder::new().name(format!("worker-{n}")).spawn(work).expect("a thread")
        };
        let threads = (1..=threads).map(work).collect();
        Self { ended, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// A pool whose connections are used once, so that an outage shows at once.
pub(crate) fn fragile(lab: &Arc<Lab>, name: &str) -> Pool<crate::support::Scripted> {
    Pool::builder(lab.manager())
        .name(name)
        .max_size(4)
        .max_uses(Some(1))
        .use_times(true)
        .connection_timeout(Duration::from_millis(300))
        .build()
        .expect("the settings fit")
}
