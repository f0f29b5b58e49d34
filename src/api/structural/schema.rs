//! The tree: one node of an `openAPIV3Schema`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use serde_json::Value;

use super::pattern::Pattern;

/// What `additionalProperties` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Additional {
    /// Nothing: other fields are pruned.
    #[default]
    Unset,
    /// Others are allowed, or not.
    Allowed(bool),
    /// Others are of this form: the object is a map.
    Schema(Box<Schema>),
}

/// One `x-kubernetes-validations` rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The CEL expression.
    pub rule: String,
    /// What to say when it is false.
    pub message: String,
    /// CEL for what to say.
    pub message_expression: String,
    /// One of upstream's four field value reasons; empty for invalid.
    pub reason: String,
    /// Whose fault it is, as a JSON path below the schema.
    pub field_path: String,
    /// Whether `oldSelf` is an optional.
    pub optional_old_self: Option<bool>,
}

/// One schema. Absent texts are empty; a `default` of null is none, as upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// `object`, `array`, `string`, `integer`, `number`, `boolean`, or empty.
    pub type_: String,
    /// Title.
    pub title: String,
    /// Description.
    pub description: String,
    /// What fills in for an absent value.
    pub default: Option<Arc<Value>>,
    /// Whether null is a value.
    pub nullable: bool,
    /// Whether `externalDocs` is there.
    pub external_docs: bool,
    /// As written; those that are not supported are ignored.
    pub format: String,
    /// Upper bound.
    pub maximum: Option<f64>,
    /// Whether the upper bound itself is out.
    pub exclusive_maximum: bool,
    /// Lower bound.
    pub minimum: Option<f64>,
    /// Whether the lower bound itself is out.
    pub exclusive_minimum: bool,
    /// Most characters.
    pub max_length: Option<i64>,
    /// Fewest characters.
    pub min_length: Option<i64>,
    /// What a string must match.
    pub pattern: Option<Pattern>,
    /// Most elements.
    pub max_items: Option<i64>,
    /// Fewest elements.
    pub min_items: Option<i64>,
    /// Whether elements differ (refused in definitions, honoured in old ones).
    pub unique_items: bool,
    /// Of which a number is a multiple.
    pub multiple_of: Option<f64>,
    /// Most fields.
    pub max_properties: Option<i64>,
    /// Fewest fields.
    pub min_properties: Option<i64>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// The values allowed, if they are listed.
    pub enumeration: Option<Vec<Value>>,
    /// The elements of an array.
    pub items: Option<Box<Schema>>,
    /// The fields of an object.
    pub properties: BTreeMap<String, Schema>,
    /// Other fields.
    pub additional: Additional,
    /// All must hold.
    pub all_of: Vec<Schema>,
    /// One at least must hold.
    pub any_of: Vec<Schema>,
    /// Exactly one must hold.
    pub one_of: Vec<Schema>,
    /// May not hold.
    pub not: Option<Box<Schema>>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: Option<String>,
    /// `x-kubernetes-list-map-keys`.
    pub list_map_keys: Vec<String>,
    /// `x-kubernetes-map-type`.
    pub map_type: Option<String>,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
}

impl Schema {
    /// Parses. What a structural schema can't have (`$ref`, `id`, `definitions`, ...) is the error.
    pub fn parse(props: &JSONSchemaProps) -> Result<Schema, String> {
        for (present, what) in [
            (props.id.as_deref().is_some_and(|id| !id.is_empty()), "id"),
            (props.ref_path.is_some(), "$ref"),
            (props.additional_items.is_some(), "additionalItems"),
            (props.definitions.as_ref().is_some_and(|map| !map.is_empty()), "definitions"),
            (props.dependencies.as_ref().is_some_and(|map| !map.is_empty()), "dependencies"),
            (props.pattern_properties.as_ref().is_some_and(|map| !map.is_empty()), "patternProperties"),
        ] {
            if present {
                return Err(format!("{what} is not supported"));
            }
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let flag = |flag: Option<bool>| flag.unwrap_or_default();
        let many = |list: &Option<Vec<JSONSchemaProps>>| list.iter().flatten().map(Schema::parse).collect::<Result<Vec<_>, _>>();
        let items = match &props.items {
            None => None,
            Some(JSONSchemaPropsOrArray::Schema(one)) => Some(Box::new(Schema::parse(one)?)),
            Some(JSONSchemaPropsOrArray::Schemas(_)) => return Err("items must be a schema object and not an array".into()),
        };
        let additional = match &props.additional_properties {
            None => Additional::Unset,
            Some(JSONSchemaPropsOrBool::Bool(allowed)) => Additional::Allowed(*allowed),
            Some(JSONSchemaPropsOrBool::Schema(one)) => Additional::Schema(Box::new(Schema::parse(one)?)),
        };
        let mut properties = BTreeMap::new();
        for (name, field) in props.properties.iter().flatten() {
            properties.insert(name.clone(), Schema::parse(field)?);
        }
        let rules = props.x_kubernetes_validations.iter().flatten().map(|rule| Rule {
            rule: rule.rule.clone(),
            message: text(&rule.message),
            message_expression: text(&rule.message_expression),
            reason: text(&rule.reason),
            field_path: text(&rule.field_path),
            optional_old_self: rule.optional_old_self,
        });
        Ok(Schema {
            type_: text(&props.type_),
            title: text(&props.title),
            description: text(&props.description),
            default: props.default.as_ref().filter(|default| !default.0.is_null()).map(|default| Arc::new(default.0.clone())),
            nullable: flag(props.nullable),
            external_docs: props.external_docs.is_some(),
            format: text(&props.format),
            maximum: props.maximum,
            exclusive_maximum: flag(props.exclusive_maximum),
            minimum: props.minimum,
            exclusive_minimum: flag(props.exclusive_minimum),
            max_length: props.max_length,
            min_length: props.min_length,
            pattern: props.pattern.as_deref().filter(|pattern| !pattern.is_empty()).map(Pattern::new),
            max_items: props.max_items,
            min_items: props.min_items,
            unique_items: flag(props.unique_items),
            multiple_of: props.multiple_of,
            max_properties: props.max_properties,
            min_properties: props.min_properties,
            required: props.required.clone().unwrap_or_default(),
            enumeration: props.enum_.as_ref().map(|list| list.iter().map(|one| one.0.clone()).collect()),
            items,
            properties,
            additional,
            all_of: many(&props.all_of)?,
            any_of: many(&props.any_of)?,
            one_of: many(&props.one_of)?,
            not: props.not.as_deref().map(Schema::parse).transpose()?.map(Box::new),
            preserve: flag(props.x_kubernetes_preserve_unknown_fields),
            embedded: flag(props.x_kubernetes_embedded_resource),
            int_or_string: flag(props.x_kubernetes_int_or_string),
            list_type: props.x_kubernetes_list_type.clone(),
            list_map_keys: props.x_kubernetes_list_map_keys.clone().unwrap_or_default(),
            map_type: props.x_kubernetes_map_type.clone(),
            rules: rules.collect(),
        })
    }

    /// The schema of a field: its own, or that of all others. `None` when nothing describes it.
    pub fn child(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        })
    }

    /// Whether this schema, or one below it outside of `allOf` and the like, satisfies `test`.
    pub fn any(&self, test: &dyn Fn(&Schema) -> bool) -> bool {
        let additional = match &self.additional {
            Additional::Schema(schema) => Some(&**schema),
            _ => None,
        };
        test(self) || self.items.as_deref().into_iter().chain(self.properties.values()).chain(additional).any(|schema| schema.any(test))
    }

    /// Whether filling in defaults could ever change a value.
    pub fn has_defaults(&self) -> bool {
        self.any(&|schema| schema.default.is_some())
    }
}
