//! Structural schemas with an object of each: read, checked, compiled; the object pruned, filled in and validated, which done again
//! changes nothing. The input is `{"schema": ..., "object": ..., "old": ...}`.
#![no_main]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use orch::api::apply::compile;
use orch::api::structural::{self, Coerce, Path, Schema};
use orch::api::validations::Validations;
use orch_fuzz::{mutate, seeds};
use serde_json::{Value, json};

fn inputs() -> Vec<Vec<u8>> {
    let all = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "pattern": "^a+$", "default": "aa", "maxLength": 5, "enum": ["aa", "a"]},
        "n": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9, "exclusiveMaximum": true, "multipleOf": 2, "nullable": true},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "maxItems": 3, "items": {"type": "object",
            "required": ["k"], "properties": {"k": {"type": "string", "default": "d"}, "v": {"x-kubernetes-int-or-string": true}},
            "x-kubernetes-validations": [{"rule": "self.k != 'x'", "messageExpression": "'no ' + self.k", "fieldPath": ".k", "reason": "FieldValueForbidden"}]}},
        "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string", "format": "ipv4"}},
        "m": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "number"}, "minProperties": 1, "maxProperties": 4},
        "p": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "e": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "o": {"type": "object", "properties": {"x": {"type": "integer"}}, "oneOf": [{"required": ["x"]}, {"not": {"required": ["y"]}}],
            "anyOf": [{"properties": {"x": {"minimum": 3}}}], "allOf": [{"minProperties": 0}]},
    }, "x-kubernetes-validations": [{"rule": "self.n <= oldSelf.n || self.a == 'aa'", "message": "shrinks", "optionalOldSelf": false}]});
    let object = json!({"a": "aa", "n": 4, "l": [{"k": "q", "v": "5%"}, {"v": 3}], "s": ["1.2.3.4"], "m": {"x": 1.5}, "p": {"any": [1]},
        "e": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}, "o": {"x": 3, "z": 4}, "unknown": null});
    let whole = json!({"schema": all, "object": object, "old": object});
    let parts = all["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, schema)| json!({"schema": schema, "object": object[name], "old": null}));
    parts.chain([whole.clone()]).map(|input| input.to_string().into_bytes()).collect()
}

/// Prunes, fills in and coerces, as a definition's objects are.
fn shape(object: &mut Value, schema: &Schema) -> bool {
    structural::prune(object, schema, &mut |_| {});
    structural::drop_nulls(object, Some(schema));
    let coerced = structural::coerce(object, schema, Coerce { root: false, drop_malformed: true }, &mut |_| {});
    structural::fill(object, schema);
    coerced.is_ok()
}

fuzz_target!(init: seeds::plant(inputs, seeds::names), |data: &[u8]| {
    let Ok(mut input) = serde_json::from_slice::<Value>(data) else { return };
    let Ok(props) = serde_json::from_value::<JSONSchemaProps>(input["schema"].clone()) else { return };
    let tree = serde_json::to_value(&props).expect("a schema can be written");
    let Ok(schema) = Schema::parse(&props) else { return };
    let faults = structural::check(&schema, Path::ROOT);
    assert_eq!(structural::check(&schema, Path::ROOT), faults);
    // Definitions with faults are refused, so nothing is ever held against their schemas.
    if !faults.is_empty() || !structural::check_defaults(&schema, true, Path::ROOT).is_empty() {
        return;
    }
    let _ = compile::custom(&tree);
    let rules = Validations::compile(&schema, &tree);
    let (mut object, mut old) = (input["object"].take(), input["old"].take());
    if !shape(&mut object, &schema) {
        return;
    }
    let once = object.clone();
    assert!(shape(&mut object, &schema), "{once}");
    assert_eq!(object, once, "{tree}");
    let has_old = shape(&mut old, &schema) && !old.is_null();
    let errors = match has_old {
        true => structural::validate_update(&object, &old, &schema, Path::ROOT),
        false => structural::validate(&object, &schema, Path::ROOT),
    };
    structural::validate_embedded(&object, &schema, false, Path::ROOT);
    structural::validate_list_types(&object, &schema);
    if let Some(rules) = rules.filter(|_| errors.is_empty()) {
        rules.run(&schema, &object, has_old.then_some(&old));
    }
    // An object that did not change has no new faults.
    assert!(!has_old || object != old || errors.is_empty(), "{errors:?}");
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate::document(data, size, max_size, seed, 0, mutate::JSON) });
