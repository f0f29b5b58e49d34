//! The structured merge of server-side apply: what is applied wins, and lists merge as their type says.
//!
//! Words: an *identity* is what makes an element of a list of type map the same in both lists: the values of its keys, with upstream's
//! defaults for those that are absent (a port without a protocol is a TCP port).
//!
//! Follows structured-merge-diff's `typed/merge.go`. Field ownership is not kept: what a former apply set and this one leaves out stays.

use serde_json::{Map, Value};

use crate::api::schema::{Field, ListType, Target, Type, key_default, lookup};

/// `target` with everything that `applied` states, where both are of the type with this schema name.
pub fn apply(target: Value, applied: Value, kind: &'static str) -> Value {
    merge(target, applied, lookup(kind))
}

fn merge(target: Value, applied: Value, of: Option<&'static Type>) -> Value {
    match (target, applied) {
        (Value::Object(target), Value::Object(applied)) => Value::Object(merge_object(target, applied, of)),
        (_, applied) => applied,
    }
}

fn merge_object(mut target: Map<String, Value>, applied: Map<String, Value>, of: Option<&'static Type>) -> Map<String, Value> {
    for (name, value) in applied {
        let field = of.and_then(|of| of.field(&name));
        let merged = match (target.remove(&name), value) {
            // An applied null states that there is nothing.
            (_, Value::Null) => continue,
            (Some(Value::Array(old)), Value::Array(new)) => Value::Array(merge_list(old, new, field)),
            (Some(old), new) => merge_field(old, new, field),
            (None, new) => new,
        };
        target.insert(name, merged);
    }
    target
}

fn merge_field(old: Value, new: Value, field: Option<&'static Field>) -> Value {
    let target = field.map_or(Target::Leaf, |field| field.target);
    let inner = match target {
        Target::One(name) | Target::Values(name) | Target::Items(name) => lookup(name),
        Target::Leaf => None,
    };
    let atomic_type = matches!(target, Target::One(_)) && inner.is_some_and(|inner| inner.atomic);
    if field.and_then(|field| field.atomic).unwrap_or(atomic_type) {
        return new;
    }
    match (target, old, new) {
        (Target::Values(_), Value::Object(old), Value::Object(new)) => Value::Object(merge_values(old, new, inner)),
        (_, old, new) => merge(old, new, inner),
    }
}

/// Merges a map from strings to objects of type `of`.
fn merge_values(mut old: Map<String, Value>, new: Map<String, Value>, of: Option<&'static Type>) -> Map<String, Value> {
    for (key, value) in new {
        let merged = match old.remove(&key) {
            Some(before) => merge(before, value, of),
            None => value,
        };
        old.insert(key, merged);
    }
    old
}

fn merge_list(old: Vec<Value>, new: Vec<Value>, field: Option<&'static Field>) -> Vec<Value> {
    let Some(field) = field else { return new };
    match field.list {
        ListType::Atomic => new,
        ListType::Set => {
            let mut union = old;
            for item in new {
                if !union.contains(&item) {
                    union.push(item);
                }
            }
            union
        }
        ListType::Map(keys) => {
            let of = if let Target::Items(name) = field.target { lookup(name) } else { None };
            let mut list = old;
            for item in new {
                let identity = identity(&item, keys);
                match list.iter().position(|other| self::identity(other, keys) == identity) {
                    Some(place) => list[place] = merge(list[place].take(), item, of),
                    None => list.push(item),
                }
            }
            list
        }
    }
}

fn identity(item: &Value, keys: &[&'static str]) -> Vec<Value> {
    let value = |key: &&'static str| {
        let default = || key_default(key).map_or(Value::Null, Value::from);
        item.get(*key).filter(|value| !value.is_null()).cloned().unwrap_or_else(default)
    };
    keys.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &'static str, target: &str, applied: &str, expect: &str) {
        let value = |yaml: &str| serde_yaml::from_str::<Value>(yaml).unwrap();
        let got = apply(value(target), value(applied), kind);
        assert_eq!(serde_yaml::to_string(&got).unwrap(), serde_yaml::to_string(&value(expect)).unwrap(), "{applied}");
    }

    #[test]
    fn merges_by_the_facts() {
        const POD: &str = "io.k8s.api.core.v1.Pod";
        check(POD, "{metadata: {labels: {a: b}}}", "{metadata: {labels: {c: d}}}", "{metadata: {labels: {a: b, c: d}}}");
        check(POD, "{metadata: {finalizers: [a]}}", "{metadata: {finalizers: [b, a]}}", "{metadata: {finalizers: [a, b]}}");
        check(POD, "{spec: {nodeSelector: {a: b}}}", "{spec: {nodeSelector: {c: d}}}", "{spec: {nodeSelector: {c: d}}}");
        check(POD, "{spec: {hostname: a}}", "{spec: {hostname: null, nodeName: x}}", "{spec: {nodeName: x}}");
        check(
            POD,
            "{spec: {tolerations: [{key: a}], containers: [{name: a, image: x, args: [b]}]}}",
            "{spec: {tolerations: [{key: b}], containers: [{name: c}, {name: a, image: y, args: [c]}]}}",
            "{spec: {containers: [{args: [c], image: y, name: a}, {name: c}], tolerations: [{key: b}]}}",
        );
        check(
            "io.k8s.api.apps.v1.Deployment",
            "{spec: {selector: {matchLabels: {a: b}}}}",
            "{spec: {selector: {matchLabels: {c: d}}}}",
            "{spec: {selector: {matchLabels: {c: d}}}}",
        );
    }

    /// 53/UDP and 53/TCP are two ports, and one without a protocol is TCP.
    #[test]
    fn ports_by_number_and_protocol() {
        check(
            "io.k8s.api.core.v1.Service",
            "{spec: {ports: [{port: 53, protocol: TCP, nodePort: 30053}]}}",
            "{spec: {ports: [{port: 53, protocol: UDP, name: u}, {port: 53, name: t}]}}",
            "{spec: {ports: [{name: t, nodePort: 30053, port: 53, protocol: TCP}, {name: u, port: 53, protocol: UDP}]}}",
        );
    }

    #[test]
    fn maps_of_objects() {
        check(
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
            "{properties: {a: {type: string, x-kubernetes-validations: [{rule: x, message: m}]}}}",
            "{properties: {a: {x-kubernetes-validations: [{rule: x, reason: r}]}, b: {type: integer}}}",
            "{properties: {a: {type: string, x-kubernetes-validations: [{message: m, reason: r, rule: x}]}, b: {type: integer}}}",
        );
    }
}
