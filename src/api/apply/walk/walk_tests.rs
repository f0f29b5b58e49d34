//! Tables for the walks, after the cases of structured-merge-diff's own tests (merge, compare, duplicates, nulls, deduced types).

use serde_json::Value;

use super::*;
use crate::api::apply::Schema;
use crate::api::apply::compile::custom;
use crate::api::fields::FieldSet;

fn value(yaml: &str) -> Value {
    serde_yaml::from_str(yaml).unwrap()
}

fn set(yaml: &str) -> FieldSet {
    FieldSet::read(&value(yaml)).unwrap()
}

fn schema() -> Schema {
    custom(&value(
        "
type: object
properties:
  n: {type: integer}
  s: {type: string}
  b: {type: boolean}
  struct: {type: object, properties: {n: {type: integer}, s: {type: string}}}
  map: {type: object, additionalProperties: {type: string}}
  maps: {type: object, additionalProperties: {type: object, properties: {n: {type: integer}}}}
  whole: {type: object, x-kubernetes-map-type: atomic, properties: {n: {type: integer}, s: {type: string}}}
  list: {type: array, items: {type: string}}
  set: {type: array, x-kubernetes-list-type: set, items: {type: string}}
  numbers: {type: array, x-kubernetes-list-type: set, items: {type: integer}}
  keyed:
    type: array
    x-kubernetes-list-type: map
    x-kubernetes-list-map-keys: [name]
    items: {type: object, required: [name], properties: {name: {type: string}, v: {type: integer}, w: {type: integer}}}
  ports:
    type: array
    x-kubernetes-list-type: map
    x-kubernetes-list-map-keys: [port, protocol]
    items:
      type: object
      properties: {port: {type: integer}, protocol: {type: string, default: TCP}, name: {type: string}}
  any: {x-kubernetes-int-or-string: true}
  free: {type: object, x-kubernetes-preserve-unknown-fields: true}
",
    ))
}

#[test]
fn merges() {
    let schema = schema();
    // live, config, merged
    let table = [
        ("{n: 1, s: a}", "{n: 2}", "{n: 2, s: a}"),
        ("{n: 1}", "{n: null}", "{n: null}"),
        ("{struct: {n: 1}}", "{struct: {s: a}}", "{struct: {n: 1, s: a}}"),
        ("{struct: {n: 1}}", "{struct: {}}", "{struct: {n: 1}}"),
        ("{struct: {n: 1}}", "{struct: null}", "{struct: {n: 1}}"),
        ("{map: {a: x}}", "{map: {b: y, a: z}}", "{map: {a: z, b: y}}"),
        ("{whole: {n: 1}}", "{whole: {s: a}}", "{whole: {s: a}}"),
        ("{list: [a, b]}", "{list: [c]}", "{list: [c]}"),
        ("{list: [a]}", "{list: []}", "{list: []}"),
        ("{list: null}", "{list: []}", "{list: []}"),
        ("{set: [a, b]}", "{set: [c]}", "{set: [a, b, c]}"),
        ("{set: [a, b, c]}", "{set: [c, a]}", "{set: [b, c, a]}"),
        ("{set: [b]}", "{set: [a, b]}", "{set: [a, b]}"),
        ("{set: [a, b, d]}", "{set: [d, c, a]}", "{set: [b, d, c, a]}"),
        ("{set: [a, b, c, d]}", "{set: [a, c]}", "{set: [a, b, c, d]}"),
        ("{keyed: [{name: a, v: 1}]}", "{keyed: [{name: b}, {name: a, w: 2}]}", "{keyed: [{name: b}, {name: a, v: 1, w: 2}]}"),
        (
            "{ports: [{port: 80, protocol: TCP, name: x}]}",
            "{ports: [{port: 80, name: y}]}",
            "{ports: [{port: 80, protocol: TCP, name: y}]}",
        ),
        ("{ports: [{port: 80}]}", "{ports: [{port: 80, protocol: UDP}]}", "{ports: [{port: 80}, {port: 80, protocol: UDP}]}"),
        ("{any: 1}", "{any: a}", "{any: a}"),
        ("{free: {a: 1, b: {c: [1]}}}", "{free: {b: {c: [2], d: x}}}", "{free: {a: 1, b: {c: [2], d: x}}}"),
        ("{free: {a: 1}}", "{free: {a: {b: 1}}}", "{free: {a: {b: 1}}}"),
        // A duplicate that was there stays if nobody names it, and is replaced if somebody does.
        ("{set: [a, b, b]}", "{set: [c]}", "{set: [a, b, b, c]}"),
        ("{set: [a, b, b]}", "{set: [b]}", "{set: [a, b]}"),
        ("{keyed: [{name: a, v: 1}, {name: a, v: 2}]}", "{keyed: [{name: a, w: 3}]}", "{keyed: [{name: a, w: 3}]}"),
    ];
    for (live, config, merged) in table {
        assert_eq!(merge(&schema, &value(live), &value(config)).unwrap(), value(merged), "{live} + {config}");
    }
    let faults = merge(&schema, &value("{}"), &value("{set: [a, a]}")).unwrap_err();
    assert_eq!(Fault::list(&faults), ".set: duplicate entries for key [=\"a\"]");
}

#[test]
fn comparisons() {
    let schema = schema();
    // left, right, removed, modified, added
    let table = [
        ("{n: 1}", "{n: 1}", "{}", "{}", "{}"),
        ("{n: 1}", "{n: 2, s: a}", "{}", "{f:n: {}}", "{f:s: {}}"),
        ("{}", "{struct: {n: 1}}", "{}", "{}", "{f:struct: {'.': {}, f:n: {}}}"),
        ("{struct: {}}", "{struct: {n: 1}}", "{}", "{}", "{f:struct: {f:n: {}}}"),
        ("{struct: {n: 1}}", "{struct: {}}", "{f:struct: {f:n: {}}}", "{}", "{}"),
        ("{struct: {n: 1}}", "{}", "{f:struct: {'.': {}, f:n: {}}}", "{}", "{}"),
        ("{}", "{struct: {}}", "{}", "{}", "{f:struct: {}}"),
        ("{whole: {n: 1}}", "{whole: {n: 2}}", "{}", "{f:whole: {}}", "{}"),
        ("{list: [a]}", "{list: [b]}", "{}", "{f:list: {}}", "{}"),
        ("{set: [a, b]}", "{set: [b, c]}", "{f:set: {'v:\"a\"': {}}}", "{}", "{f:set: {'v:\"c\"': {}}}"),
        ("{set: [a, b]}", "{set: [b, a]}", "{}", "{}", "{}"),
        ("{numbers: [1]}", "{numbers: [1, 2]}", "{}", "{}", "{f:numbers: {'v:2': {}}}"),
        (
            "{keyed: [{name: a, v: 1}]}",
            "{keyed: [{name: a, v: 2}, {name: b}]}",
            "{}",
            "{f:keyed: {'k:{\"name\":\"a\"}': {f:v: {}}}}",
            "{f:keyed: {'k:{\"name\":\"b\"}': {'.': {}, f:name: {}}}}",
        ),
        ("{ports: [{port: 80, protocol: TCP}]}", "{ports: [{port: 80, protocol: TCP}]}", "{}", "{}", "{}"),
        ("{free: {a: 1}}", "{free: {a: {b: 1}}}", "{}", "{f:free: {f:a: {}}}", "{f:free: {f:a: {f:b: {}}}}"),
        ("{set: [a, a]}", "{set: [a, a]}", "{}", "{}", "{}"),
        ("{set: [a]}", "{set: [a, a]}", "{f:set: {'v:\"a\"': {}}}", "{}", "{f:set: {'v:\"a\"': {}}}"),
        (
            "{keyed: [{name: a, v: 1}, {name: a, v: 2}]}",
            "{keyed: [{name: a, v: 1}, {name: a, v: 3}]}",
            "{}",
            "{f:keyed: {'k:{\"name\":\"a\"}': {}}}",
            "{}",
        ),
    ];
    for (left, right, removed, modified, added) in table {
        let found = compare(&schema, &value(left), &value(right)).unwrap();
        assert_eq!((found.removed, found.modified, found.added), (set(removed), set(modified), set(added)), "{left} / {right}");
    }
    let faults = compare(&schema, &value("{}"), &value("{keyed: [{v: 1}]}")).unwrap_err();
    let why = ".keyed: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)";
    assert_eq!(Fault::list(&faults), why);
}

#[test]
fn stated_fields() {
    let schema = schema();
    let table = [
        ("{n: 1, struct: {s: a}, whole: {n: 1}}", "{f:n: {}, f:struct: {f:s: {}}, f:whole: {}}"),
        ("{struct: {}, n: null}", "{f:struct: {}, f:n: {}}"),
        ("{map: {a: b}}", "{f:map: {f:a: {}}}"),
        ("{maps: {a: {n: 1}}}", "{f:maps: {f:a: {'.': {}, f:n: {}}}}"),
        ("{set: [a], list: [b], keyed: []}", "{f:set: {'v:\"a\"': {}}, f:list: {}}"),
        ("{ports: [{port: 80}]}", "{f:ports: {'k:{\"port\":80,\"protocol\":\"TCP\"}': {'.': {}, f:port: {}}}}"),
        ("{free: {a: {b: [1]}}}", "{f:free: {f:a: {'.': {}, f:b: {}}}}"),
        ("{keyed: [{name: a, v: 1}, {name: a}]}", "{f:keyed: {'k:{\"name\":\"a\"}': {}}}"),
    ];
    for (stated, fields) in table {
        assert_eq!(owned(&schema, &value(stated)), set(fields), "{stated}");
    }
    let deduced = owned(&Schema::deduced(), &value("{a: 1, b: {c: [x]}}"));
    assert_eq!(deduced, set("{f:a: {}, f:b: {'.': {}, f:c: {}}}"));
}

#[test]
fn pruned_values() {
    let schema = schema();
    let table = [
        ("{n: 1, s: a}", "{f:n: {}}", "{s: a}"),
        ("{struct: {n: 1, s: a}}", "{f:struct: {f:n: {}}}", "{struct: {s: a}}"),
        ("{struct: {n: 1}, n: 1}", "{f:struct: {}}", "{n: 1}"),
        ("{set: [a, b]}", "{f:set: {'v:\"a\"': {}}}", "{set: [b]}"),
        ("{keyed: [{name: a, v: 1}, {name: b}]}", "{f:keyed: {'k:{\"name\":\"a\"}': {f:v: {}}}}", "{keyed: [{name: a}, {name: b}]}"),
        ("{keyed: [{name: a}], n: 1}", "{f:keyed: {'k:{\"name\":\"a\"}': {}}}", "{keyed: null, n: 1}"),
    ];
    for (whole, gone, left) in table {
        assert_eq!(prune(&schema, value(whole), &set(gone)), value(left), "{whole} - {gone}");
    }
}

#[test]
fn claims_follow_the_schema() {
    let schema = schema();
    let live = value("{whole: {n: 1}, keyed: [{name: a, v: 1}], list: [a]}");
    let table = [
        // What became atomic is owned as a whole; what stopped being atomic, with all that is there.
        ("{f:whole: {f:n: {}}}", Some("{f:whole: {}}")),
        ("{f:list: {'v:\"a\"': {}}}", Some("{f:list: {}}")),
        ("{f:keyed: {}}", Some("{f:keyed: {'.': {}, 'k:{\"name\":\"a\"}': {'.': {}, f:name: {}, f:v: {}}}}")),
        ("{f:whole: {}, f:list: {}, f:keyed: {'k:{\"name\":\"a\"}': {f:v: {}}}}", None),
        ("{f:unknown: {f:x: {}}}", None),
    ];
    for (before, after) in table {
        assert_eq!(reconcile(&schema, &set(before), &live), after.map(set), "{before}");
    }
    assert_eq!(reconcile(&Schema::deduced(), &set("{f:whole: {f:n: {}}}"), &live), None);
}

#[test]
fn what_is_not_of_the_schema() {
    let schema = schema();
    let table = [
        ("{n: 1, s: a, b: true, any: x, free: {x: [1]}, set: [a], n2: 1}", ".n2: field not declared in schema"),
        ("{n: a}", ".n: expected numeric (int or float), got string"),
        ("{s: 1}", ".s: expected string, got &value.valueUnstructured{Value:1}"),
        ("{b: x}", ".b: expected boolean, got &{x}"),
        ("{struct: a}", ".struct: expected map, got &{a}"),
        ("{list: {a: b}}", ".list: expected list, got &{map[a:b]}"),
        ("{set: [a, a]}", ".set: duplicate entries for key [=\"a\"]"),
        ("{set: [{}]}", ".set: element 0: associative list without keys has an element that's a map type"),
        ("{keyed: [{name: a, v: x}]}", ".keyed[name=\"a\"].v: expected numeric (int or float), got string"),
        (
            "{n: a, s: 1}",
            "errors:\n  .n: expected numeric (int or float), got string\n  .s: expected string, got &value.valueUnstructured{Value:1}",
        ),
    ];
    for (wrong, why) in table {
        assert_eq!(Fault::list(&validate(&schema, &value(wrong), Duplicates::Refused)), why, "{wrong}");
    }
    for right in ["{n: null, struct: null, list: null, keyed: null}", "{metadata: {labels: {a: b}}, apiVersion: v1, kind: K}"] {
        assert_eq!(validate(&schema, &value(right), Duplicates::Refused), [], "{right}");
    }
    assert_eq!(validate(&schema, &value("{set: [a, a]}"), Duplicates::Allowed), []);
}
