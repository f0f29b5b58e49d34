//! Objects of every kind as YAML: created and updated at the border, and sent again as they were answered. What is read of a text is
//! read of what is written of it.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use orch::api::yaml;
use orch_fuzz::objects::{Form, HEAD, send};
use orch_fuzz::{border, mutate, seeds};

fn inputs() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (number, _, objects) in seeds::objects() {
        for (mode, object) in objects.iter().enumerate() {
            let Some(document) = (mutate::YAML.write)(object) else { continue };
            // The first of a kind is stored: that is an update.
            let mode = if mode == 0 { 1 } else { 0 };
            inputs.push([&[number, mode], &document[..]].concat());
        }
    }
    inputs
}

fn written_and_read(body: &[u8]) {
    let Ok(value) = yaml::read(body, &mut Vec::new()) else { return };
    let text = yaml::write(&value);
    assert_eq!(yaml::read(text.as_bytes(), &mut Vec::new()).as_ref(), Ok(&value), "{text}");
}

fuzz_target!(init: { seeds::plant(inputs, seeds::names); border::prepare() }, |data: &[u8]| {
    if let Some(body) = data.get(HEAD..) {
        written_and_read(body);
    }
    send(data, Form::Yaml)
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::document(data, size, max_size, seed, HEAD, mutate::YAML)
});
