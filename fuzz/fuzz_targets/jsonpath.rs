//! JSONPath templates, as columns of definitions and `-o jsonpath` have them, over one object.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use orch::api::jsonpath::Template;
use orch_fuzz::seeds;
use serde_json::{Value, json};

const SEEDS: &[&str] = &[
    "{.metadata.name}",
    "{.items[*].metadata.name}",
    "{range .items[*]}{.metadata.name}{\"\\t\"}{end}",
    "{.items[?(@.spec.n>1)].metadata.name}",
    "{..name}",
    "{.items[0:2:1]}",
    "{.items[-1]}",
    "{['metadata']['name','labels']}",
    "{.metadata.labels.a\\.b/c}",
    "{@}",
    "{$.kind} text",
    "{.items[?(@.metadata.name==\"a\")]}",
    ".metadata.name",
    "metadata.name",
    "{range .items[*]}{range .list[*]}{@}{end}{end}",
    "{.items[*]['metadata.name', 'spec']}",
];

static OBJECT: LazyLock<Value> = LazyLock::new(|| {
    json!({"kind": "List", "metadata": {"name": "n", "labels": {"a.b/c": "d"}}, "list": [1, 2.5, null, "x", true], "items": [
        {"metadata": {"name": "a"}, "spec": {"n": 1, "m": -1}, "list": [[1, 2], [3]]}, {"metadata": {"name": "b"}, "spec": {"n": 2}}, {"spec": "text"}, 7,
    ]})
});

fuzz_target!(init: seeds::plant(
    || SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect(),
    || seeds::words(&["{", "}", "[", "]", "[*]", "..", ".", "*", "@", "$", "?(", ")", "range", "end", "==", "!=", "<=", ">", "&&", "||", ":", "'", "\"", "items", "name", "-1"]),
), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for template in [Template::parse(text), Template::relaxed(text)].into_iter().flatten() {
        let first = template.render(&OBJECT).map_err(|error| error.to_string());
        assert_eq!(template.render(&OBJECT).map_err(|error| error.to_string()), first, "{text:?}");
        let _ = template.values(&OBJECT);
    }
});
