//! URLs as keys, and texts of drivers with secrets in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millpond::testing::{Act, Call, Refused, Script};
use millpond::{Maintenance, Pool, UrlKey};
use std::time::Duration;

/// Not in any text that a fuzzer makes by itself.
const SECRET: &str = "hunter2-sesame-41";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = UrlKey::parse(text) {
        // A key is its own normal form.
        let again = UrlKey::parse(key.as_url()).expect("a normal form is a URL");
        assert_eq!(again, key);
    }
    // An error of a driver that shows a password, a token and a key of URLs, in the middle of anything.
    let script = Script::new();
    let shown = format!(
        "{text} postgres://user:{SECRET}@host/db {text} https://{SECRET}@host/{text} https://host/?a=b&key={SECRET} {text}"
    );
    script.set(Call::Connect, Act::fail(move || Refused::new(shown.clone()).permanent()));
    let pool = Pool::builder(script.manager()).maintenance(Maintenance::Manual).build_lazy().expect("good settings");
    let error = pool.get_timeout(Duration::ZERO).expect_err("it refuses");
    let told = format!("{error}{error:?}{:?}{}{:?}", pool.stats(), pool.table(), pool.incidents());
    assert!(!told.contains(SECRET), "{told}");
});
