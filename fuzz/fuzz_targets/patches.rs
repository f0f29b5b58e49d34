//! All four types of patches: of the stored object of every kind at the border, and as functions of an object with a value in every
//! field. A merge patch applied again changes nothing, nor does a configuration.
#![no_main]

use std::cell::RefCell;
use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use orch::api::apply::manager::{self, Applied, Live, same_but_times};
use orch::api::apply::{Filter, Schema, Versions, Writer};
use orch::api::{patch, yaml};
use orch::server::registry::{KindRef, MergeSchema};
use orch_fuzz::border::{self, border, judge, kind, one};
use orch_fuzz::{mutate, seeds};
use serde_json::{Value, json};

const HEAD: usize = 2;
const TYPES: [&str; 4] = [
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/json-patch+json",
];

fn inputs() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (number, _, objects) in seeds::objects() {
        for object in &objects {
            for mode in 0..3 {
                inputs.push([&[number, mode], object.to_string().as_bytes()].concat());
            }
            let operations: Vec<Value> = object
                .as_object()
                .into_iter()
                .flatten()
                .flat_map(|(key, value)| {
                    let path = format!("/{key}");
                    [json!({"op": "add", "path": path, "value": value}), json!({"op": "test", "path": path, "value": value})]
                })
                .collect();
            inputs.push([&[number, 3], json!(operations).to_string().as_bytes()].concat());
        }
        for patch in [
            r#"[{"op":"copy","from":"/spec","path":"/metadata/annotations"},{"op":"move","from":"/spec","path":"/status"},{"op":"remove","path":"/metadata/labels/-"}]"#,
            r#"[{"op":"replace","path":"/spec/containers/0/image","value":"x"},{"op":"add","path":"/metadata/finalizers/-","value":"a/b"}]"#,
        ] {
            inputs.push([&[number, 3], patch.as_bytes()].concat());
        }
        for patch in [
            r#"{"spec":{"$retainKeys":["containers"],"containers":[{"$patch":"delete","name":"c"}],"$setElementOrder/containers":[{"name":"c"}]}}"#,
            r#"{"spec":{"$patch":"replace","containers":[]},"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"labels":{"a":null}}}"#,
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","ports":[{"containerPort":80,"$patch":"merge"}]}]}}}}"#,
        ] {
            inputs.push([&[number, 1], patch.as_bytes()].concat());
        }
    }
    inputs
}

thread_local! {
    static FULL: RefCell<HashMap<u8, Value>> =
        RefCell::new(seeds::objects().into_iter().filter_map(|(number, _, mut objects)| Some((number, objects.pop()?))).collect());
}

/// The object of the kind that has everything.
fn full(number: u8) -> Value {
    let number = number % u8::try_from(orch::server::kinds::KINDS.len()).unwrap();
    FULL.with_borrow(|all| all[&number].clone())
}

/// One version of a kind, and no other.
struct Only<'a>(&'a KindRef);

impl Versions for Only<'_> {
    fn schema(&self, version: &str) -> Option<&Schema> {
        (version == self.0.api_version()).then(|| &self.0.structure().schema)
    }
    fn convert(&self, _: &Value, from: &str, to: &str) -> Result<Value, String> {
        Err(format!("there is neither {from} nor {to}"))
    }
    fn filter(&self, _: &str) -> Filter {
        Filter::Except(&[])
    }
}

/// A configuration that was applied is there; applied again it changes nothing. (But once: whoever lost the last field of a struct to it owns
/// the bare struct, which the next write takes for one that was atomic, and gives all fields of it back, as upstream's `reconcile_schema.go`.)
fn applied_twice(kind: &KindRef, target: &Value, body: &[u8], force: bool) {
    let Ok(config) = yaml::read(body, &mut Vec::new()) else { return };
    let (version, now) = (kind.api_version(), Time(jiff::Timestamp::UNIX_EPOCH));
    let writer = Writer { manager: "fuzz", version: &version, subresource: "", now: &now };
    let applied = Applied { config: &config, kind: kind.kind(), force, zero: &kind.structure().zero };
    let apply = |value: &Value, entries| manager::apply(Live { value, entries, is_new: false }, applied, writer, &Only(kind));
    let Ok((first, owners)) = apply(target, None) else { return };
    let again = |value: &Value, entries| apply(value, entries).unwrap_or_else(|error| panic!("{error:?}: {config}"));
    let (second, settled) = again(&first, owners.clone());
    assert_eq!(first, second, "{config}");
    let own = |entries: &Option<Vec<ManagedFieldsEntry>>| -> Vec<ManagedFieldsEntry> {
        entries.iter().flatten().filter(|entry| entry.manager.as_deref() == Some(writer.manager)).cloned().collect()
    };
    assert!(same_but_times(&own(&owners), &own(&settled)), "{config}: {owners:?}, then {settled:?}");
    let (third, last) = again(&second, settled.clone());
    assert_eq!(second, third, "{config}");
    assert!(
        same_but_times(&settled.clone().unwrap_or_default(), &last.clone().unwrap_or_default()),
        "{config}: {settled:?}, then {last:?}"
    );
}

fn pure(kind: &KindRef, number: u8, mode: u8, body: &[u8]) {
    let target = full(number);
    match mode & 3 {
        0 => {
            if let Ok(once) = patch::merge(target, body) {
                assert_eq!(patch::merge(once.clone(), body).expect("it was a patch before"), once);
            }
        }
        1 => {
            if let MergeSchema::Type(name) = kind.merge_schema() {
                let _ = patch::strategic(target, body, name);
            }
        }
        2 => applied_twice(kind, &target, body, mode & 4 != 0),
        _ => drop(patch::json(&target, body)),
    }
}

fuzz_target!(init: { seeds::plant(inputs, seeds::names); border::prepare() }, |data: &[u8]| {
    let Some((head, body)) = data.split_at_checked(HEAD) else { return };
    let (kind, mode) = (kind(head[0]), head[1]);
    pure(kind, head[0], mode, body);
    border(|border| {
        let Some(stored) = border.stored(kind) else { return };
        let media = TYPES[usize::from(mode & 3)];
        let force = if mode & 7 == 6 { "&force=true" } else { "" };
        let part = ["", "", "", "/status"][usize::from(mode >> 3) % 4];
        let validation = ["Strict", "Warn", "Ignore"][usize::from(mode >> 5) % 3];
        let uri = format!("{}{part}?dryRun=All&fieldManager=fuzz{force}&fieldValidation={validation}", one(kind, stored));
        let asked = || format!("PATCH {uri} {media} {}", String::from_utf8_lossy(body));
        if let Some(answer) = border.ask("PATCH", &uri, &[("content-type", media)], body)
            && judge(&answer, &asked)
        {
            assert_eq!(answer.body["kind"], kind.kind(), "{}", asked());
        }
    });
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::document(data, size, max_size, seed, HEAD, mutate::JSON)
});
