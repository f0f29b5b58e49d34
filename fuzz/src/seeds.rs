//! Inputs to begin with, and the words that mutations are made of.
//!
//! A target plants its seeds before libFuzzer reads the corpus, into the folder that `ORCH_FUZZ_CORPUS` names, with its dictionary
//! beside it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use orch::server::kinds::KINDS;
use orch::server::registry::KindRef;
use serde_json::Value;

use crate::border::another;
use crate::{samples, samples_by_hand};

/// The variable that names the folder of the corpus.
pub const FOLDER: &str = "ORCH_FUZZ_CORPUS";

/// Writes seeds and words, if somebody wants them.
pub fn plant(seeds: impl FnOnce() -> Vec<Vec<u8>>, words: impl FnOnce() -> BTreeSet<String>) {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("the folder of the corpus can be made");
    for (index, seed) in seeds().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index:04}")), seed).expect("the folder of the corpus can be written");
    }
    let lines: String = words().iter().filter(|word| !word.is_empty() && word.len() < 60).map(|word| entry(word)).collect();
    std::fs::write(folder.with_extension("dict"), lines).expect("the dictionary can be written");
}

/// A line of a dictionary, as libFuzzer reads it.
fn entry(word: &str) -> String {
    let escaped: String = word
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => format!("\\{}", byte as char),
            b' '..=b'~' => (byte as char).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect();
    format!("\"{escaped}\"\n")
}

/// Every kind with its number, and objects of it: one that is valid, one with a value in every field.
pub fn objects() -> Vec<(u8, &'static KindRef, Vec<Value>)> {
    let by_hand = samples_by_hand::objects();
    let of = |(number, kind): (usize, &'static KindRef)| {
        let mine = by_hand.iter().filter(|object| std::ptr::eq(samples_by_hand::row(object), kind));
        let mut objects: Vec<Value> = mine.flat_map(|object| [object.clone(), another(object)]).collect();
        objects.push(samples::full(kind));
        (u8::try_from(number).expect("there are fewer kinds than that"), kind, objects)
    };
    KINDS.iter().enumerate().map(of).collect()
}

/// All names of fields, and short texts in valid objects.
pub fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, _, objects) in objects() {
        objects.iter().for_each(|object| collect(object, &mut names));
    }
    names
}

fn collect(tree: &Value, into: &mut BTreeSet<String>) {
    match tree {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            into.insert(key.clone());
            collect(value, into);
        }),
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::String(text) => drop(into.insert(text.clone())),
        _ => {}
    }
}

/// Owned words.
pub fn words(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
