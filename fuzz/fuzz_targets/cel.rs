//! Expressions: checked, estimated and run, twice alike. The first byte chooses the variables: of any type, or of a schema with bounded
//! sizes, where a run may not cost more than was estimated.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use orch::api::cel::{Activation, Authorize, AuthzCheck, AuthzDecision, AuthzState, Budget, DeclType, Env, Opaque, Program, Type, Value};
use orch_fuzz::seeds;
use serde_json::{Value as Json, json};

const TABLES: &[&str] = &[
    include_str!("../../src/api/cel/tests/cases/basics.txt"),
    include_str!("../../src/api/cel/tests/cases/libraries.txt"),
    include_str!("../../src/api/cel/tests/cases/macros.txt"),
    include_str!("../../src/api/cel/tests/cases/refused.txt"),
    include_str!("../../src/api/cel/tests/cases/strings.txt"),
    include_str!("../../src/api/cel/tests/cases/times.txt"),
];
const RULES: &[&str] = &[
    "self.n > 3 && self.name.startsWith('a')",
    "self.list.all(x, x.size() < 10) && self.map.exists(k, self.map[k] > 2)",
    "self.items.map(i, i.name + self.name).join(',').size() < 100",
    "has(self.name) ? self.list.filter(x, x != 'b').size() == 1 : self.n < 10",
    "self.items.exists_one(i, i.name == 'a' && i.tags.all(t, t in self.list))",
    "self.when < timestamp('2030-01-01T00:00:00Z') && self.span > duration('1s')",
    "self.list.sum() == '' || self.name.matches('^[a-z]+$') || self.name.replace('a', self.name).lowerAscii() == 'x'",
    "self.data.size() > 1 && self.anything == 3 || isQuantity(self.name) && quantity(self.name).isGreaterThan(quantity('1Gi'))",
];

/// Refuses everybody.
struct Nobody;

impl Authorize for Nobody {
    fn authorize(&self, check: &AuthzCheck) -> AuthzDecision {
        AuthzDecision { allowed: false, reason: check.verb.clone(), error: None }
    }
}

fn schema() -> Json {
    json!({"type": "object", "properties": {
        "n": {"type": "integer"},
        "ratio": {"type": "number"},
        "yes": {"type": "boolean"},
        "name": {"type": "string", "maxLength": 10},
        "data": {"type": "string", "format": "byte", "maxLength": 8},
        "when": {"type": "string", "format": "date-time"},
        "span": {"type": "string", "format": "duration"},
        "anything": {"x-kubernetes-int-or-string": true},
        "list": {"type": "array", "maxItems": 4, "items": {"type": "string", "maxLength": 5}},
        "map": {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "integer"}},
        "items": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 4},
                "tags": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 4}},
            },
        }},
    }})
}

fn object() -> Json {
    json!({
        "n": 7, "ratio": 1.5, "yes": true, "name": "abcdefghij", "data": "AAECAw==", "when": "2026-01-01T00:00:00Z", "span": "1h30m", "anything": "50%",
        "list": ["a", "bb", "ccccc", "a"], "map": {"k": 1, "longer": 2, "last": 3},
        "items": [{"name": "a", "tags": ["a", "b", "c"]}, {"name": "bbbb", "tags": []}, {"name": "c"}],
    })
}

fn inputs() -> Vec<Vec<u8>> {
    let lines = TABLES.iter().flat_map(|table| table.lines()).filter_map(|line| line.split_once(" => ")).map(|(source, _)| source);
    lines.map(|source| [b"x", source.as_bytes()].concat()).chain(RULES.iter().map(|rule| [b"y", rule.as_bytes()].concat())).collect()
}

/// Every word of the seeds.
fn words() -> BTreeSet<String> {
    let text = TABLES.concat() + &RULES.concat();
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| word.len() > 1).map(str::to_owned).collect()
}

/// The outcome as text, and its cost.
fn run<'a>(program: &'a Program, activation: &Activation<'a>) -> (Result<String, String>, u64) {
    let mut budget = Budget::new(Budget::RUNTIME);
    let value = program.eval(activation, &mut budget);
    let shown = value.map(|value| format!("{} {:?}", value.type_name(), value.to_json())).map_err(|error| error.to_string());
    (shown, Budget::RUNTIME - budget.left())
}

fn any(source: &str) {
    let env = Env::new()
        .with("x", Type::Dyn)
        .with("text", Type::String)
        .with("numbers", Type::list(Type::Int))
        .with("labels", Type::map(Type::String, Type::String))
        .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
        .with_constructors();
    let Ok(program) = env.compile(source) else { return };
    let x = json!({"a": 1, "b": [1, 2, 3], "c": {"d": "deep", "e": null}, "f": 1.5, "g": "text"});
    let (numbers, labels) = (json!([3, 1, 2]), json!({"app": "web", "tier": "front"}));
    let value = |json| Value::from_json(json, None).expect("it is plain JSON");
    let activation = Activation::new()
        .with("x", value(&x))
        .with("text", "some text".into())
        .with("numbers", value(&numbers))
        .with("labels", value(&labels))
        .with("authorizer", Opaque::Authz(AuthzState::Authorizer(AuthzCheck::default())).into())
        .with_authorizer(&Nobody);
    assert_eq!(run(&program, &activation), run(&program, &activation), "{source}");
}

fn bounded(source: &str) {
    let decl = DeclType::from_schema("selfType", &schema(), false).expect("the schema can be seen");
    let env = Env::new().with("self", decl.ty.clone()).with("oldSelf", decl.ty.clone());
    let Ok(program) = env.compile(source) else { return };
    let estimate = program.estimate(&decl);
    assert!(estimate.min <= estimate.max, "{source}: {estimate:?}");
    let object = object();
    let value = || Value::from_json(&object, Some(&decl)).expect("the object is of the schema");
    let activation = Activation::new().with("self", value()).with("oldSelf", value());
    let first = run(&program, &activation);
    assert_eq!(first, run(&program, &activation), "{source}");
    if first.0.is_ok() {
        // Both figures are cel-go's, which charges a field of something made on the spot once more than it expected.
        let expected = estimate.max.saturating_mul(2).saturating_add(source.len() as u64);
        assert!(first.1 <= expected, "{source} cost {}, at most {} was expected", first.1, estimate.max);
    }
}

fuzz_target!(init: seeds::plant(inputs, words), |data: &[u8]| {
    let Some((mode, source)) = data.split_first() else { return };
    let Ok(source) = std::str::from_utf8(source) else { return };
    if mode % 2 == 0 { any(source) } else { bounded(source) }
});
