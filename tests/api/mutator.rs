//! Breaks objects, at random. The fuzz targets use it, too.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

const WORDS: &[&str] = &[
    "",
    " ",
    "a",
    "A-",
    "-",
    "/",
    "a/b",
    "a/b/c",
    "..",
    "kube-system",
    "$(A)",
    "{{x}}",
    "null",
    "0",
    "-1",
    "1e999",
    "99999999999999999999",
    "\u{0}",
    "\u{7f}",
    "ü",
    "💥",
    "metadata",
    "spec",
    "status",
    "name",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "k:{\"a\":1}",
    "f:spec",
    "2026-01-01T00:00:00Z",
    "10.0.0.0/8",
    "::1",
    "1Gi",
    "1.5",
    "100m",
    "%",
    "x-kubernetes-int-or-string",
];

/// Objects by the field that they were found in, to take fields from.
#[derive(Default)]
pub struct Stock(BTreeMap<String, Vec<Map<String, Value>>>);

impl Stock {
    /// Notes all objects of a tree.
    pub fn note(&mut self, tree: &Value) {
        self.note_at(tree, "");
    }

    fn note_at(&mut self, tree: &Value, at: &str) {
        match tree {
            Value::Object(map) => {
                self.0.entry(at.into()).or_default().push(map.clone());
                map.iter().for_each(|(key, value)| self.note_at(value, key));
            }
            Value::Array(items) => items.iter().for_each(|item| self.note_at(item, at)),
            _ => {}
        }
    }
}

/// Chance, and what it may choose from.
pub struct Mutator<'a> {
    pub random: StdRng,
    stock: Option<&'a Stock>,
}

impl<'a> Mutator<'a> {
    /// The same seed breaks the same things.
    pub fn new(seed: u64) -> Mutator<'a> {
        Mutator { random: StdRng::seed_from_u64(seed), stock: None }
    }

    /// Also gives objects fields that such objects have elsewhere.
    pub fn with(self, stock: &'a Stock) -> Mutator<'a> {
        Mutator { stock: Some(stock), ..self }
    }

    /// Once in `of` times.
    pub fn chance(&mut self, of: u32) -> bool {
        self.random.random_range(0..of) == 0
    }

    fn word(&mut self) -> String {
        match self.random.random_range(0..12) {
            0 => "x".repeat(self.random.random_range(1..20_000)),
            1 => (0..self.random.random_range(1..40)).map(|_| char::from_u32(self.random.random_range(1..0x2FFF)).unwrap_or('?')).collect(),
            _ => WORDS.choose(&mut self.random).copied().unwrap_or_default().to_owned(),
        }
    }

    /// Any value, of any type.
    fn value(&mut self, depth: usize) -> Value {
        match self.random.random_range(0..11) {
            0 => Value::Null,
            1 => self.random.random::<bool>().into(),
            2 => self.random.random::<i64>().into(),
            3 => i64::from(self.random.random::<i8>()).into(),
            4 => self.random.random::<u64>().into(),
            5 => json!(self.random.random::<f64>() * 1e300),
            6 | 7 => self.word().into(),
            8 if depth < 4 => (0..self.random.random_range(0..4)).map(|_| self.value(depth + 1)).collect(),
            9 if depth < 4 => {
                let entries = (0..self.random.random_range(0..4)).map(|_| (self.word(), self.value(depth + 1)));
                Value::Object(entries.collect::<Map<_, _>>())
            }
            _ => {
                // Deeper than any parser accepts, now and then.
                let levels = self.random.random_range(1..160);
                (0..levels).fold(json!("deep"), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"a": inner}) })
            }
        }
    }

    /// A field that an object found at `at` had.
    fn graft(&mut self, at: &str) -> Option<(String, Value)> {
        let donor = self.stock?.0.get(at)?.choose(&mut self.random)?;
        let (key, value) = donor.iter().nth(self.random.random_range(0..donor.len().max(1)))?;
        Some((key.clone(), value.clone()))
    }

    /// Changes one place of the tree, chosen on the way down.
    pub fn change(&mut self, tree: &mut Value) {
        self.change_at(tree, "");
    }

    fn change_at(&mut self, tree: &mut Value, at: &str) {
        let descend = !self.chance(4);
        match tree {
            Value::Object(map) if self.stock.is_some() && (map.is_empty() || self.chance(3)) => {
                map.extend(self.graft(at));
            }
            Value::Object(map) if !map.is_empty() => {
                let keys: Vec<String> = map.keys().cloned().collect();
                let key = keys.choose(&mut self.random).cloned().unwrap_or_default();
                if descend {
                    return self.change_at(&mut map[&key], &key);
                }
                match self.random.random_range(0..4) {
                    0 => drop(map.remove(&key)),
                    1 => {
                        let moved = map.remove(&key).unwrap_or_default();
                        map.insert(self.word(), moved);
                    }
                    2 => drop(map.insert(self.word(), self.value(0))),
                    _ => drop(map.insert(key, self.value(0))),
                }
            }
            Value::Array(items) if !items.is_empty() => {
                let index = self.random.random_range(0..items.len());
                if descend {
                    return self.change_at(&mut items[index], at);
                }
                match self.random.random_range(0..3) {
                    0 => drop(items.remove(index)),
                    1 => items.push(items[index].clone()),
                    _ => items[index] = self.value(0),
                }
            }
            other => *other = self.value(0),
        }
    }

    /// The tree as text; now and then not quite.
    pub fn text(&mut self, tree: &Value) -> String {
        let mut text = tree.to_string();
        if self.chance(12) {
            let cut = self.random.random_range(0..=text.len());
            text.truncate((0..=cut).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
        }
        if self.chance(12) {
            // A key twice.
            text = text.replacen('{', &format!("{{\"{}\":1,", WORDS.choose(&mut self.random).unwrap_or(&"a").escape_default()), 1);
        }
        if self.chance(20) {
            text = text.replacen("\"metadata\":{", "\"metadata\":{\"name\":\"twice\",", 1);
        }
        text
    }
}
