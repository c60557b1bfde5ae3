//! How many connections a load needs: the formula of Erlang (1917) for calls that wait for a free line.

/// What of all callers may wait for longer than the target.
pub(super) const LATE_SHARE: f64 = 0.01;

/// The least number of connections with which no more than [`LATE_SHARE`] of all callers wait for longer than `patience` use
/// times, if `load` would be in use without any waits; at most `ceiling`. Callers come independently of each other, and
/// how long each uses the connection is distributed exponentially.
///
/// It costs a multiplication and a division for each connection, once in an interval.
pub(super) fn servers(load: f64, patience: f64, ceiling: u32) -> u32 {
    // That one more is refused where nobody can wait (Erlang's B), from one connection less.
    let mut refused = 1.0;
    for count in 1..ceiling {
        let servers = f64::from(count);
        refused = load * refused / (servers + load * refused);
        let spare = servers - load;
        if spare <= 0.0 {
            continue;
        }
        // That one has to wait (Erlang's C), and then longer than so many use times.
        let waits = refused * servers / (spare + load * refused);
        if waits * (-spare * patience).exp() <= LATE_SHARE {
            return count;
        }
    }
    ceiling
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_formula_agrees_with_erlangs_tables() {
        // Nobody is to wait at all: the least number with Erlang's C below 1 %.
        for (load, needed) in [(0.5, 4), (1.0, 5), (2.0, 7), (5.0, 12), (10.0, 19), (20.0, 32), (100.0, 125)] {
            assert_eq!(servers(load, 0.0, 1000), needed, "{load}");
        }
    }

    #[test]
    fn patience_saves_connections_and_no_patience_is_more_than_the_load() {
        assert_eq!(servers(20.0, 0.5, 1000), 26);
        assert_eq!(servers(20.0, 1000.0, 1000), 21);
        assert_eq!(servers(0.0, 0.0, 1000), 1);
        assert_eq!(servers(20.0, 0.0, 25), 25, "and never more than the ceiling");
        assert_eq!(servers(f64::INFINITY, 0.0, 25), 25);
        assert_eq!(servers(f64::NAN, f64::NAN, 25), 25);
    }
}
