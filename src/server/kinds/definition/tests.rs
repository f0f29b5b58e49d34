//! Definitions and the rules they violate, as `path: message`.

use super::super::support::testing::{created, errors, update_errors};
use super::*;

/// A definition with this in its version and this beside it in the spec.
fn crd(version: &str, spec: &str) -> String {
    format!(
        "{{metadata: {{name: foos.example.com}}, spec: {{group: example.com, scope: Namespaced, names: {{plural: foos, kind: Foo}}, \
         {spec} versions: [{{name: v1, served: true, storage: true, {version}}}]}}}}"
    )
}

/// A definition with this schema.
fn with_schema(schema: &str) -> String {
    crd(&format!("schema: {{openAPIV3Schema: {schema}}}"), "")
}

fn check_errors(yaml: &str, wanted: &[&str]) {
    assert_eq!(errors::<CustomResourceDefinition>(yaml), wanted, "{yaml}");
}

const OPEN: &str = "{type: object, x-kubernetes-preserve-unknown-fields: true}";

#[test]
fn defaults_and_good_definitions() {
    let made = created::<CustomResourceDefinition>(&with_schema(OPEN));
    assert_eq!((made.spec.names.singular.as_deref(), made.spec.names.list_kind.as_deref()), (Some("foo"), Some("FooList")));
    assert_eq!(made.spec.conversion.as_ref().map(|conversion| conversion.strategy.as_str()), Some("None"));
    assert_eq!(made.status.and_then(|status| status.stored_versions), Some(vec!["v1".to_string()]));
    for schema in [
        OPEN,
        "{type: object, properties: {spec: {type: object, properties: {port: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}}}}}",
        "{type: object, properties: {metadata: {type: object, properties: {name: {type: string, pattern: '^a'}}}}}",
        "{type: object, properties: {l: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k], items: {type: object, required: [k], properties: {k: {type: string}}}}}}",
        "{type: object, properties: {a: {type: string, default: x}}, oneOf: [{required: [a]}]}",
        "{type: object, properties: {e: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}}}",
    ] {
        check_errors(&with_schema(schema), &[]);
    }
}

#[test]
fn names_versions_and_conversion() {
    let schema = format!("schema: {{openAPIV3Schema: {OPEN}}}");
    check_errors(
        "{metadata: {name: x}, spec: {group: com, scope: '', names: {plural: Foos, kind: '', singular: ''}, versions: []}}",
        &[
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group",
            "spec.group: Invalid value: \"com\": should be a domain with at least one dot",
            "spec.scope: Required value",
            "spec.versions: Invalid value: []: must have exactly one version marked as storage version",
            "spec.names.singular: Required value",
            "spec.names.kind: Required value",
            "spec.names.listKind: Required value",
            "spec.names.plural: Invalid value: \"Foos\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
             alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
             '[a-z]([-a-z0-9]*[a-z0-9])?')",
            "status.storedVersions: Invalid value: []: must have at least one stored version",
        ],
    );
    check_errors(&crd("", ""), &["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"]);
    check_errors(
        &crd(&schema, "preserveUnknownFields: true, conversion: {strategy: Webhook},"),
        &[
            "spec.conversion.strategy: Invalid value: \"Webhook\": must be None if spec.preserveUnknownFields is true",
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
             spec.versions[*].schema instead",
        ],
    );
    check_errors(
        &crd(&schema, "conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v9], clientConfig: {url: 'http://a/b?c'}}},"),
        &[
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            "spec.conversion.webhookClientConfig.url: Invalid value: \"c\": query parameters are not permitted in the URL",
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
        ],
    );
    check_errors(
        &crd(&schema, "conversion: {strategy: Nope},"),
        &["spec.conversion.strategy: Unsupported value: \"Nope\": supported values: \"None\", \"Webhook\""],
    );
    check_errors(
        &crd(&format!("{schema}, deprecationWarning: old"), ""),
        &["spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions"],
    );
    check_errors(
        &crd(&format!("{schema}, subresources: {{scale: {{specReplicasPath: spec.x, statusReplicasPath: .spec.x}}}}"), ""),
        &[
            "spec.subresources.scale.specReplicasPath: Invalid value: \"spec.x\": must be a simple json path starting with .",
            "spec.subresources.scale.statusReplicasPath: Invalid value: \".spec.x\": should be a json path under .status",
        ],
    );
    check_errors(
        &crd(&format!("{schema}, additionalPrinterColumns: [{{name: '', type: float, jsonPath: ''}}]"), ""),
        &[
            "spec.additionalPrinterColumns[0].name: Required value",
            "spec.additionalPrinterColumns[0].type: Invalid value: \"float\": must be one of boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].JSONPath: Required value",
        ],
    );
    let fields = "selectableFields: [{jsonPath: .spec.a}, {jsonPath: .spec.b}, {jsonPath: .spec.c}, {jsonPath: .spec.a}, {jsonPath: \".spec['a']\"}]";
    let shape = "{type: object, properties: {spec: {type: object, properties: {a: {type: string}, b: {type: object}}}}}";
    check_errors(
        &crd(&format!("schema: {{openAPIV3Schema: {shape}}}, {fields}"), ""),
        &[
            "spec.selectableFields[1].jsonPath: Invalid value: \".spec.b\": must point to a field of type string, boolean or integer. Enum string \
             fields and strings with formats are allowed.",
            "spec.selectableFields[2].jsonPath: Invalid value: \".spec.c\": is an invalid path: does not refer to a valid field",
            "spec.selectableFields[3].jsonPath: Duplicate value: \".spec.a\"",
            "spec.selectableFields[4].jsonPath: Invalid value: \".spec['a']\": is an invalid path: array notation is not allowed",
        ],
    );
}

#[test]
fn schemas() {
    const V: &str = "spec.validation.openAPIV3Schema";
    for (schema, wanted) in [
        ("{}", vec![format!("{V}.type: Required value: must not be empty at the root")]),
        ("{type: array, items: {type: string}}", vec![format!("{V}.type: Invalid value: \"array\": must be object at the root")]),
        (
            "{type: object, properties: {a: {}}}",
            vec![format!("{V}.properties[a].type: Required value: must not be empty for specified object fields")],
        ),
        ("{type: object, properties: {a: {type: array}}}", vec![format!("{V}.properties[a].items: Required value: must be specified")]),
        (
            "{type: object, properties: {a: {type: string}}, anyOf: [{properties: {a: {type: string}, b: {}}}]}",
            vec![
                format!("{V}.anyOf[0].properties[a].type: Forbidden: must be empty to be structural"),
                format!("{V}.properties[b]: Required value: because it is defined in {V}.anyOf[0].properties[b]"),
            ],
        ),
        (
            "{type: object, additionalProperties: {type: string}}",
            vec![format!("{V}.additionalProperties: Forbidden: must not be used at the root")],
        ),
        (
            "{type: object, properties: {metadata: {type: object, properties: {labels: {type: object}}}}}",
            vec![format!(
                "{V}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
            )],
        ),
        (
            "{type: object, properties: {a: {type: integer, default: x}}}",
            vec![format!("{V}.properties[a].default: Invalid value: \"string\":  in body must be of type integer: \"string\"")],
        ),
        (
            "{type: object, properties: {a: {type: object, default: {b: 1}}}}",
            vec![format!("{V}.properties[a].default: Invalid value: {{\"b\":1}}: must not have unknown fields")],
        ),
        (
            "{type: object, properties: {a: {type: string, pattern: '('}}}",
            vec![format!(
                "{V}.properties[a].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: invalid expression: `(`"
            )],
        ),
        (
            "{type: object, properties: {l: {type: array, uniqueItems: true, items: {type: string}}}}",
            vec![format!(
                "{V}.properties[l].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
            )],
        ),
        (
            "{type: object, properties: {l: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k], items: {type: object, properties: {k: {type: string, nullable: true}}}}}}",
            vec![
                format!(
                    "{V}.properties[l].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
                ),
                format!(
                    "{V}.properties[l].items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
                ),
            ],
        ),
        (
            "{type: object, properties: {a: {type: string, $ref: '#/x'}}}",
            vec![format!("{V}.properties[a].$ref: Forbidden: $ref is not supported")],
        ),
        (
            "{type: object, properties: {kind: {type: string, default: x}}}",
            vec![format!("{V}.properties[kind].default: Forbidden: must not be set in top-level kind")],
        ),
        (
            "{type: object, x-kubernetes-validations: [{rule: ' '}, {rule: 'self.a', message: \"a\\nb\", reason: Nope, fieldPath: .x}]}",
            vec![
                format!("{V}.x-kubernetes-validations[0].rule: Required value: rule is not specified"),
                format!("{V}.x-kubernetes-validations[1].message: Invalid value: \"a\\nb\": message must not contain line breaks"),
                format!(
                    "{V}.x-kubernetes-validations[1].reason: Unsupported value: \"Nope\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\""
                ),
                format!("{V}.x-kubernetes-validations[1].fieldPath: Invalid value: \".x\": fieldPath must be a valid path"),
            ],
        ),
    ] {
        let found = errors::<CustomResourceDefinition>(&with_schema(schema));
        assert_eq!(found, wanted, "{schema}");
    }
}

#[test]
fn updates() {
    let established = "status: {storedVersions: [v1], conditions: [{type: Established, status: 'True'}]}";
    let open = with_schema(OPEN);
    let old = format!("{}, {established}}}", &open[..open.len() - 1]);
    let new = old.replace("scope: Namespaced", "scope: Cluster").replace("kind: Foo", "kind: Bar");
    assert_eq!(
        update_errors::<CustomResourceDefinition>(&old, &new),
        ["spec.scope: Invalid value: \"Cluster\": field is immutable", "spec.names.kind: Invalid value: \"Bar\": field is immutable"]
    );
    let renamed = old.replace("name: v1,", "name: v2,");
    let found = update_errors::<CustomResourceDefinition>(&old, &renamed);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], "status.storedVersions: Invalid value: [\"v1\"]: must have the storage version v2");
    assert!(
        found[1].starts_with("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously"),
        "{found:?}"
    );
}

#[test]
fn groups_of_kubernetes_need_approval() {
    for (annotation, state) in [
        ("", Approval::Missing),
        ("unapproved, just testing", Approval::Bypassed),
        ("https://github.com/kubernetes/enhancements/pull/1", Approval::Approved),
        ("nonsense", Approval::Invalid),
    ] {
        let yaml = format!(
            "{{metadata: {{annotations: {{{APPROVED}: '{annotation}'}}}}, spec: {{group: x.k8s.io, scope: '', names: {{plural: '', kind: ''}}, versions: []}}}}"
        );
        let crd: CustomResourceDefinition = serde_yaml::from_str(&yaml).expect("a definition");
        assert_eq!(approval_of(&crd).0, state, "{annotation}");
    }
}
