//! Connections that are bound to a thread, and where code takes one from when nobody has passed it one.

mod support;

use millpond::{CloseReason, Error, ErrorKind, Manager, Nested, Pool, Scope};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use support::{Lab, assert_healthy};

/// A pool whose connections are numbers, counted up.
fn numbers(max_size: u32) -> Pool<Numbers> {
    Pool::builder(Numbers(AtomicU32::new(1))).max_size(max_size).build().expect("it opens")
}

struct Numbers(AtomicU32);

impl Manager for Numbers {
    type Connection = u32;
    type Error = Infallible;

    fn connect(&self) -> Result<u32, Infallible> {
        Ok(self.0.fetch_add(1, SeqCst))
    }
    fn is_valid(&self, _: &mut u32) -> Result<(), Infallible> {
        Ok(())
    }
}

#[test]
fn all_code_below_a_binding_uses_the_one_connection() -> Result<(), Error> {
    let pool = numbers(1);
    let outer = pool.bind()?;
    assert!(pool.is_bound());
    assert_eq!(pool.with(|n| std::mem::replace(n, 17))?, 1);
    {
        let inner = pool.bind()?;
        assert_eq!(inner.with(|n| *n)?, 17);
    }
    assert_eq!((pool.with(|n| *n)?, outer.with(|n| *n)?), (17, 17));
    assert_eq!((pool.stats().in_use, pool.stats().checkouts), (1, 1), "one checkout for all of it");
    drop(outer);
    assert_eq!((pool.stats().in_use, pool.is_bound()), (0, false));
    assert_eq!(pool.with(|n| *n)?, 17);
    Ok(())
}

#[test]
fn bindings_are_dropped_in_any_order() -> Result<(), Error> {
    let pool = numbers(1);
    let (first, second) = (pool.bind()?, pool.bind()?);
    drop(first);
    assert_eq!(second.with(|n| *n)?, 1);
    assert_eq!(pool.stats().in_use, 1);
    drop(second);
    assert_eq!(pool.stats().in_use, 0);
    Ok(())
}

#[test]
fn other_threads_and_other_pools_do_not_see_a_binding() -> Result<(), Error> {
    let (pool, other) = (numbers(2), numbers(1));
    let bound = pool.bind()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(!pool.is_bound());
            assert_eq!(pool.with(|n| *n).expect("the second one"), 2);
        });
    });
    assert!(!other.is_bound());
    assert_eq!(other.with(|_| other.stats().in_use)?, 1);
    assert_eq!(pool.stats().in_use, 1);
    drop(bound);
    Ok(())
}

#[test]
fn a_closure_within_a_closure_is_refused_at_once_and_told_where_the_connection_is() -> Result<(), Error> {
    let pool = numbers(1);
    let bound = pool.bind()?;
    let line = line!() + 1;
    let error = pool.with(|_| pool.with(|_| ()).expect_err("the closure above has it"))?;
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Deadlock, false));
    assert!(error.to_string().contains(&format!("tests/bound.rs:{line}")), "{error}");
    // And the one above goes on having it.
    assert_eq!(bound.with(|n| *n)?, 1);
    Ok(())
}

#[test]
fn unwinding_returns_the_connection_and_it_is_not_lent_again() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).build().expect("it opens");
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _request = pool.bind().expect("one is free");
        pool.with(|_| resume_unwind(Box::new("in the middle"))).expect("it is lent")
    }));
    assert!(unwound.is_err());
    assert!(!pool.is_bound());
    assert_eq!(pool.stats().in_use, 0);
    assert_healthy(&pool);
    assert_eq!(pool.stats().closed.by(CloseReason::Panicked), 1);
}

#[test]
fn after_a_panic_that_was_caught_the_binding_is_lost_and_says_so() -> Result<(), Error> {
    let pool = numbers(1);
    let bound = pool.bind()?;
    let unwound = catch_unwind(AssertUnwindSafe(|| bound.with(|_| resume_unwind(Box::new("in the middle")))));
    assert!(unwound.is_err());
    let error = pool.with(|n| *n).expect_err("what was begun on it cannot go on");
    assert_eq!(error.kind(), ErrorKind::Unbound);
    assert!(bound.with(|n| *n).is_err() && pool.bind()?.with(|n| *n).is_err());
    drop(bound);
    assert_eq!(pool.bind()?.with(|n| *n)?, 2);
    assert_eq!((pool.stats().in_use, pool.stats().closed.by(CloseReason::Panicked)), (0, 1));
    Ok(())
}

#[test]
fn a_binding_that_is_dropped_by_the_closure_that_uses_it_goes_home_afterwards() -> Result<(), Error> {
    let pool = numbers(1);
    let bound = pool.bind()?;
    pool.with(|n| {
        drop(bound);
        assert_eq!((*n, pool.stats().in_use), (1, 1), "it is still in use");
    })?;
    assert_eq!((pool.stats().in_use, pool.stats().idle), (0, 1));
    assert_eq!(pool.with(|n| *n)?, 1);
    Ok(())
}

#[test]
fn a_binding_outlives_the_handle_that_made_it_and_the_pool_closes_after_it() {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).build().expect("it opens");
    let bound = pool.bind().expect("one is free");
    drop(pool);
    assert_eq!(lab.dropped.load(SeqCst), 0);
    bound.with(|_| ()).expect("it is bound");
    drop(bound);
    support::eventually("the connection is closed with the pool", || lab.dropped.load(SeqCst) == 1);
}

#[test]
fn where_only_bound_connections_are_allowed_nothing_else_is_borrowed() -> Result<(), Error> {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).name("orders").bound_only(true).build()?;
    let error = pool.with(|_| ()).expect_err("nothing is bound");
    assert_eq!(error.kind(), ErrorKind::Unbound);
    assert_eq!(
        error.to_string(),
        r#"no connection of "orders" is bound to this thread, and borrowing another one is forbidden"#
    );
    let bound = pool.bind()?;
    pool.with(|_| ())?;
    drop(bound);
    assert!(pool.with(|_| ()).is_err());
    assert_eq!(pool.stats().checkouts, 1);
    Ok(())
}

#[test]
fn binding_twice_is_not_nested_and_another_checkout_is() -> Result<(), Error> {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).nested(Nested::Deny).build()?;
    let first = pool.bind()?;
    let second = pool.bind()?;
    pool.with(|_| ())?;
    assert_eq!(pool.get().expect_err("this thread holds one").kind(), ErrorKind::Deadlock);
    drop((first, second));
    Ok(())
}

#[test]
fn binding_waits_no_longer_than_any_checkout() -> Result<(), Error> {
    let lab = Lab::new();
    let pool = Pool::builder(lab.manager()).max_size(1).connection_timeout(Duration::from_millis(30)).build()?;
    let held = pool.get()?;
    let error = pool.bind().expect_err("it is held");
    assert_eq!((error.kind(), error.is_timeout()), (ErrorKind::Exhausted, true));
    assert!(!pool.is_bound());
    drop(held);
    drop(pool.bind()?);
    Ok(())
}

#[test]
fn a_scope_asks_the_thread_then_the_provider_and_then_falls_back() -> Result<(), Error> {
    let open = |name: &'static str| Pool::new(move || Ok::<_, std::io::Error>(name));
    let (main, tenant, other) = (open("main")?, open("tenant")?, open("other")?);
    let known = std::sync::Arc::new(std::sync::Mutex::new(None));
    let provider = {
        let known = std::sync::Arc::clone(&known);
        move || known.lock().expect("no panic").clone()
    };
    let scope = Scope::new().provider(provider).fallback(main);
    assert_eq!(scope.with(|conn| *conn)?, "main");
    *known.lock().expect("no panic") = Some(tenant.clone());
    assert_eq!(scope.with(|conn| *conn)?, "tenant");
    let outer = scope.bind()?;
    *known.lock().expect("no panic") = None;
    assert_eq!((scope.with(|conn| *conn)?, tenant.stats().in_use), ("tenant", 1));
    {
        // Whoever names a pool comes first, and what was bound before comes back.
        let inner = scope.bind_to(&other)?;
        assert_eq!((scope.with(|conn| *conn)?, inner.with(|conn| *conn)?), ("other", "other"));
    }
    assert_eq!(scope.with(|conn| *conn)?, "tenant");
    thread::scope(|threads| {
        threads.spawn(|| assert_eq!(scope.with(|conn| *conn).expect("it falls back"), "main"));
    });
    drop(outer);
    assert_eq!(scope.with(|conn| *conn)?, "main");
    assert_eq!((tenant.stats().in_use, other.stats().in_use), (0, 0));
    Ok(())
}

#[test]
fn without_a_pool_to_fall_back_on_falling_back_is_an_error() -> Result<(), Error> {
    let pool = numbers(1);
    let strict: Scope<Numbers> = Scope::new();
    let error = strict.with(|n| *n).expect_err("nothing is bound");
    assert_eq!(error.kind(), ErrorKind::Unbound);
    assert!(error.to_string().ends_with("there is no provider, and there is no pool to fall back on"), "{error}");
    // Another scope's binding is not this one's.
    let elsewhere = Scope::new();
    let bound = elsewhere.bind_to(&pool)?;
    assert!(strict.with(|n| *n).is_err());
    assert_eq!(elsewhere.with(|n| *n)?, 1);
    drop(bound);
    let lost = Scope::new().provider(|| None::<Pool<Numbers>>);
    let error = lost.bind().expect_err("the provider knows of none");
    assert!(error.to_string().contains("the provider knows of no pool"), "{error}");
    Ok(())
}

#[test]
fn work_while_a_thread_unwinds_is_no_panic_of_its_own() -> Result<(), Error> {
    struct Audit<'a>(&'a Pool<Numbers>);
    impl Drop for Audit<'_> {
        fn drop(&mut self) {
            self.0.with(|n| *n += 16).expect("the binding is good");
        }
    }
    let pool = numbers(1);
    let bound = pool.bind()?;
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _audit = Audit(&pool);
        resume_unwind(Box::new("elsewhere"))
    }));
    assert!(unwound.is_err());
    assert_eq!(bound.with(|n| *n)?, 17);
    Ok(())
}

#[test]
fn a_thread_that_ends_may_use_the_pool_to_its_end() {
    struct Last(Pool<Numbers>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.with(|_| ()).expect("one is idle");
            // The list of what is bound may be gone by now; that is an error then, and nothing worse.
            drop(self.0.bind());
        }
    }
    thread_local! { static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) } }
    let pool = numbers(1);
    for bound_before in [false, true] {
        let pool = pool.clone();
        let thread = thread::spawn(move || {
            LAST.set(Some(Last(pool.clone())));
            if bound_before {
                drop(pool.bind().expect("one is idle"));
            }
        });
        thread.join().expect("it ends well");
    }
    assert_eq!(pool.stats().in_use, 0);
}
