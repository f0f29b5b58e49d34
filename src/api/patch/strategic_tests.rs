//! Strategic merge, as tables: target, patch, result.

use super::super::{PatchError, strategic};
use proptest::prelude::*;
use serde_json::Value;

const POD: &str = "io.k8s.api.core.v1.Pod";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

fn value(yaml: &str) -> Value {
    serde_yaml::from_str(yaml).unwrap()
}

fn patched(kind: &'static str, target: &str, patch: &str) -> Result<Value, PatchError> {
    strategic(value(target), serde_json::to_string(&value(patch)).unwrap().as_bytes(), kind)
}

fn check(kind: &'static str, target: &str, patch: &str, expect: &str) {
    let got = patched(kind, target, patch).unwrap_or_else(|error| panic!("{patch}: {error}"));
    // As text, so that the order of lists counts and what differs can be read.
    assert_eq!(serde_yaml::to_string(&got).unwrap(), serde_yaml::to_string(&value(expect)).unwrap(), "{patch}");
}

#[test]
fn objects() {
    check(POD, "{metadata: {labels: {a: b, c: d}}}", "{metadata: {labels: {a: null, e: f}}}", "{metadata: {labels: {c: d, e: f}}}");
    check(POD, "{spec: {nodeName: a}}", "{spec: {nodeName: null, hostname: b}}", "{spec: {hostname: b}}");
    check(POD, "{metadata: {labels: {a: b}}}", "{metadata: {labels: {$patch: replace, c: d}}}", "{metadata: {labels: {c: d}}}");
    check(POD, "{metadata: {labels: {a: b}}}", "{metadata: {labels: {$patch: delete}}}", "{metadata: {labels: {}}}");
    check(POD, "{metadata: {labels: {a: b}}}", "{metadata: {labels: {$patch: merge, c: d}}}", "{metadata: {labels: {a: b, c: d}}}");
    check(POD, "{metadata: {name: x}}", "{metadata: {annotations: {a: null, b: c}}}", "{metadata: {annotations: {b: c}, name: x}}");
    check(POD, "{spec: {affinity: 1}}", "{spec: {affinity: {nodeAffinity: {}}}}", "{spec: {affinity: {nodeAffinity: {}}}}");
}

#[test]
fn lists_by_key() {
    let two = "{spec: {containers: [{name: a, image: x, tty: true}, {name: b, image: y}]}}";
    check(
        POD,
        two,
        "{spec: {containers: [{name: b, image: z}]}}",
        "{spec: {containers: [{image: x, name: a, tty: true}, {image: z, name: b}]}}",
    );
    check(POD, two, "{spec: {containers: [{name: a, $patch: delete}]}}", "{spec: {containers: [{image: y, name: b}]}}");
    check(POD, two, "{spec: {containers: [{$patch: replace}, {name: c}]}}", "{spec: {containers: [{name: c}]}}");
    check(POD, two, "{spec: {containers: [{name: a, tty: null}]}}", "{spec: {containers: [{image: x, name: a}, {image: y, name: b}]}}");
    // An element that the patch adds comes before those it does not name: the patch's order is the stronger one.
    check(
        POD,
        two,
        "{spec: {containers: [{name: c}]}}",
        "{spec: {containers: [{name: c}, {image: x, name: a, tty: true}, {image: y, name: b}]}}",
    );
    check(
        POD,
        "{spec: {containers: [{name: a, ports: [{containerPort: 80, name: h}, {containerPort: 81}]}]}}",
        "{spec: {containers: [{name: a, ports: [{containerPort: 81, name: i}]}]}}",
        "{spec: {containers: [{name: a, ports: [{containerPort: 80, name: h}, {containerPort: 81, name: i}]}]}}",
    );
    check(POD, "{spec: {}}", "{spec: {containers: [{name: a, $patch: delete}]}}", "{spec: {containers: []}}");
    check(POD, "{spec: {}}", "{spec: {containers: [{name: a, image: null}]}}", "{spec: {containers: [{name: a}]}}");
    check(
        POD,
        "{status: {conditions: [{type: Ready, status: 'False'}, {type: Other, status: 'True'}]}}",
        "{status: {conditions: [{type: Ready, status: 'True'}]}}",
        "{status: {conditions: [{status: 'True', type: Ready}, {status: 'True', type: Other}]}}",
    );
}

#[test]
fn atomic_lists_are_replaced() {
    check(
        POD,
        "{spec: {tolerations: [{key: a}], containers: [{name: a, args: [x, y]}]}}",
        "{spec: {tolerations: [{key: b}], containers: [{name: a, args: [z]}]}}",
        "{spec: {containers: [{args: [z], name: a}], tolerations: [{key: b}]}}",
    );
}

#[test]
fn lists_of_scalars() {
    check(POD, "{metadata: {finalizers: [a, b]}}", "{metadata: {finalizers: [c, a]}}", "{metadata: {finalizers: [c, a, b]}}");
    check(
        POD,
        "{metadata: {finalizers: [a, b, c]}}",
        "{metadata: {$deleteFromPrimitiveList/finalizers: [b]}}",
        "{metadata: {finalizers: [a, c]}}",
    );
    check(
        POD,
        "{metadata: {finalizers: [a, b]}}",
        "{metadata: {$deleteFromPrimitiveList/finalizers: [a], $setElementOrder/finalizers: [c, b], finalizers: [c]}}",
        "{metadata: {finalizers: [c, b]}}",
    );
    check(POD, "{metadata: {}}", "{metadata: {$deleteFromPrimitiveList/finalizers: [a]}}", "{metadata: {}}");
}

#[test]
fn element_order() {
    check(
        POD,
        "{spec: {containers: [{name: a}, {name: b}, {name: c}]}}",
        "{spec: {$setElementOrder/containers: [{name: c}, {name: a}, {name: b}], containers: [{name: a, image: x}]}}",
        "{spec: {containers: [{name: c}, {image: x, name: a}, {name: b}]}}",
    );
    // An element that somebody else added keeps its place before the first one it preceded.
    check(
        POD,
        "{spec: {containers: [{name: s}, {name: a}, {name: b}]}}",
        "{spec: {$setElementOrder/containers: [{name: b}, {name: a}]}}",
        "{spec: {containers: [{name: s}, {name: b}, {name: a}]}}",
    );
    check(POD, "{spec: {}}", "{spec: {$setElementOrder/containers: [{name: a}]}}", "{spec: {}}");
    check(
        POD,
        "{spec: {containers: [{name: a, env: [{name: X, value: '1'}, {name: Y}]}]}}",
        "{spec: {$setElementOrder/containers: [{name: a}], containers: [{name: a, $setElementOrder/env: [{name: Y}, {name: X}], \
         env: [{name: X, value: '2'}]}]}}",
        "{spec: {containers: [{env: [{name: Y}, {name: X, value: '2'}], name: a}]}}",
    );
}

#[test]
fn retained_keys() {
    check(
        DEPLOYMENT,
        "{spec: {strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}}}",
        "{spec: {strategy: {$retainKeys: [type], type: Recreate}}}",
        "{spec: {strategy: {type: Recreate}}}",
    );
    check(
        POD,
        "{spec: {volumes: [{name: v, emptyDir: {}}]}}",
        "{spec: {volumes: [{$retainKeys: [name, hostPath], name: v, hostPath: {path: /x}}]}}",
        "{spec: {volumes: [{hostPath: {path: /x}, name: v}]}}",
    );
}

#[test]
fn refusals() {
    for (kind, target, patch, code, message) in [
        (POD, "{}", "{metadata: {$patch: foo}}", 400, "invalid value \"foo\" of $patch"),
        (POD, "{}", "{metadata: {$patch: 1}}", 400, "of $patch"),
        (POD, "{}", "{metadata: {$retainKeys: x}}", 400, "$retainKeys must be a list"),
        (POD, "{}", "{metadata: {$retainKeys: [a], b: c}}", 400, "\"b\""),
        (POD, "{}", "{metadata: {$deleteFromPrimitiveList/finalizers: x}}", 400, "invalid patch format of deleteFromPrimitiveList"),
        (POD, "{}", "{metadata: {$setElementOrder/finalizers: x}}", 400, "invalid patch format of setElementOrder"),
        (POD, "{}", "{spec: {containers: [{image: a}]}}", 422, "does not contain declared merge key: name"),
        (POD, "{}", "{spec: {containers: [{$patch: delete}]}}", 422, "does not contain declared merge key: name"),
        (POD, "{}", "{spec: {containers: [{name: a}, 1]}}", 422, "must hold objects only"),
        (
            POD,
            "{}",
            "{spec: {$setElementOrder/containers: [{name: a}, {name: b}], containers: [{name: b}, {name: a}]}}",
            422,
            "doesn't match $setElementOrder/containers list",
        ),
    ] {
        let error = patched(kind, target, patch).expect_err(patch);
        assert_eq!(error.code(), code, "{patch}: {error}");
        assert!(error.to_string().contains(message), "{patch}: {error}");
    }
    assert_eq!(strategic(value("{}"), b"[]", POD).unwrap_err().code(), 400);
    assert_eq!(strategic(value("{}"), b"{", POD).unwrap_err().code(), 400);
    assert_eq!(strategic(value("[]"), b"{}", POD).unwrap_err().code(), 422);
}

const NAMES: &[&str] = &[
    "metadata",
    "finalizers",
    "spec",
    "containers",
    "name",
    "volumes",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "labels",
    "ports",
    "containerPort",
];

fn named(inner: impl Strategy<Value = Value>, names: usize) -> impl Strategy<Value = Value> {
    let entries = prop::collection::btree_map(prop::sample::select(&NAMES[..names]), inner, 0..5);
    entries.prop_map(|map| Value::Object(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

/// A pod-like object with the names that matter, directives among them.
fn trees() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), Just(Value::from(1)), "[ab]".prop_map(Value::from), Just(Value::from("delete"))];
    let tree = leaf.prop_recursive(5, 60, 5, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from), named(inner, NAMES.len())]
    });
    named(tree, NAMES.len())
}

/// The same without directives, and with well-formed lists.
fn plain_trees() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), Just(Value::from(1)), "[ab]".prop_map(Value::from)];
    let finalizers = prop::collection::vec("[a-d]", 0..4);
    let containers = prop::collection::vec(("[a-d]", leaf.clone()), 0..4);
    (finalizers, containers, leaf).prop_map(|(finalizers, containers, label)| {
        let containers: Vec<_> = containers.into_iter().map(|(name, image)| serde_json::json!({"name": name, "image": image})).collect();
        serde_json::json!({
            "metadata": {"finalizers": finalizers, "labels": {"a": label}}, "spec": {"containers": containers, "hostname": label},
        })
    })
}

proptest! {
    #[test]
    fn any_patch_is_applied_or_refused(target in trees(), patch in trees()) {
        let _ = strategic(target, &serde_json::to_vec(&patch).unwrap(), POD);
    }

    #[test]
    fn an_empty_patch_changes_nothing(target in trees()) {
        prop_assert_eq!(strategic(target.clone(), b"{}", POD).unwrap(), target);
    }

    #[test]
    fn a_patch_applied_twice_is_applied_once(target in plain_trees(), patch in plain_trees()) {
        let patch = serde_json::to_vec(&patch).unwrap();
        let once = strategic(target, &patch, POD).unwrap();
        prop_assert_eq!(strategic(once.clone(), &patch, POD).unwrap(), once);
    }
}
