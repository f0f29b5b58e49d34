//! Mutations that know trees, for targets whose input is some bytes and a document. Half of the time libFuzzer's own are left to work.

use std::sync::LazyLock;

use libfuzzer_sys::fuzzer_mutate;
use orch::api::yaml;
use rand::RngExt;
use serde_json::Value;

use crate::mutator::{Mutator, Stock};
use crate::seeds;

/// What fields the objects of all kinds have.
static STOCK: LazyLock<Stock> = LazyLock::new(|| {
    let mut stock = Stock::default();
    for (_, _, objects) in seeds::objects() {
        objects.iter().for_each(|object| stock.note(object));
    }
    stock
});

/// How a document is read and written.
#[derive(Clone, Copy)]
pub struct Document {
    pub read: fn(&[u8]) -> Option<Value>,
    pub write: fn(&Value) -> Option<Vec<u8>>,
}

/// JSON.
pub const JSON: Document = Document { read: |bytes| serde_json::from_slice(bytes).ok(), write: |tree| serde_json::to_vec(tree).ok() };
/// YAML.
pub const YAML: Document =
    Document { read: |bytes| yaml::read(bytes, &mut Vec::new()).ok(), write: |tree| Some(yaml::write(tree).into_bytes()) };

/// Mutates `data[..size]`, of which the first `head` bytes are no document; returns the new size.
pub fn document(data: &mut [u8], size: usize, max_size: usize, seed: u32, head: usize, form: Document) -> usize {
    let mut mutator = Mutator::new(seed.into()).with(&STOCK);
    if size <= head || mutator.chance(2) {
        return fuzzer_mutate(data, size, max_size);
    }
    let Some(mut tree) = (form.read)(&data[head..size]) else { return fuzzer_mutate(data, size, max_size) };
    if head > 0 && mutator.chance(16) {
        let at = mutator.random.random_range(0..head);
        data[at] = mutator.random.random();
    }
    for _ in 0..mutator.random.random_range(1..4) {
        mutator.change(&mut tree);
    }
    match (form.write)(&tree) {
        Some(bytes) if head + bytes.len() <= max_size.min(data.len()) => {
            data[head..head + bytes.len()].copy_from_slice(&bytes);
            head + bytes.len()
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
}
