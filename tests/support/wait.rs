//! Deadlines, and where a scenario is.

use std::time::{Duration, Instant};

/// Says where a scenario is.
pub fn step(what: &str) {
    eprintln!("== {what}");
}

/// Tries until it gives something, for what no event tells. The error is why it does not yet.
pub fn eventually<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) if Instant::now() >= deadline => panic!("not within {limit:?}: {what}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
