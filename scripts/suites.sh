# The test files of the crate, in one place for the scripts that run them in another way: `source scripts/suites.sh`.
# shellcheck shell=bash disable=SC2034

# Of the core: the book of slots, what acts on it, the keeper, the budget.
core_suites=(adaptive balance bound budget checkout control events faults health holders incidents keyed lifecycle manual outage
    r2d2_compat state_machine waiting warm_up)

# Of the whole pool. Not here are those that fork, or start themselves once more with limits: `fork`, `limits`; that start other
# programs: those of the examples, of the status page, and `prometheus`; that are another build: `shuttle`; and that lend hardly
# a connection: `fuzz_config`, `layers`, `metrics`, `scaling`, `secrets`, `sizing`.
pool_suites=("${core_suites[@]}" batch fan_out health_status pool_config read_write sqlite_manager sqlite_pool status tenants
    testing)
