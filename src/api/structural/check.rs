//! Whether a schema is structural, and its defaults are values of it.
//!
//! Follows apiextensions-apiserver `pkg/apiserver/schema/{validation,complete}.go` and `pkg/apiserver/schema/defaulting/validation.go`.

use serde_json::{Value, json};

use super::schema::{Additional, Schema};
use super::{Coerce, Path, coerce, objectmeta, prune, validate};
use crate::api::FieldError;

/// Where a schema stands, which decides what its missing type is called.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Every way in which the schema of a whole resource is not structural, in the order of their texts.
pub fn check(schema: &Schema, path: Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, path, &mut errors);
    complete(schema, schema, path, path, &mut errors);
    errors.sort_by_key(FieldError::to_string);
    errors
}

fn invariants(schema: &Schema, level: Level, path: Path<'_>, errors: &mut Vec<FieldError>) {
    if schema.type_ == "array" && schema.items.is_none() {
        errors.push(FieldError::required(path.field("items"), "must be specified"));
    }
    if let Some(items) = &schema.items {
        invariants(items, Level::Item, path.field("items"), errors);
    }
    let properties = path.field("properties");
    for (name, field) in &schema.properties {
        invariants(field, Level::Field, properties.key(name), errors);
    }
    if schema.additional != Additional::Unset {
        let path = path.field("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(path, "must not be used at the root"));
        }
        if let Additional::Schema(other) = &schema.additional {
            invariants(other, Level::Field, path, errors);
        }
    }
    extensions(schema, path, errors);
    let plain = is_int_or_string(&schema.any_of);
    let wrapped = schema.all_of.first().is_some_and(|first| is_int_or_string(&first.any_of));
    values(schema, plain, wrapped, path, errors);
    types(schema, level, path, errors);
    metadata(schema, level, path, errors);
}

fn extensions(schema: &Schema, path: Path<'_>, errors: &mut Vec<FieldError>) {
    let why = "must be false if x-kubernetes-int-or-string is true";
    if schema.int_or_string && schema.preserve {
        errors.push(FieldError::invalid(path.field("x-kubernetes-preserve-unknown-fields"), true, why));
    }
    if schema.int_or_string && schema.embedded {
        errors.push(FieldError::invalid(path.field("x-kubernetes-embedded-resource"), true, why));
    }
    if schema.embedded && schema.additional != Additional::Unset {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(path.field("additionalProperties"), why));
    }
    if schema.embedded && !schema.preserve && schema.properties.is_empty() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(path.field("properties"), why));
    }
}

fn types(schema: &Schema, level: Level, path: Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.field("type");
    let kind = schema.type_.as_str();
    if schema.embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() { FieldError::required(path, why) } else { FieldError::invalid(path, kind, why) });
    } else if kind.is_empty() && !schema.int_or_string && !schema.preserve {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(path, why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(path, kind, "must be object at the root"));
    }
}

/// Of a resource's own fields only little may be said.
fn metadata(schema: &Schema, level: Level, path: Path<'_>, errors: &mut Vec<FieldError>) {
    let properties = path.field("properties");
    let is_resource = level == Level::Root || schema.embedded;
    if is_resource {
        for (name, kind) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
            if let Some(field) = schema.properties.get(name).filter(|field| field.type_ != kind) {
                errors.push(FieldError::invalid(properties.key(name).field("type"), &field.type_, format!("must be {kind}")));
            }
        }
    }
    let Some(metadata) = schema.properties.get("metadata").filter(|_| level == Level::Root) else { return };
    let mut rest = metadata.clone();
    if rest.properties.keys().all(|name| name == "name" || name == "generateName") {
        rest.properties.clear();
    }
    rest.type_.clear();
    rest.default = None;
    if rest != Schema::default() {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(properties.key("metadata"), why));
    }
}

/// `anyOf: [{type: integer}, {type: string}]`, the one place where a type may stand below `anyOf`.
fn is_int_or_string(any_of: &[Schema]) -> bool {
    let only = |schema: &Schema, kind: &str| *schema == Schema { type_: kind.into(), ..Schema::default() };
    matches!(any_of, [first, second] if only(first, "integer") && only(second, "string"))
}

/// The parts of a schema that test values, and what stands below them.
fn values(schema: &Schema, skip_any_of: bool, skip_first: bool, path: Path<'_>, errors: &mut Vec<FieldError>) {
    let lists = [("anyOf", &schema.any_of), ("allOf", &schema.all_of), ("oneOf", &schema.one_of)];
    for (name, list) in lists {
        let path = path.field(name);
        for (index, one) in list.iter().enumerate().filter(|_| name != "anyOf" || !skip_any_of) {
            nested(one, skip_first && name == "allOf" && index == 0, path.index(index), errors);
        }
    }
    if let Some(not) = &schema.not {
        nested(not, false, path.field("not"), errors);
    }
    if let Some((pattern, why)) = schema.pattern.as_ref().and_then(|pattern| Some((pattern, pattern.error()?))) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(path.field("pattern"), pattern.text(), why));
    }
}

/// A schema below `allOf` and the like: it tests values and says nothing else.
fn nested(schema: &Schema, skip_any_of: bool, path: Path<'_>, errors: &mut Vec<FieldError>) {
    values(schema, skip_any_of, false, path, errors);
    if let Some(items) = &schema.items {
        nested(items, false, path.field("items"), errors);
    }
    let properties = path.field("properties");
    for (name, field) in &schema.properties {
        nested(field, false, properties.key(name), errors);
    }
    for (said, name, wanted) in [
        (!schema.type_.is_empty(), "type", "empty"),
        (schema.additional != Additional::Unset, "additionalProperties", "undefined"),
        (schema.default.is_some(), "default", "undefined"),
        (!schema.title.is_empty(), "title", "empty"),
        (!schema.description.is_empty(), "description", "empty"),
        (schema.nullable, "nullable", "false"),
        (schema.external_docs, "externalDocs", "undefined"),
        (schema.preserve, "x-kubernetes-preserve-unknown-fields", "false"),
        (schema.embedded, "x-kubernetes-embedded-resource", "false"),
        (schema.int_or_string, "x-kubernetes-int-or-string", "false"),
        (!schema.list_map_keys.is_empty(), "x-kubernetes-list-map-keys", "empty"),
        (schema.list_type.is_some(), "x-kubernetes-list-type", "undefined"),
        (schema.map_type.is_some(), "x-kubernetes-map-type", "undefined"),
        (!schema.rules.is_empty(), "x-kubernetes-validations", "empty"),
    ] {
        if said {
            errors.push(FieldError::forbidden(path.field(name), format!("must be {wanted} to be structural")));
        }
    }
    if schema.properties.contains_key("metadata") {
        errors.push(FieldError::forbidden(properties.key("metadata"), "must not be specified in a nested context"));
    }
}

/// What tests a field must stand beside a schema that describes it. `tested` is a part of what tests values of `schema`.
fn complete(tested: &Schema, schema: &Schema, at: Path<'_>, tested_at: Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(not) = &tested.not {
        complete_nested(not, schema, at, tested_at.field("not"), errors);
    }
    for (name, list) in [("allOf", &tested.all_of), ("anyOf", &tested.any_of), ("oneOf", &tested.one_of)] {
        let path = tested_at.field(name);
        for (index, one) in list.iter().enumerate() {
            complete_nested(one, schema, at, path.index(index), errors);
        }
    }
}

fn complete_nested(tested: &Schema, schema: &Schema, at: Path<'_>, tested_at: Path<'_>, errors: &mut Vec<FieldError>) {
    complete(tested, schema, at, tested_at, errors);
    let missing = |at: Path<'_>, from: Path<'_>| FieldError::required(at, format!("because it is defined in {from}"));
    if let Some(items) = &tested.items {
        let (at, tested_at) = (at.field("items"), tested_at.field("items"));
        match &schema.items {
            None => errors.push(missing(at, tested_at)),
            Some(described) => complete_nested(items, described, at, tested_at, errors),
        }
    }
    let (at, tested_at) = (at.field("properties"), tested_at.field("properties"));
    for (name, field) in &tested.properties {
        match schema.properties.get(name) {
            None => errors.push(missing(at.key(name), tested_at.key(name))),
            Some(described) => complete_nested(field, described, at.key(name), tested_at.key(name), errors),
        }
    }
}

/// Every default that is not a value of its schema, but for rules written in CEL.
pub fn check_defaults(schema: &Schema, require_pruned: bool, path: Path<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = Root { schema, steps: None };
    defaults(schema, &root, false, true, &Options { require_pruned }, path, &mut errors);
    errors
}

struct Options {
    require_pruned: bool,
}

/// The resource around a default: the schema of the resource and the way down to the default, newest step first.
struct Root<'a> {
    schema: &'a Schema,
    steps: Option<&'a Step<'a>>,
}

struct Step<'a> {
    /// A field's name; `None` is an element of a list.
    name: Option<&'a str>,
    before: Option<&'a Step<'a>>,
}

impl Root<'_> {
    /// A resource that has `value` where the default would be.
    fn around(&self, mut value: Value) -> Value {
        let mut step = self.steps;
        while let Some(Step { name, before }) = step {
            value = match name {
                Some(name) => json!({ *name: value }),
                None => json!([value]),
            };
            step = *before;
        }
        if let Some(map) = value.as_object_mut() {
            map.entry("apiVersion").or_insert_with(|| "validation/v1".into());
            map.entry("kind").or_insert_with(|| "Validation".into());
        }
        value
    }
}

fn defaults(schema: &Schema, root: &Root<'_>, in_meta: bool, top: bool, options: &Options, path: Path<'_>, errors: &mut Vec<FieldError>) {
    let resource = top || schema.embedded;
    let own = Root { schema, steps: None };
    let (root, in_meta) = if resource { (&own, false) } else { (root, in_meta) };
    if let Some(default) = &schema.default {
        let path = path.field("default");
        match in_meta {
            true => meta_default(schema, root, default, path, errors),
            false => default_value(schema, default, resource, path, options, errors),
        }
    }
    // Not below additionalProperties: defaults are forbidden there.
    if let Some(items) = &schema.items {
        let step = Step { name: None, before: root.steps };
        let root = Root { schema: root.schema, steps: Some(&step) };
        defaults(items, &root, in_meta, false, options, path.field("items"), errors);
    }
    let properties = path.field("properties");
    for (name, field) in &schema.properties {
        let in_meta = in_meta || resource && ["metadata", "apiVersion", "kind"].contains(&name.as_str());
        let step = Step { name: Some(name), before: root.steps };
        let root = Root { schema: root.schema, steps: Some(&step) };
        defaults(field, &root, in_meta, false, options, properties.key(name), errors);
    }
}

/// A default within the metadata of an embedded resource: with it the resource's metadata must be valid.
fn meta_default(schema: &Schema, root: &Root<'_>, default: &Value, path: Path<'_>, errors: &mut Vec<FieldError>) {
    let mut object = root.around(default.clone());
    let refused = |why: &dyn std::fmt::Display| FieldError::invalid(path, default, format!("must result in valid metadata: {why}"));
    if let Err(error) = coerce(&mut object, root.schema, Coerce { root: true, drop_malformed: false }, &mut |_| ()) {
        return errors.push(refused(&error));
    }
    let found = objectmeta::validate_embedded(&object, root.schema, true, Path::ROOT);
    match found.as_slice() {
        [] => errors.extend(validate(default, schema, path)),
        [one] => errors.push(refused(one)),
        many => errors.push(refused(&format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")))),
    }
}

fn default_value(schema: &Schema, default: &Value, resource: bool, path: Path<'_>, options: &Options, errors: &mut Vec<FieldError>) {
    if options.require_pruned {
        let mut pruned = default.clone();
        match resource {
            true => prune(&mut pruned, schema, &mut |_| ()),
            false => super::prune::prune_value(&mut pruned, schema),
        }
        if pruned != *default {
            errors.push(FieldError::invalid(path, default, "must not have unknown fields"));
        }
    }
    let mut coerced = default.clone();
    let text = path.to_string();
    let below = Path::root(&text);
    if let Err(error) = objectmeta::coerce_at(&mut coerced, schema, Coerce { root: resource, drop_malformed: false }, below, &mut |_| ()) {
        return errors.push(error);
    }
    let found = objectmeta::validate_embedded(&coerced, schema, resource, below);
    errors.extend(if found.is_empty() { validate(default, schema, path) } else { found });
}
