//! Settings made of anything: an error that names its field, or a pool; never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millpond::{Pool, PoolConfig};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // As pairs from an environment, one in each line.
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (format!("P_{name}"), value.to_owned()));
    let from_variables = PoolConfig::from_vars("P", pairs).ok();
    // As a file.
    let from_file = serde_json::from_str::<PoolConfig>(text).ok();
    for config in [from_variables, from_file].into_iter().flatten() {
        drop(config.lint());
        let again = serde_json::to_string(&config).expect("what was read can be written");
        assert_eq!(serde_json::from_str::<PoolConfig>(&again).expect("and read again"), config);
        if let Err(error) = Pool::builder(|| Ok::<_, std::io::Error>(())).config(&config).build_lazy() {
            assert!(!error.to_string().is_empty());
        }
    }
});
