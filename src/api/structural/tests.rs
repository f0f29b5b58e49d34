//! Values under schemas, as tables.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Value, json};

use super::*;

fn schema(yaml: &str) -> Schema {
    let props: JSONSchemaProps = serde_yaml::from_str(yaml).expect("a schema");
    Schema::parse(&props).expect("a schema that parses")
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).expect("YAML")
}

#[test]
fn pruning() {
    let schema = schema(
        "{type: object, properties: {spec: {type: object, properties: {a: {type: string}, m: {type: object, additionalProperties: {type: object, properties: {x: {type: string}}}}, \
         l: {type: array, items: {type: object, properties: {x: {type: string}}}}, \
         any: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {known: {type: object, properties: {x: {type: string}}}}}, \
         e: {type: object, x-kubernetes-embedded-resource: true, properties: {spec: {type: object, properties: {x: {type: string}}}}}}}}}",
    );
    let mut value = yaml(
        "{apiVersion: a/v1, kind: A, metadata: {name: n}, extra: 1, spec: {a: x, b: y, m: {k: {x: '1', y: 2}}, l: [{x: '1', y: 2}], \
         any: {free: {deep: 1}, known: {x: '1', y: 2}}, e: {apiVersion: v1, kind: B, metadata: {name: x}, spec: {x: '1', y: 2}, other: 1}}}",
    );
    let mut unknown = Vec::new();
    prune(&mut value, &schema, &mut |path| unknown.push(path));
    unknown.sort();
    assert_eq!(unknown, ["extra", "spec.any.known.y", "spec.b", "spec.e.other", "spec.e.spec.y", "spec.l[0].y", "spec.m.k.y"]);
    assert_eq!(
        value,
        yaml(
            "{apiVersion: a/v1, kind: A, metadata: {name: n}, spec: {a: x, m: {k: {x: '1'}}, l: [{x: '1'}], any: {free: {deep: 1}, known: {x: '1'}}, \
             e: {apiVersion: v1, kind: B, metadata: {name: x}, spec: {x: '1'}}}}"
        )
    );
}

#[test]
fn defaulting() {
    let schema = schema(
        "{type: object, properties: {a: {type: string, default: A}, n: {type: string, nullable: true, default: N}, z: {type: string}, zn: {type: string, nullable: true}, \
         o: {type: object, default: {}, properties: {b: {type: integer, default: 3}}}, l: {type: array, items: {type: object, properties: {c: {type: boolean, default: true}}}}, \
         m: {type: object, additionalProperties: {type: string, default: M}}}}",
    );
    for (given, wanted) in [
        ("{}", "{a: A, n: N, o: {b: 3}}"),
        ("{a: null, n: null, z: null, zn: null, o: null}", "{a: A, n: null, zn: null, o: {b: 3}}"),
        (
            "{a: x, n: y, o: {b: 4}, l: [{}, {c: false}], m: {k: null, j: x}}",
            "{a: x, n: y, o: {b: 4}, l: [{c: true}, {c: false}], m: {k: M, j: x}}",
        ),
    ] {
        let mut value = yaml(given);
        drop_nulls(&mut value, Some(&schema));
        fill(&mut value, &schema);
        assert_eq!(value, yaml(wanted), "{given}");
    }
    assert!(schema.has_defaults());
}

fn errors(value: &str, under: &str) -> Vec<String> {
    validate(&yaml(value), &schema(under), Path::ROOT).iter().map(ToString::to_string).collect()
}

#[test]
fn validation() {
    for (under, value, wanted) in [
        (
            "{properties: {spec: {type: object, properties: {x: {type: integer}}}}}",
            "{spec: {x: a}}",
            vec!["spec.x: Invalid value: \"string\": spec.x in body must be of type integer: \"string\""],
        ),
        (
            "{properties: {x: {type: integer}}}",
            "{x: 1.5}",
            vec!["x: Invalid value: \"number\": x in body must be of type integer: \"number\""],
        ),
        ("{properties: {x: {type: integer}}}", "{x: 1.0}", vec![]),
        ("{properties: {x: {type: number}}}", "{x: 1}", vec![]),
        ("{properties: {x: {type: string}}}", "{x: null}", vec!["x: Invalid value: \"null\": x in body must be of type string: \"null\""]),
        ("{properties: {x: {type: string, nullable: true}}}", "{x: null}", vec![]),
        (
            "{properties: {x: {x-kubernetes-int-or-string: true}}}",
            "{x: true}",
            vec!["x: Invalid value: \"boolean\": x in body must be of type integer,string: \"boolean\""],
        ),
        ("{properties: {x: {type: string, enum: [a, b]}}}", "{x: c}", vec!["x: Unsupported value: \"c\": supported values: \"a\", \"b\""]),
        ("{properties: {x: {type: string, pattern: '^a+$'}}}", "{x: b}", vec!["x: Invalid value: \"b\": x in body should match '^a+$'"]),
        ("{properties: {x: {type: string, maxLength: 2}}}", "{x: abc}", vec!["x: Too long: may not be more than 2 bytes"]),
        (
            "{properties: {x: {type: string, minLength: 1}}}",
            "{x: ''}",
            vec!["x: Invalid value: \"\": x in body should be at least 1 chars long"],
        ),
        (
            "{properties: {x: {type: string, format: ipv4}}}",
            "{x: abc}",
            vec!["x: Invalid value: \"abc\": x in body must be of type ipv4: \"abc\""],
        ),
        ("{properties: {x: {type: string, format: unknown}}}", "{x: abc}", vec![]),
        (
            "{properties: {x: {type: integer, minimum: 1, maximum: 10}}}",
            "{x: 0}",
            vec!["x: Invalid value: 0: x in body should be greater than or equal to 1"],
        ),
        (
            "{properties: {x: {type: integer, maximum: 10, exclusiveMaximum: true}}}",
            "{x: 10}",
            vec!["x: Invalid value: 10: x in body should be less than 10"],
        ),
        (
            "{properties: {x: {type: integer, format: int32}}}",
            "{x: 3000000000}",
            vec!["<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in x"],
        ),
        ("{properties: {x: {type: integer, multipleOf: 3}}}", "{x: 4}", vec!["x: Invalid value: 4: x in body should be a multiple of 3"]),
        ("{properties: {x: {type: number, multipleOf: 0.1}}}", "{x: 0.3}", vec![]),
        (
            "{properties: {l: {type: array, maxItems: 1, items: {type: string}}}}",
            "{l: [a, 1]}",
            vec![
                "l[1]: Invalid value: \"integer\": l[1] in body must be of type string: \"integer\"",
                "l: Too many: 2: must have at most 1 items",
            ],
        ),
        (
            "{properties: {l: {type: array, minItems: 1, items: {type: string}}}}",
            "{l: []}",
            vec!["l: Invalid value: 0: l in body should have at least 1 items"],
        ),
        (
            "{properties: {m: {type: object, additionalProperties: {type: string}}}}",
            "{m: {k: 1}}",
            vec!["m.k: Invalid value: \"integer\": m.k in body must be of type string: \"integer\""],
        ),
        (
            "{properties: {m: {type: object, maxProperties: 1, additionalProperties: {type: string}}}}",
            "{m: {a: b, c: d}}",
            vec!["m: Too many: 2: must have at most 1 items"],
        ),
        ("{required: [a], properties: {o: {type: object, required: [b]}}}", "{o: {}}", vec!["o.b: Required value", "a: Required value"]),
        (
            "{oneOf: [{required: [a]}, {required: [b]}]}",
            "{a: 1, b: 1}",
            vec!["<nil>: Invalid value: \"\": \"\" must validate one and only one schema (oneOf). Found 2 valid alternatives"],
        ),
        (
            "{properties: {s: {oneOf: [{required: [a]}, {required: [b]}]}}}",
            "{s: {}}",
            vec![
                "<nil>: Invalid value: \"\": \"s\" must validate one and only one schema (oneOf). Found none valid",
                "s.a: Required value",
            ],
        ),
        (
            "{properties: {s: {anyOf: [{required: [a]}, {required: [b]}]}}}",
            "{s: {}}",
            vec!["<nil>: Invalid value: \"\": \"s\" must validate at least one schema (anyOf)", "s.a: Required value"],
        ),
        (
            "{properties: {s: {allOf: [{required: [a]}, {required: [b]}]}}}",
            "{s: {a: 1}}",
            vec!["s.b: Required value", "<nil>: Invalid value: \"\": \"s\" must validate all the schemas (allOf)"],
        ),
        (
            "{properties: {s: {not: {required: [a]}}}}",
            "{s: {a: 1}}",
            vec!["<nil>: Invalid value: \"\": \"s\" must not validate the schema (not)"],
        ),
    ] {
        assert_eq!(errors(value, under), wanted, "{under} {value}");
    }
}

#[test]
fn what_an_update_leaves_alone_is_excused() {
    let under = schema(
        "{type: object, properties: {x: {type: string, maxLength: 1}, y: {type: string}, s: {type: object, required: [q], properties: {a: {type: string}}}, \
         l: {type: array, items: {type: string, maxLength: 1}}, k: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [n], items: {type: object, properties: {n: {type: string}, v: {type: string, maxLength: 1}}}}}}",
    );
    for (old, new, wanted) in [
        ("{x: long}", "{x: long, y: new}", 0),
        ("{x: long}", "{x: longer}", 1),
        ("{s: {a: b}}", "{s: {a: b}, y: new}", 0),
        ("{s: {a: b}}", "{s: {a: c}}", 1),
        ("{l: [long]}", "{l: [long], y: new}", 0),
        ("{l: [long]}", "{l: [long, b]}", 1),
        ("{k: [{n: a, v: long}]}", "{k: [{n: b, v: x}, {n: a, v: long}]}", 0),
        ("{k: [{n: a, v: long}]}", "{k: [{n: a, v: longer}]}", 1),
    ] {
        let found = validate_update(&yaml(new), &yaml(old), &under, Path::ROOT);
        assert_eq!(found.len(), wanted, "{old} {new}: {found:?}");
    }
}

#[test]
fn sets_and_maps() {
    let under = schema(
        "{type: object, properties: {s: {type: array, x-kubernetes-list-type: set, items: {type: string}}, \
         m: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [a, b], items: {type: object}}}}",
    );
    let found = validate_list_types(&yaml("{s: [x, y, x, x], m: [{a: 1, b: 2}, {a: 1}, {a: 1, b: 2, c: 3}]}"), &under);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["m[2]: Duplicate value: {\"a\":1,\"b\":2}", "s[2]: Duplicate value: \"x\""]);
}

#[test]
fn embedded_metadata() {
    let under = schema(
        "{type: object, properties: {e: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}}}",
    );
    let mut value = yaml("{e: {apiVersion: v1, kind: A, metadata: {name: x, unspecified: 1, labels: {a: b}}}}");
    let mut unknown = Vec::new();
    coerce(&mut value, &under, Coerce { root: false, drop_malformed: false }, &mut |path| unknown.push(path)).expect("well-formed");
    assert_eq!(unknown, ["e.metadata.unspecified"]);
    assert_eq!(value["e"]["metadata"], json!({"name": "x", "labels": {"a": "b"}}));
    let mut wrong = yaml("{e: {apiVersion: v1, kind: A, metadata: {name: 3, labels: {a: b}}}}");
    assert!(coerce(&mut wrong, &under, Coerce { root: false, drop_malformed: false }, &mut |_| ()).is_err());
    coerce(&mut wrong, &under, Coerce { root: false, drop_malformed: true }, &mut |_| ()).expect("dropped");
    assert_eq!(wrong["e"]["metadata"], json!({"labels": {"a": "b"}}));
    let found = validate_embedded(&yaml("{e: {kind: 'A b', metadata: {labels: {a: '-'}}}}"), &under, false, Path::ROOT);
    let fields: Vec<&str> = found.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["e.apiVersion", "e.kind", "e.metadata.labels"]);
}

#[test]
fn field_paths() {
    let under = schema(
        "{type: object, properties: {spec: {type: object, properties: {a: {type: string}, m: {type: object, additionalProperties: {type: integer}}}}}}",
    );
    let ok = |path: &str| {
        valid_field_path(path, &under, true).map(|found| (found.shown, found.schema.map(|s| s.type_.clone()).unwrap_or_default()))
    };
    assert_eq!(ok(".spec.a"), Ok(("spec.a".into(), "string".into())));
    assert_eq!(ok(".spec.m['k.x']"), Ok(("spec.m[k.x]".into(), "integer".into())));
    for (path, why) in [
        ("spec", "expected [ or . but got: spec"),
        (".spec.", "unexpected end of JSON path"),
        (".spec.x", "does not refer to a valid field"),
        (".spec[0]", "expected single quoted string but got 0"),
        (".spec.m['a'", "unexpected end of JSON path"),
    ] {
        assert_eq!(valid_field_path(path, &under, true).map_err(|error| error.to_string()), Err(why.into()), "{path}");
    }
    assert_eq!(
        valid_field_path(".spec.m['a']", &under, false).map_err(|error| error.to_string()),
        Err("array notation is not allowed".into())
    );
}
