//! Values of declared types: what a rule of a custom resource sees.

use serde_json::json;

use super::super::*;
use super::show;

/// The outcome of `rule` for an object of this schema.
fn rule(schema: &serde_json::Value, object: &serde_json::Value, rule: &str) -> String {
    let decl = DeclType::from_schema("selfType", schema, false).unwrap();
    let env = Env::new().with("self", decl.ty.clone());
    let program = match env.compile(rule) {
        Ok(program) => program,
        Err(errors) => return format!("refused: {}", errors.issues[0].message),
    };
    let activation = Activation::new().with("self", Value::from_json(object, Some(&decl)).unwrap());
    match program.eval(&activation, &mut Budget::new(Budget::RUNTIME)) {
        Ok(value) => show(&value),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn rules_see_values_as_their_schema_says() {
    let schema = json!({"type": "object", "properties": {
        "replicas": {"type": "integer"},
        "ratio": {"type": "number"},
        "name": {"type": "string"},
        "start": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "period": {"type": "string", "format": "duration"},
        "data": {"type": "string", "format": "byte"},
        "port": {"x-kubernetes-int-or-string": true},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "other": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "again": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "namespace": {"type": "string"},
        "a-b.c/d__e": {"type": "string"},
        "anything": {"x-kubernetes-preserve-unknown-fields": true},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "when": {"type": "string", "nullable": true},
    }});
    let object = json!({
        "replicas": 3, "ratio": 2, "name": "n", "start": "2020-01-02T03:04:05Z", "day": "2020-01-02", "period": "1h", "data": "aGk=", "port": "http",
        "set": ["a", "b"], "other": ["b", "a"], "keyed": [{"k": "x", "v": 1}, {"k": "y", "v": 2}], "again": [{"k": "y", "v": 2}, {"k": "x", "v": 1}],
        "labels": {"app": "web"}, "namespace": "ns", "a-b.c/d__e": "odd", "anything": {"x": 1},
        "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}}}, "when": null,
    });
    for (source, wanted) in [
        ("self.replicas + 1", "4"),
        ("self.ratio", "2.0"),
        ("self.ratio < 2.5", "true"),
        ("self.start.getFullYear()", "2020"),
        ("self.day < self.start", "true"),
        ("self.period == duration('60m')", "true"),
        ("self.data == b'hi'", "true"),
        ("type(self.port) == string && self.port == 'http'", "true"),
        ("type(self.port) == int ? self.port > 0 : self.port.size() > 0", "true"),
        ("self.set == self.other", "true"),
        ("self.set + self.other", "[\"a\", \"b\"]"),
        ("self.set + ['c']", "[\"a\", \"b\", \"c\"]"),
        ("dyn(self.keyed) == self.again", "true"),
        ("self.keyed + [self.keyed[1]] == self.keyed", "true"),
        ("self.keyed.exists(e, e.k == 'y' && e.v == 2)", "true"),
        ("self.keyed.map(e, e.v).sum()", "3"),
        ("self.labels.app", "\"web\""),
        ("self.labels.all(k, self.labels[k].startsWith('w'))", "true"),
        ("self.__namespace__", "\"ns\""),
        ("self.a__dash__b__dot__c__slash__d__underscores__e", "\"odd\""),
        ("has(self.__namespace__)", "true"),
        ("has(self.name) && self.name == 'n'", "true"),
        ("self.template.metadata.name", "\"p\""),
        ("self.template.kind", "\"Pod\""),
        ("has(self.template.metadata.generateName)", "false"),
        ("self.template.metadata.generateName", "error: no such key: generateName"),
        ("self.template.metadata.labels", "refused: undefined field 'labels'"),
        ("self.anything", "refused: undefined field 'anything'"),
        ("self.missing", "refused: undefined field 'missing'"),
        ("self.replicas + self.ratio", "refused: found no matching overload for '_+_' applied to '(int, double)'"),
        (
            "self.keyed[0] == self.labels",
            "refused: found no matching overload for '_==_' applied to '(selfType.keyed.@idx, map(string, string))'",
        ),
        ("self.?name.orValue('x')", "\"n\""),
        ("self == self", "true"),
    ] {
        assert_eq!(rule(&schema, &object, source), wanted, "{source}");
    }
    let bad = json!({"start": "never"});
    assert!(rule(&schema, &bad, "self.start.getFullYear() > 0").starts_with("error: Invalid date-time"));
}

#[test]
fn variables_are_found_out_once_and_only_if_wanted() {
    let env = Env::new().with("object", Type::Dyn).with("variables", Type::map(Type::String, Type::Dyn));
    let compile = |source: &str| env.compile(source).unwrap();
    let [first, second, broken, unused] = ["object.n + 1", "variables.first * 2", "object.missing", "[1].map(i, i / 0)[0]"].map(compile);
    let object = json!({"n": 4});
    let activation = Activation::new()
        .with("object", Value::from_json(&object, None).unwrap())
        .with("variables", Value::Variables)
        .with_lazy("first", &first)
        .with_lazy("second", &second)
        .with_lazy("broken", &broken)
        .with_lazy("unused", &unused);
    let mut budget = Budget::new(Budget::RUNTIME);
    for (source, wanted) in [
        ("variables.second + variables.first", "Ok(Int(15))"),
        ("has(variables.second) && !has(variables.third)", "Ok(Bool(true))"),
        ("variables.?third.orValue(1)", "Ok(Int(1))"),
        ("variables.broken == 1", "Err(Failure(\"composited variable \\\"broken\\\" fails to evaluate: no such key: missing\"))"),
        ("variables.broken == 1 || true", "Ok(Bool(true))"),
    ] {
        let program = compile(source);
        // The program must outlive what it gives.
        let program = Box::leak(Box::new(program));
        assert_eq!(format!("{:?}", program.eval(&activation, &mut budget)), wanted, "{source}");
    }
}
