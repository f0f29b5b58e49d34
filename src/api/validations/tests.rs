//! Rules over values, as tables.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;

use super::*;

fn compiled(yaml: &str) -> (Schema, Validations) {
    let props: JSONSchemaProps = serde_yaml::from_str(yaml).expect("a schema");
    let schema = Schema::parse(&props).expect("a schema that parses");
    let tree = serde_json::to_value(&props).expect("JSON");
    let rules = Validations::compile(&schema, &tree).expect("there are rules");
    (schema, rules)
}

fn check(schema: &str, old: Option<&str>, new: &str, wanted: &[&str]) {
    let (schema, rules) = compiled(schema);
    let parse = |text: &str| serde_yaml::from_str::<Value>(text).expect("YAML");
    let (new, old) = (parse(new), old.map(parse));
    let found: Vec<String> = rules.run(&schema, &new, old.as_ref()).iter().map(ToString::to_string).collect();
    assert_eq!(found, wanted, "{new} {old:?}");
}

/// A schema of `spec` with fields `a`, `b`, `l` and these rules.
fn spec(rules: &str) -> String {
    format!(
        "{{type: object, properties: {{spec: {{type: object, x-kubernetes-validations: [{rules}], properties: {{a: {{type: integer}}, b: {{type: integer}}, \
         l: {{type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k], items: {{type: object, properties: {{k: {{type: string}}, \
         v: {{type: integer, x-kubernetes-validations: [{{rule: 'self >= oldSelf', message: may only grow}}]}}}}}}}}}}}}}}}}"
    )
}

#[test]
fn rules_and_messages() {
    let plain = spec("{rule: 'self.a <= self.b'}");
    check(&plain, None, "{spec: {a: 1, b: 2}}", &[]);
    check(&plain, None, "{spec: {a: 3, b: 2}}", &["spec: Invalid value: failed rule: self.a <= self.b"]);
    check(&plain, None, "{spec: {a: 3}}", &["spec: Invalid value: \"object\": no such key: b evaluating rule: self.a <= self.b"]);
    let told = spec("{rule: 'self.a <= self.b', message: too large, reason: FieldValueForbidden, fieldPath: .a}");
    check(&told, None, "{spec: {a: 3, b: 2}}", &["spec.a: Forbidden: too large"]);
    let made = spec("{rule: 'self.a <= self.b', messageExpression: '\"a is \" + string(self.a)'}");
    check(&made, None, "{spec: {a: 3, b: 2}}", &["spec: Invalid value: a is 3"]);
    let root = "{type: object, x-kubernetes-validations: [{rule: 'self.metadata.name == \"x\"'}], properties: {spec: {type: object}}}";
    check(
        root,
        None,
        "{kind: A, apiVersion: g/v1, metadata: {name: y}}",
        &["<nil>: Invalid value: failed rule: self.metadata.name == \"x\""],
    );
}

#[test]
fn transitions_and_ratcheting() {
    let plain = spec("{rule: 'self.a <= self.b'}");
    check(&plain, Some("{spec: {a: 3, b: 2}}"), "{spec: {a: 3, b: 2}, other: 1}", &[]);
    check(&plain, Some("{spec: {a: 3, b: 2}}"), "{spec: {a: 4, b: 2}}", &["spec: Invalid value: failed rule: self.a <= self.b"]);
    let fixed = spec("{rule: 'self.a == oldSelf.a', message: fixed}");
    check(&fixed, None, "{spec: {a: 1}}", &[]);
    check(&fixed, Some("{spec: {a: 1}}"), "{spec: {a: 2}}", &["spec: Invalid value: fixed"]);
    let shrunk = "{spec: {a: 1, l: [{k: x, v: 1}, {k: y, v: 2}]}}";
    check(&fixed, Some("{spec: {a: 1, l: [{k: y, v: 3}]}}"), shrunk, &["spec.l[1].v: Invalid value: 2: may only grow"]);
    let optional = spec("{rule: 'oldSelf.hasValue() || self.a == 1', optionalOldSelf: true, message: starts at one}");
    check(&optional, None, "{spec: {a: 2}}", &["spec: Invalid value: starts at one"]);
    check(&optional, Some("{spec: {a: 1}}"), "{spec: {a: 2}}", &[]);
}
