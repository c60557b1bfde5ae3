//! The models of one pool.

use super::*;

#[test]
fn callers_share_few_connections_and_each_has_one_to_itself() {
    explore("sharing", |lab| {
        let clock = HandClock::new();
        let max = some_size();
        let pool = build(lab.builder(&clock, max).min_idle(thread_rng().gen_range(0..=max)));
        let callers = (0..thread_rng().gen_range(4..=6))
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        match thread_rng().gen_range(0..4) {
                            0 => pool.with(|conn| conn.exclusively()).expect("somebody returns one"),
                            1 => pool.try_get().iter().for_each(|conn| conn.exclusively()),
                            _ => pool.get().expect("somebody returns one").exclusively(),
                        }
                    }
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn a_guard_may_be_dropped_by_another_thread_than_the_borrower() {
    explore("moving guards", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let callers = (0..4)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let conn = pool.get().expect("somebody returns one");
                    conn.exclusively();
                    let returner = thread::spawn(move || drop(conn));
                    pool.get().expect("somebody returns one").exclusively();
                    returner.join().expect("returning does not panic");
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn nobody_is_forgotten_when_deadlines_pass() {
    explore("time-outs", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let callers = (0..thread_rng().gen_range(4..=6))
            .map(|n| {
                let (pool, clock) = (pool.clone(), clock.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        // Some wait for ever: that they are served is what the model is about.
                        let timeout = if n < 2 { FOR_EVER } else { micros(thread_rng().gen_range(0..20)) };
                        match pool.get_timeout(timeout) {
                            Ok(conn) => conn.exclusively(),
                            Err(error) => assert!(error.is_timeout() && n >= 2, "{error}"),
                        }
                        if n == 2 {
                            clock.advance(micros(thread_rng().gen_range(1..10)));
                        }
                    }
                })
            })
            .collect::<Vec<_>>();
        let timer = thread::spawn({
            let clock = clock.clone();
            // Enough for each deadline, one after the other, however they are laid.
            move || (0..16).for_each(|_| clock.advance(micros(10)))
        });
        // The callers with deadlines that begin to wait after the timer has ended.
        // Untended, because upkeep opens connections for those whom a defect has forgotten.
        with_keeper(None, &clock, micros(3), callers);
        timer.join().expect("the timer does not panic");
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn failing_and_panicking_callbacks_cost_no_place() {
    explore("failing callbacks", |lab| {
        let clock = HandClock::new();
        let Ills { connect, has_broken, reset, close, hooks, .. } = &lab.ills;
        for ill in [connect, has_broken, reset, close, hooks] {
            ill.store(thread_rng().gen_range(0..2) * thread_rng().gen_range(10..60), SeqCst);
        }
        lab.fault.store(thread_rng().gen_range(0..3), SeqCst);
        let mut builder = lab.builder(&clock, some_size());
        if thread_rng().gen_range(0..2) == 0 {
            builder = builder
                .on_open(|conn: &mut Conn| act(&conn.lab.ills.hooks))
                .on_return(|conn: &mut Conn| act(&conn.lab.ills.hooks))
                .on_close(|conn| drop(act(&conn.lab.ills.hooks)));
        }
        let pool = build(builder);
        let callers = (0..4)
            .map(|n| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let timeout = if n == 0 { FOR_EVER } else { micros(thread_rng().gen_range(0..40)) };
                        match pool.get_timeout(timeout) {
                            Ok(conn) => conn.exclusively(),
                            Err(error) => {
                                let hopeless = error.kind() == ErrorKind::Connect;
                                assert!(hopeless || error.is_timeout(), "{error}");
                            }
                        }
                    }
                })
            })
            .collect();
        with_keeper(Some(&pool), &clock, micros(4), callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn a_borrower_that_panics_costs_a_connection_but_no_place() {
    explore("panicking borrowers", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let callers = (0..4)
            .map(|n| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let using = catch_unwind(AssertUnwindSafe(|| {
                            let conn = pool.get().expect("somebody returns one");
                            conn.exclusively();
                            if n == 0 {
                                scripted_panic();
                            }
                        }));
                        assert_eq!(using.is_err(), n == 0);
                    }
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn connections_that_do_not_come_back_are_replaced() {
    explore("leaving connections", |lab| {
        let clock = HandClock::new();
        let max_uses = [None, Some(1), Some(2)][thread_rng().gen_range(0..3)];
        let pool = build(lab.builder(&clock, some_size()).max_uses(max_uses));
        let callers = (0..thread_rng().gen_range(3..=5))
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let mut conn = pool.get().expect("there is always a place");
                        conn.exclusively();
                        assert!(max_uses.is_none_or(|max| PooledConnection::uses(&conn) <= max));
                        match thread_rng().gen_range(0..5) {
                            0 => PooledConnection::discard(conn),
                            1 => {
                                conn.leave();
                                drop(PooledConnection::into_inner(conn));
                            }
                            2 => PooledConnection::mark_broken(&mut conn),
                            _ => drop(conn),
                        }
                    }
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn a_pool_may_be_resized_refreshed_and_paused_beneath_its_callers() {
    explore("changes", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        // Shrinking takes effect as connections come back, so the largest maximum is the limit.
        lab.limit.store(4, SeqCst);
        let mut threads: Vec<_> = (0..4)
            .map(|_| {
                let (pool, lab) = (pool.clone(), Arc::clone(lab));
                thread::spawn(move || (0..2).for_each(|_| lab.get_and_use(&pool)))
            })
            .collect();
        for what in 0..3 {
            let (pool, lab) = (pool.clone(), Arc::clone(lab));
            threads.push(thread::spawn(move || match what {
                0 => (0..2).for_each(|_| pool.resize(thread_rng().gen_range(1..=4)).expect("a good size")),
                1 => lab.refresh(&pool),
                _ => {
                    pool.pause();
                    switch();
                    pool.resume();
                }
            }));
        }
        join(threads);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn none_that_was_open_before_a_refresh_is_lent_after_it() {
    explore("refresh", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let callers = (0..5)
            .map(|n| {
                let (pool, lab) = (pool.clone(), Arc::clone(lab));
                thread::spawn(move || {
                    if n < 2 {
                        lab.refresh(&pool);
                    }
                    lab.get_and_use(&pool);
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn closing_ends_all_waits_and_leaves_no_connection() {
    explore("close", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()).min_idle(1));
        lab.ills.close.store(20, SeqCst);
        let callers = (0..4)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        match pool.get() {
                            Ok(conn) => conn.exclusively(),
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
                        }
                    }
                })
            })
            .collect();
        let closers = (0..2)
            .map(|n| {
                let pool = pool.clone();
                thread::spawn(move || {
                    switch();
                    if n == 0 {
                        pool.close();
                    } else {
                        pool.close_and_wait(FOR_EVER).expect("all connections come back");
                    }
                })
            })
            .collect();
        join(callers);
        join(closers);
        assert!(pool.get().is_err_and(|error| error.kind() == ErrorKind::Closed));
        assert_gone(pool, lab);
    });
}

#[test]
fn when_the_last_handle_goes_every_connection_does() {
    explore("last handle", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let guards = Arc::new(shuttle::sync::Mutex::new(Vec::new()));
        let callers: Vec<_> = (0..4)
            .map(|n| {
                let (pool, guards) = (pool.clone(), Arc::clone(&guards));
                thread::spawn(move || {
                    let conn = pool.get_timeout(if n < 3 { FOR_EVER } else { Duration::ZERO });
                    let Ok(conn) = conn else {
                        assert_eq!(n, 3);
                        return;
                    };
                    conn.exclusively();
                    if n == 0 {
                        // This one outlives the pool, if it is not the only place.
                        drop(pool);
                        guards.lock().expect("no panic under this lock").push(conn);
                        switch();
                        let kept = guards.lock().expect("no panic under this lock").pop();
                        drop(kept);
                    }
                })
            })
            .collect();
        drop(pool);
        join(callers);
        // The helpers that close the last ones are attached to the model; it waits for them.
        while lab.live.load(SeqCst) > 0 {
            thread::yield_now();
        }
    });
}

#[test]
fn those_who_want_several_and_those_who_want_one_do_not_hold_each_other_up() {
    explore("several", |lab| {
        let clock = HandClock::new();
        let max = thread_rng().gen_range(2..=3);
        let pool = build(lab.builder(&clock, max));
        let callers = (0..4)
            .map(|n| {
                let pool = pool.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        if n < 2 {
                            let both = pool.get_many(2).expect("nobody holds one for ever");
                            both.iter().for_each(|conn| conn.exclusively());
                        } else {
                            pool.get().expect("nobody holds one for ever").exclusively();
                        }
                    }
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn failing_checks_cost_connections_but_no_caller_and_no_place() {
    explore("checks", |lab| {
        let clock = HandClock::new();
        lab.ills.is_valid.store(thread_rng().gen_range(0..60), SeqCst);
        let validation = [Validation::Always, Validation::IfIdleFor(Duration::ZERO)][thread_rng().gen_range(0..2)];
        let pool = build(lab.builder(&clock, some_size()).validation(validation));
        let callers = (0..4)
            .map(|n| {
                let (pool, clock) = (pool.clone(), clock.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        pool.get().expect("a new connection needs no check").exclusively();
                        if n == 0 {
                            clock.advance(micros(1));
                        }
                    }
                })
            })
            .collect();
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn upkeep_beside_callers_takes_nothing_away_from_them() {
    explore("upkeep", |lab| {
        let clock = HandClock::new();
        let max = some_size();
        let mut rng = thread_rng();
        let builder = lab
            .builder(&clock, max)
            .min_idle(rng.gen_range(0..=max))
            .max_lifetime(Some(micros(rng.gen_range(10..60))))
            .idle_timeout(Some(micros(rng.gen_range(5..40))))
            .max_uses(Some(3));
        let pool = build(builder);
        let callers = callers(&pool, 3, 3, borrow);
        with_keeper(Some(&pool), &clock, micros(2), callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn rules_may_change_beneath_the_callers() {
    explore("new rules", |lab| {
        let clock = HandClock::new();
        let max = some_size();
        let pool = build(lab.builder(&clock, max).idle_timeout(None).max_lifetime(None));
        let mut callers = callers(&pool, 3, 3, borrow);
        callers.push(thread::spawn({
            let (pool, lab) = (pool.clone(), Arc::clone(lab));
            move || {
                for _ in 0..3 {
                    let mut rng = thread_rng();
                    let some = Some(micros(rng.gen_range(2..30)));
                    match rng.gen_range(0..6) {
                        0 => pool.set_max_lifetime(some).expect("more than nothing"),
                        1 => pool.set_idle_timeout(some).expect("more than nothing"),
                        2 => pool.set_min_idle(rng.gen_range(0..=max)).expect("no more than the maximum"),
                        3 => pool.refresh_over(micros(rng.gen_range(2..30))),
                        4 => lab.refresh(&pool),
                        _ => pool.set_validation(Validation::IfIdleFor(micros(1))),
                    }
                    switch();
                }
            }
        }));
        with_keeper(Some(&pool), &clock, micros(2), callers);
        pool.set_validation(Validation::Never);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn a_staggered_refresh_is_complete_when_its_time_is_over() {
    explore("staggered refresh", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()).idle_timeout(None).max_lifetime(None));
        drop(pool.get().expect("it connects"));
        let before = lab.opened.load(SeqCst);
        pool.refresh_over(micros(20));
        let callers = callers(&pool, 3, 2, borrow);
        with_keeper(Some(&pool), &clock, micros(2), callers);
        clock.advance(micros(20));
        pool.maintain();
        lab.outdated.fetch_max(before, SeqCst);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn a_pool_that_rejects_for_a_while_forgets_nobody() {
    explore("rejecting", |lab| {
        let clock = HandClock::new();
        let pool = build(lab.builder(&clock, some_size()));
        let mut callers = callers(&pool, 4, 2, |pool| borrow_unless(pool, ErrorKind::Paused));
        callers.push(thread::spawn({
            let pool = pool.clone();
            move || {
                for _ in 0..2 {
                    if thread_rng().gen_range(0..2) == 0 {
                        pool.pause()
                    } else {
                        pool.pause_and_reject()
                    }
                    switch();
                    pool.resume();
                }
            }
        }));
        join(callers);
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn callers_of_a_pool_without_threads_serve_themselves_and_each_other() {
    explore("no threads", |lab| {
        let clock = HandClock::new();
        let builder = lab.builder(&clock, some_size()).maintenance(Maintenance::Manual);
        let failing = thread_rng().gen_range(0..2) == 0;
        if failing {
            lab.ills.connect.store(thread_rng().gen_range(10..60), SeqCst);
        }
        let pool = build(builder.max_uses(Some(thread_rng().gen_range(1..4))));
        let callers = callers(&pool, 4, 2, |pool| borrow_unless(pool, ErrorKind::Connect));
        if failing {
            // Time passes, or nobody would try again; nobody but the callers does, who look round every 20 ms.
            with_keeper(None, &clock, micros(5000), callers);
        } else {
            // Time stands still: whoever is forgotten sleeps for ever.
            join(callers);
        }
        lab.well();
        // Looking round is all that there is to end a pause after a failure.
        let timer = thread::spawn({
            let clock = clock.clone();
            move || (0..50).for_each(|_| clock.advance(micros(1000)))
        });
        timer.join().expect("the timer does not panic");
        assert_whole(pool, lab, &clock);
    });
}

#[test]
fn warming_up_beside_callers_opens_what_was_asked_and_tells_of_it_in_order() {
    explore("warm-up", |lab| {
        let clock = HandClock::new();
        let max = some_size();
        let wanted = thread_rng().gen_range(1..=max);
        let told = Arc::new(AtomicU32::new(0));
        let plan = WarmUp::background(wanted)
            .batch(thread_rng().gen_range(1..=2))
            .pause(micros(thread_rng().gen_range(0..10)))
            .on_progress({
                let told = Arc::clone(&told);
                move |progress| {
                    let before = told.load(SeqCst);
                    switch();
                    assert_eq!(told.swap(progress.ready, SeqCst), before, "told by two at once");
                    assert!(progress.ready >= before, "fewer than before");
                }
            });
        if thread_rng().gen_range(0..2) == 0 {
            lab.ills.connect.store(thread_rng().gen_range(10..60), SeqCst);
        }
        let pool = build(lab.builder(&clock, max));
        let mut callers = callers(&pool, 2, 1, |pool| borrow_unless(pool, ErrorKind::Connect));
        callers.push(thread::spawn({
            let pool = pool.clone();
            move || {
                pool.warm_up(plan).expect("a good plan");
                if let Err(error) = pool.wait_ready(FOR_EVER) {
                    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
                }
            }
        }));
        with_keeper(Some(&pool), &clock, micros(4), callers);
        assert_whole(pool, lab, &clock);
    });
}
