//! Locks, atomics and the exchange cell, with a second face for the model checkers.
//!
//! Every other module takes its primitives from here, so that `--cfg loom` and `--cfg shuttle` replace all of
//! them at once and the models run the very code that users run.

pub(crate) use imp::{AtomicU32, AtomicU64, Condvar, Exchange, Mutex, MutexGuard, fence};
pub(crate) use std::sync::atomic::Ordering;

#[cfg(not(any(loom, shuttle)))]
mod imp {
    use crossbeam_utils::atomic::AtomicCell;
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    use std::mem::ManuallyDrop;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

    /// A cell that holds one box or none. Anybody may take, by one atomic exchange; only whoever has the right to the
    /// place may put, and knows that it is empty, so that a plain store does.
    ///
    /// The exchange acquires what the previous owner wrote (`AtomicCell::swap` is acquire-release on every
    /// pointer-sized type), and the store releases what this one wrote (`AtomicCell::store` of a type that needs no
    /// drop is a release store; of one that does, it is an exchange, and a checkout would cost 5 ns more).
    pub(crate) struct Exchange<T>(AtomicCell<Option<ManuallyDrop<Box<T>>>>);

    impl<T> std::fmt::Debug for Exchange<T> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Exchange")
        }
    }

    impl<T> Exchange<T> {
        pub(crate) fn empty() -> Self {
            // A lock hidden behind the cell would make every promise of speed and progress void.
            const { assert!(AtomicCell::<Option<ManuallyDrop<Box<T>>>>::is_lock_free()) }
            Self(AtomicCell::new(None))
        }

        #[inline]
        pub(crate) fn take(&self) -> Option<Box<T>> {
            self.0.swap(None).map(ManuallyDrop::into_inner)
        }

        /// Forgets what lies there, which must be nothing.
        #[inline]
        pub(crate) fn put(&self, value: Box<T>) {
            self.0.store(Some(ManuallyDrop::new(value)));
        }
    }

    impl<T> Drop for Exchange<T> {
        fn drop(&mut self) {
            drop(self.take());
        }
    }
}

#[cfg(any(loom, shuttle))]
mod imp {
    #[cfg(loom)]
    use loom as model;
    #[cfg(shuttle)]
    use shuttle as model;

    pub(crate) use model::sync::atomic::{AtomicU32, AtomicU64, fence};
    use std::ops::{Deref, DerefMut};
    use std::sync::TryLockError;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    /// The exchange as the models see it: the flag is what threads race for, with the same orderings as the
    /// real cell; the value rides along where the checker does not look.
    #[derive(Debug)]
    pub(crate) struct Exchange<T> {
        full: AtomicU32,
        value: std::sync::Mutex<Option<Box<T>>>,
    }

    impl<T> Exchange<T> {
        pub(crate) fn empty() -> Self {
            Self { full: AtomicU32::new(0), value: std::sync::Mutex::new(None) }
        }

        pub(crate) fn take(&self) -> Option<Box<T>> {
            if self.full.swap(0, Ordering::AcqRel) == 0 {
                return None;
            }
            let value = self.value.lock().expect("no panic happens under this lock").take();
            assert!(value.is_some(), "the exchange said full and held nothing");
            value
        }

        pub(crate) fn put(&self, value: Box<T>) {
            let old = self.value.lock().expect("no panic happens under this lock").replace(value);
            assert!(old.is_none(), "two connections in one slot");
            // Outside the models this is a store. loom lets a store that is made beside an exchange fall between what the
            // exchange reads and what it writes, and be lost, which C++ and Rust forbid; so here it is an exchange that
            // acquires nothing.
            self.full.swap(1, Ordering::Release);
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(model::sync::Mutex<T>);

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T>(Option<model::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(model::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            match self.0.lock() {
                Ok(guard) => MutexGuard(Some(guard)),
                Err(poisoned) => MutexGuard(Some(poisoned.into_inner())),
            }
        }

        /// Time does not pass in a model: the others have one turn, and then it is said to be over.
        pub(crate) fn try_lock_for(&self, _timeout: Duration) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(MutexGuard(Some(guard))),
                Err(TryLockError::Poisoned(poisoned)) => Some(MutexGuard(Some(poisoned.into_inner()))),
                Err(TryLockError::WouldBlock) => {
                    model::thread::yield_now();
                    None
                }
            }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.0.as_ref().expect("absent only inside a wait")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("absent only inside a wait")
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(model::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(model::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.0.take().expect("absent only inside a wait");
            guard.0 = Some(match self.0.wait(inner) {
                Ok(inner) => inner,
                Err(poisoned) => poisoned.into_inner(),
            });
        }

        /// Time does not pass in a model: deadlines there come from a hand-moved clock, which rings.
        pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _timeout: Duration) {
            self.wait(guard);
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
