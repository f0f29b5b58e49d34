//! Times: durations as Go writes them, timestamps, and both as expressions know them.
#![no_main]

use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use libfuzzer_sys::fuzz_target;
use orch::api::cel::{Activation, Budget, Env, Program, Type, Value};
use orch::api::duration::go_duration;
use orch_fuzz::seeds;
use serde::Serialize;
use serde::de::DeserializeOwned;

const SEEDS: &[&str] = &[
    "0",
    "1s",
    "-1.5h",
    "1h2m3s4ms5us6ns",
    "+.5s",
    "9223372036s",
    "2562047h47m16.854775807s",
    "2026-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "2026-01-01T00:00:00.123456-07:00",
    "2016-12-31T23:59:60Z",
    "1e3s",
    "1µs",
    "292y",
];

/// What was read is written as something that reads alike.
fn stable<T: DeserializeOwned + Serialize>(text: &str) {
    let Ok(time) = serde_json::from_value::<T>(text.into()) else { return };
    // Years before zero can't be written; the border refuses them (`tests/api/found.rs`).
    if text.starts_with('-') {
        return;
    }
    let shown = serde_json::to_value(&time).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let back: T = serde_json::from_value(shown.clone()).unwrap_or_else(|error| panic!("{text:?} is {shown}: {error}"));
    assert_eq!(serde_json::to_value(&back).ok(), Some(shown), "{text:?}");
}

/// Expressions that hold for every duration and every time.
const LAWS: [&str; 6] = [
    "duration(string(duration(t))) == duration(t)",
    "duration(t).getHours() * 3600 <= duration(t).getSeconds() || duration(t) < duration('0s')",
    "timestamp(string(timestamp(t))) == timestamp(t)",
    "timestamp(t).getFullYear('America/New_York') > -1 && timestamp(t).getDayOfYear() < 366 && timestamp(t).getHours('-23:59') < 24",
    "timestamp(t) + duration('1s') > timestamp(t) && timestamp(t) - timestamp(t) == duration('0s')",
    "duration(t) + duration(t) - duration(t) == duration(t)",
];

static PROGRAMS: LazyLock<Vec<Program>> = LazyLock::new(|| {
    let env = Env::new().with("t", Type::String);
    LAWS.iter().map(|law| env.compile(law).expect("a law is an expression")).collect()
});

fn laws(text: &str) {
    for law in PROGRAMS.iter() {
        // What is no duration, or overflows, is an error.
        if let Ok(value) = law.eval(&Activation::new().with("t", text.into()), &mut Budget::new(Budget::RUNTIME)) {
            assert!(matches!(value, Value::Bool(true)), "{}: {text:?}", law.source());
        }
    }
}

fuzz_target!(init: seeds::plant(
    || SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect(),
    || seeds::words(&["ns", "us", "µs", "ms", "s", "m", "h", ".", "-", "+", "T", "Z", ":", "-07:00", "9999", "0001", "29"]),
), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(length) = go_duration(text) {
        assert_eq!(go_duration(&format!("{}ns", length.as_nanos())), Ok(length), "{text:?}");
    }
    stable::<Time>(text);
    stable::<MicroTime>(text);
    laws(text);
});
