//! Manifests that somebody broke: thousands of mutated objects of every kind, written in every way. Each gets an answer that says what is
//! wrong, and none leaves anything behind that was refused.
//!
//! `ORCH_MUTATIONS=10000` is the long form; `ORCH_SEED` chooses other ones.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use super::kinds::{collection, objects, row, text};
use super::support::server;

/// How many without the long form.
const DEFAULT: usize = 1500;

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

struct Mutator {
    random: StdRng,
}

impl Mutator {
    fn chance(&mut self, of: u32) -> bool {
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

    /// Changes one place of the tree, chosen on the way down.
    fn change(&mut self, tree: &mut Value) {
        let descend = !self.chance(4);
        match tree {
            Value::Object(map) if !map.is_empty() => {
                let keys: Vec<String> = map.keys().cloned().collect();
                let key = keys.choose(&mut self.random).cloned().unwrap_or_default();
                if descend {
                    return self.change(&mut map[&key]);
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
                    return self.change(&mut items[index]);
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
    fn text(&mut self, tree: &Value) -> String {
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

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn broken_manifests_are_refused_with_reasons() {
    let seed = setting("ORCH_SEED", 37);
    let count = usize::try_from(setting("ORCH_MUTATIONS", DEFAULT as u64)).unwrap();
    println!("ORCH_SEED={seed} ORCH_MUTATIONS={count}");
    let mut mutator = Mutator { random: StdRng::seed_from_u64(seed) };
    let api = server().await;
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
    let objects = objects();
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..count {
        let original = objects.choose(&mut mutator.random).unwrap();
        let kind = row(original);
        let all = collection(kind);
        let one = format!("{all}/{}", text(&original["metadata"]["name"]));
        let mut broken = original.clone();
        for _ in 0..mutator.random.random_range(1..4) {
            mutator.change(&mut broken);
        }
        let body = mutator.text(&broken);
        let existing = mutator.chance(2);
        if existing {
            let made = api.ask("admin", "POST", &all, &[], &original.to_string()).await;
            assert!(made.code == 201 || made.code == 409, "{kind:?}: {} {}", made.code, made.body);
        }
        let before = api.ask("admin", "GET", &one, &[], "").await;
        let (method, uri, media) = match mutator.random.random_range(0..6) {
            0 if existing => ("PUT", one.clone(), "application/json"),
            1 => ("PATCH", one.clone(), "application/merge-patch+json"),
            2 => ("PATCH", one.clone(), "application/strategic-merge-patch+json"),
            3 => ("PATCH", format!("{one}?fieldManager=m&force=true"), "application/apply-patch+yaml"),
            4 => ("POST", format!("{all}?fieldValidation=Strict"), "application/yaml"),
            _ => ("POST", all.clone(), "application/json"),
        };
        let answer = api.ask("admin", method, &uri, &[("content-type", media)], &body).await;
        let told = || format!("seed {seed}, round {round}: {method} {uri} {media}\n{body}\n{} {}", answer.code, answer.body);
        match answer.code {
            200 | 201 => accepted += 1,
            code => {
                refused += 1;
                assert!((400..500).contains(&code), "{}", told());
                assert!(answer.body["kind"] == "Status" && !answer.message().is_empty(), "{}", told());
                let causes = answer.body["details"]["causes"].as_array().map_or(0, Vec::len);
                assert!(code != 422 || causes > 0 || method == "PATCH", "an invalid object names its fields: {}", told());
                let after = api.ask("admin", "GET", &one, &[], "").await;
                assert_eq!(before.body["metadata"]["resourceVersion"], after.body["metadata"]["resourceVersion"], "{}", told());
            }
        }
        for object in [&answer.body, original] {
            let name = text(&object["metadata"]["name"]);
            if !name.is_empty() && kind.kind() != "Namespace" {
                let one = format!("{all}/{name}");
                api.ask("admin", "DELETE", &one, &[], r#"{"gracePeriodSeconds":0}"#).await;
                let free = [("content-type", "application/merge-patch+json")];
                api.ask("admin", "PATCH", &one, &free, r#"{"metadata":{"finalizers":null}}"#).await;
            }
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted * 50 > count && refused * 50 > count, "neither all nor nothing passes: {accepted} accepted, {refused} refused");
}
