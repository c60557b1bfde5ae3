//! Runs a future on the calling thread: the least that makes an asynchronous pool usable from threads.
//!
//! The waker is made once per thread and unparks it. No executor, no queue: what is measured of bb8 and
//! deadpool is their own code and one park per wait, as a program of threads would have it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release publishes what the waking thread did before; the Acquire swap in `block_on` reads it. Unparking
        // only on the first of several wakes saves system calls.
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

thread_local! {
    static UNPARK: (Arc<Unpark>, Waker) = {
        let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&unpark));
        (unpark, waker)
    };
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    UNPARK.with(|(unpark, waker)| {
        let mut context = Context::from_waker(waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            while !unpark.woken.swap(false, Ordering::AcqRel) {
                thread::park();
            }
        }
    })
}
