//! Objects of every kind as JSON: created and updated at the border, and sent again as they were answered.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use orch_fuzz::objects::{Form, HEAD, send};
use orch_fuzz::{border, mutate, seeds};

fn inputs() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (number, _, objects) in seeds::objects() {
        for (mode, object) in objects.iter().enumerate() {
            let Some(document) = (mutate::JSON.write)(object) else { continue };
            // The first of a kind is stored: that is an update.
            let mode = if mode == 0 { 1 } else { 0 };
            inputs.push([&[number, mode], &document[..]].concat());
        }
    }
    inputs
}

fuzz_target!(init: { seeds::plant(inputs, seeds::names); border::prepare() }, |data: &[u8]| send(data, Form::Json));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::document(data, size, max_size, seed, HEAD, mutate::JSON)
});
