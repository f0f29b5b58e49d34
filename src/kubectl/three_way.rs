//! The three-way patch of client-side apply: from what was applied last, what is applied now and what the server has, to what must change.
//!
//! A field is set where the new manifest differs from the server's object, and removed where the last manifest had it and the new one has
//! not; what others set stays. For built-in kinds the result is a strategic merge patch, which changes single elements of keyed lists; for
//! all others a JSON merge patch, which replaces lists. Follows apimachinery `strategicpatch.CreateThreeWayMergePatch`.

use serde_json::{Map, Value, json};

use crate::api::schema::{Field, Target, Type, lookup};

/// Where the last applied manifest is kept.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Packages of the built-in groups, as the names of schemas begin.
const PACKAGES: &[(&str, &str)] = &[
    ("", "io.k8s.api.core"),
    ("admissionregistration.k8s.io", "io.k8s.api.admissionregistration"),
    ("apiextensions.k8s.io", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions"),
    ("apiregistration.k8s.io", "io.k8s.kube-aggregator.pkg.apis.apiregistration"),
    ("apps", "io.k8s.api.apps"),
    ("autoscaling", "io.k8s.api.autoscaling"),
    ("batch", "io.k8s.api.batch"),
    ("certificates.k8s.io", "io.k8s.api.certificates"),
    ("coordination.k8s.io", "io.k8s.api.coordination"),
    ("discovery.k8s.io", "io.k8s.api.discovery"),
    ("events.k8s.io", "io.k8s.api.events"),
    ("flowcontrol.apiserver.k8s.io", "io.k8s.api.flowcontrol"),
    ("networking.k8s.io", "io.k8s.api.networking"),
    ("node.k8s.io", "io.k8s.api.node"),
    ("policy", "io.k8s.api.policy"),
    ("rbac.authorization.k8s.io", "io.k8s.api.rbac"),
    ("resource.k8s.io", "io.k8s.api.resource"),
    ("scheduling.k8s.io", "io.k8s.api.scheduling"),
    ("storage.k8s.io", "io.k8s.api.storage"),
];

/// The facts of a built-in kind; `None` for a custom one.
pub fn built_in(api_version: &str, kind: &str) -> Option<&'static Type> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let (_, package) = PACKAGES.iter().find(|(name, _)| *name == group)?;
    lookup(&format!("{package}.{version}.{kind}"))
}

/// The patch; an empty object when nothing is to change. `of` is `None` for a JSON merge patch.
pub fn patch(original: Option<&Value>, modified: &Value, current: &Value, of: Option<&'static Type>) -> Value {
    let empty = Map::new();
    let map = |value: Option<&'_ Value>| value.and_then(Value::as_object).unwrap_or(&empty).clone();
    Value::Object(objects(&map(original), &map(Some(modified)), &map(Some(current)), of))
}

fn objects(
    original: &Map<String, Value>,
    modified: &Map<String, Value>,
    current: &Map<String, Value>,
    of: Option<&'static Type>,
) -> Map<String, Value> {
    let mut patch = Map::new();
    for (name, new) in modified {
        let field = of.and_then(|of| of.field(name));
        match (new, current.get(name)) {
            (Value::Null, None | Some(Value::Null)) => {}
            (Value::Null, Some(_)) => drop(patch.insert(name.clone(), Value::Null)),
            (new, None | Some(Value::Null)) => drop(patch.insert(name.clone(), new.clone())),
            (Value::Object(new), Some(Value::Object(now))) => {
                let was = original.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
                let inner = object(&was, new, now, field);
                if !inner.is_empty() {
                    patch.insert(name.clone(), Value::Object(inner));
                }
            }
            (Value::Array(new), Some(Value::Array(now))) => {
                let was = original.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
                list(name, &was, new, now, field, &mut patch);
            }
            (new, Some(now)) if same(new, now) => {}
            (new, Some(_)) => drop(patch.insert(name.clone(), new.clone())),
        }
    }
    for name in original.keys().filter(|name| !modified.contains_key(*name)) {
        if current.get(name).is_some_and(|now| !now.is_null()) {
            patch.insert(name.clone(), Value::Null);
        }
    }
    patch
}

/// A field that holds an object, or a map.
fn object(
    was: &Map<String, Value>,
    new: &Map<String, Value>,
    now: &Map<String, Value>,
    field: Option<&'static Field>,
) -> Map<String, Value> {
    let strategy = field.map(|field| field.patch).unwrap_or_default();
    if strategy.replace {
        if new == now {
            return Map::new();
        }
        let mut whole = new.clone();
        whole.insert("$patch".into(), "replace".into());
        return whole;
    }
    let inner = match field.map(|field| field.target) {
        // The type of a map's values is not the type of the map.
        Some(Target::One(name)) => lookup(name),
        _ => None,
    };
    let mut patch = objects(was, new, now, inner);
    if strategy.retain_keys && (!patch.is_empty() || now.keys().any(|key| was.contains_key(key) && !new.contains_key(key))) {
        let mut keep: Vec<&String> = new.keys().collect();
        keep.sort();
        patch.insert("$retainKeys".into(), json!(keep));
    }
    patch
}

fn list(name: &str, was: &[Value], new: &[Value], now: &[Value], field: Option<&'static Field>, patch: &mut Map<String, Value>) {
    let strategy = field.map(|field| field.patch).unwrap_or_default();
    let of_objects = new.iter().chain(now).any(Value::is_object);
    if !strategy.merge || (of_objects && strategy.key.is_empty()) {
        if new.len() != now.len() || !new.iter().zip(now).all(|(new, now)| same(new, now)) {
            patch.insert(name.to_string(), Value::Array(new.to_vec()));
        }
        return;
    }
    if !of_objects {
        let added: Vec<Value> = new.iter().filter(|item| !now.contains(item)).cloned().collect();
        let gone: Vec<Value> = was.iter().filter(|item| !new.contains(item) && now.contains(item)).cloned().collect();
        if added.is_empty() && gone.is_empty() {
            return;
        }
        patch.insert(format!("$setElementOrder/{name}"), Value::Array(new.to_vec()));
        if !added.is_empty() {
            patch.insert(name.to_string(), Value::Array(added));
        }
        if !gone.is_empty() {
            patch.insert(format!("$deleteFromPrimitiveList/{name}"), Value::Array(gone));
        }
        return;
    }
    keyed(name, was, new, now, field, strategy.key, patch);
}

/// A list whose elements are told apart by `key`.
fn keyed(
    name: &str,
    was: &[Value],
    new: &[Value],
    now: &[Value],
    field: Option<&'static Field>,
    key: &str,
    patch: &mut Map<String, Value>,
) {
    let of = match field.map(|field| field.target) {
        Some(Target::Items(name)) => lookup(name),
        _ => None,
    };
    let find =
        |list: &[Value], item: &Value| list.iter().find(|other| other.get(key).is_some() && other.get(key) == item.get(key)).cloned();
    let map = |value: Option<Value>| value.and_then(|value| value.as_object().cloned()).unwrap_or_default();
    let mut changes = Vec::new();
    for item in new {
        let Some(current) = find(now, item) else {
            changes.push(item.clone());
            continue;
        };
        let mut change = objects(&map(find(was, item)), &map(Some(item.clone())), &map(Some(current)), of);
        if !change.is_empty() {
            change.insert(key.to_string(), item[key].clone());
            changes.push(Value::Object(change));
        }
    }
    for item in was.iter().filter(|item| find(new, item).is_none() && find(now, item).is_some()) {
        changes.push(json!({"$patch": "delete", key: item[key]}));
    }
    // Only what both have can be out of order; elements of others may stand between.
    let shared: Vec<&Value> = now.iter().filter(|item| find(new, item).is_some()).map(|item| &item[key]).collect();
    let wanted: Vec<&Value> = new.iter().filter(|item| find(now, item).is_some()).map(|item| &item[key]).collect();
    if changes.is_empty() && shared == wanted {
        return;
    }
    let order: Vec<Value> = new.iter().filter(|item| item.get(key).is_some()).map(|item| json!({key: item[key]})).collect();
    patch.insert(format!("$setElementOrder/{name}"), Value::Array(order));
    if !changes.is_empty() {
        patch.insert(name.to_string(), Value::Array(changes));
    }
}

/// Whether the server's value says what the manifest says. It writes quantities in its own way: `0.5` becomes `500m`.
fn same(new: &Value, now: &Value) -> bool {
    match (new, now) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b))),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Option<(&str, &str)>, original: &str, modified: &str, current: &str, expected: &str) {
        let value = |yaml: &str| serde_yaml::from_str::<Value>(yaml).unwrap();
        let of = kind.map(|(version, kind)| built_in(version, kind).expect("a built-in kind"));
        let original = Some(value(original)).filter(|value| !value.is_null());
        let got = patch(original.as_ref(), &value(modified), &value(current), of);
        assert_eq!(got, value(expected), "\n{modified}\n{current}");
        // What is patched holds what was stated, and a second apply changes nothing.
        if let Some((version, kind)) = kind {
            let name = built_in(version, kind).unwrap().name;
            let patched = crate::api::patch::strategic(value(current), got.to_string().as_bytes(), name).unwrap();
            let again = patch(Some(&value(modified)), &value(modified), &patched, of);
            assert_eq!(again, json!({}), "a second apply: {patched}");
        }
    }

    const DEPLOYMENT: Option<(&str, &str)> = Some(("apps/v1", "Deployment"));
    const POD: Option<(&str, &str)> = Some(("v1", "Pod"));

    #[test]
    fn scalars_and_maps() {
        check(DEPLOYMENT, "", "{spec: {replicas: 3}}", "{spec: {replicas: 3, paused: true}, status: {}}", "{}");
        check(DEPLOYMENT, "{spec: {replicas: 1}}", "{spec: {replicas: 3}}", "{spec: {replicas: 2}}", "{spec: {replicas: 3}}");
        check(DEPLOYMENT, "{spec: {replicas: 1}}", "{spec: {}}", "{spec: {replicas: 2}}", "{spec: {replicas: null}}");
        check(
            DEPLOYMENT,
            "{metadata: {labels: {a: b, c: d}}}",
            "{metadata: {labels: {a: x}}}",
            "{metadata: {labels: {a: b, c: d, e: f}}}",
            "{metadata: {labels: {a: x, c: null}}}",
        );
        check(DEPLOYMENT, "{spec: {replicas: 1}}", "{}", "{spec: {paused: true}}", "{spec: null}");
    }

    #[test]
    fn keyed_lists() {
        check(
            POD,
            "{spec: {containers: [{name: a, image: x}, {name: b, image: y}]}}",
            "{spec: {containers: [{name: a, image: z}]}}",
            "{spec: {containers: [{name: a, image: x, imagePullPolicy: Always}, {name: b, image: y}, {name: injected, image: i}]}}",
            "{spec: {$setElementOrder/containers: [{name: a}], containers: [{name: a, image: z}, {name: b, $patch: delete}]}}",
        );
        check(
            POD,
            "",
            "{spec: {containers: [{name: a, image: x, env: [{name: E, value: '2'}]}, {name: n, image: w}]}}",
            "{spec: {containers: [{name: a, image: x, env: [{name: E, value: '1'}, {name: F, value: f}]}]}}",
            "{spec: {$setElementOrder/containers: [{name: a}, {name: n}], containers: [{name: a, $setElementOrder/env: [{name: E}], env: [{name: E, value: '2'}]}, {name: n, image: w}]}}",
        );
        check(POD, "", "{spec: {containers: [{name: a}]}}", "{spec: {containers: [{name: a, image: x}]}}", "{}");
    }

    #[test]
    fn other_lists() {
        check(
            POD,
            "",
            "{spec: {tolerations: [{key: a}]}}",
            "{spec: {tolerations: [{key: a}, {key: b}]}}",
            "{spec: {tolerations: [{key: a}]}}",
        );
        check(
            POD,
            "{metadata: {finalizers: [a/b, c/d]}}",
            "{metadata: {finalizers: [a/b, e/f]}}",
            "{metadata: {finalizers: [a/b, c/d, g/h]}}",
            "{metadata: {$setElementOrder/finalizers: [a/b, e/f], finalizers: [e/f], $deleteFromPrimitiveList/finalizers: [c/d]}}",
        );
    }

    #[test]
    fn kept_keys() {
        check(
            DEPLOYMENT,
            "",
            "{spec: {strategy: {type: Recreate}}}",
            "{spec: {strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}}}",
            "{spec: {strategy: {type: Recreate, $retainKeys: [type]}}}",
        );
    }

    #[test]
    fn custom_kinds_merge() {
        check(
            None,
            "{spec: {a: 1, l: [1]}}",
            "{spec: {l: [{name: x}]}}",
            "{spec: {a: 1, b: 2, l: [{name: x}, {name: y}]}}",
            "{spec: {a: null, l: [{name: x}]}}",
        );
        assert!(built_in("example.com/v1", "Deployment").is_none());
        assert!(built_in("v1", "ConfigMap").is_some());
        assert!(built_in("rbac.authorization.k8s.io/v1", "ClusterRole").is_some());
    }
}
