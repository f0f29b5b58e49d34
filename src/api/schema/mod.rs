//! What the API's types.go files say about lists, maps and patches, which the schemas of `k8s-openapi` leave out.
//!
//! Words: a *type* is named as its JSON schema is (`io.k8s.api.core.v1.Pod`); a *fact* is one of upstream's tags on a field
//! (`+listType`, `+listMapKey`, `+mapType`, `patchStrategy`, `patchMergeKey`) or on a type (`+structType`); an *edge* says which type
//! a field holds, itself or as a list's items or a map's values.
//!
//! Only types from which a fact can be reached are listed, so the whole is a constant of a few ten kilobytes: nothing is
//! built from schemas at run time. A list without a fact is atomic; an object or map without one is merged field by field.
//!
//! Never: descriptions, formats or required fields. Those stay in the schemas.

mod facts;
mod zero;

use std::collections::HashMap;
use std::sync::LazyLock;

pub use zero::{fill, filter, is_filled, zero};

/// How server-side apply treats a list (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    Atomic,
    /// Scalars, merged without duplicates.
    Set,
    /// Objects, identified by the values of these fields.
    Map(&'static [&'static str]),
}

/// How a strategic merge patch treats a field (`x-kubernetes-patch-strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists are merged, by [`PatchStrategy::key`] where they hold objects.
    pub merge: bool,
    /// The patch may carry `$retainKeys`.
    pub retain_keys: bool,
    /// Upstream states `replace`.
    pub replace: bool,
    /// `x-kubernetes-patch-merge-key`; empty for lists of scalars.
    pub key: &'static str,
}

impl PatchStrategy {
    /// Its published form, such as `merge,retainKeys`. `None` when upstream states none.
    pub fn published(&self) -> Option<&'static str> {
        match (self.merge, self.retain_keys, self.replace) {
            (true, true, _) => Some("merge,retainKeys"),
            (true, false, _) => Some("merge"),
            (false, true, _) => Some("retainKeys"),
            (false, false, true) => Some("replace"),
            (false, false, false) => None,
        }
    }
}

/// Which type a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A scalar, or a type without facts.
    Leaf,
    /// An object of this type.
    One(&'static str),
    /// A list of this type.
    Items(&'static str),
    /// A map from strings to this type.
    Values(&'static str),
}

/// One field of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// What it holds.
    pub target: Target,
    /// If it is a list: how apply treats it.
    pub list: ListType,
    /// If it is a map or object: whether it is replaced as a whole. `None`: what the type says.
    pub atomic: Option<bool>,
    /// How a strategic merge patch treats it.
    pub patch: PatchStrategy,
}

/// One type that has facts, or leads to one that has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type {
    /// Schema name.
    pub name: &'static str,
    /// Whether apply replaces objects of this type as a whole (`+structType=atomic`).
    pub atomic: bool,
    /// Fields with facts or edges.
    pub fields: &'static [Field],
}

impl Type {
    /// The field of this JSON name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

static BY_NAME: LazyLock<HashMap<&'static str, &'static Type>> = LazyLock::new(|| types().map(|t| (t.name, t)).collect());

/// All types with facts.
pub fn types() -> impl Iterator<Item = &'static Type> {
    facts::TABLES.iter().flat_map(|table| table.iter())
}

/// The type of this schema name; `None` when it has no facts.
pub fn lookup(name: &str) -> Option<&'static Type> {
    BY_NAME.get(name).copied()
}

/// The value that an absent list map key stands for, as upstream's schema defaults: a port's protocol is TCP.
pub fn key_default(key: &str) -> Option<&'static str> {
    match key {
        "protocol" => Some("TCP"),
        "name" => Some(""),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{admissionregistration, apps, autoscaling, batch, core, networking, policy};
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
    use schemars::SchemaGenerator;
    use schemars::generate::SchemaSettings;
    use serde_json::Value;

    fn definitions() -> serde_json::Map<String, Value> {
        let mut generator = SchemaGenerator::new(SchemaSettings::openapi3());
        generator.subschema_for::<core::v1::Pod>();
        generator.subschema_for::<core::v1::Node>();
        generator.subschema_for::<core::v1::Service>();
        generator.subschema_for::<core::v1::PersistentVolume>();
        generator.subschema_for::<core::v1::PersistentVolumeClaim>();
        generator.subschema_for::<core::v1::ReplicationController>();
        generator.subschema_for::<core::v1::ServiceAccount>();
        generator.subschema_for::<apps::v1::Deployment>();
        generator.subschema_for::<apps::v1::StatefulSet>();
        generator.subschema_for::<apps::v1::DaemonSet>();
        generator.subschema_for::<batch::v1::CronJob>();
        generator.subschema_for::<autoscaling::v2::HorizontalPodAutoscaler>();
        generator.subschema_for::<policy::v1::PodDisruptionBudget>();
        generator.subschema_for::<networking::v1::NetworkPolicy>();
        generator.subschema_for::<networking::v1::Ingress>();
        generator.subschema_for::<admissionregistration::v1::ValidatingAdmissionPolicy>();
        generator.subschema_for::<apiextensions::v1::CustomResourceDefinition>();
        generator.definitions().clone()
    }

    fn reference(schema: &Value) -> Option<&str> {
        let found = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref"))?;
        found.as_str()?.rsplit('/').next()
    }

    /// The edge that a schema of `k8s-openapi` shows.
    fn edge(property: &Value) -> (&'static str, Option<&str>) {
        if let Some(items) = property.get("items") {
            return ("items", reference(items));
        }
        match property.get("additionalProperties") {
            Some(values) => ("values", reference(values)),
            None => ("one", reference(property)),
        }
    }

    #[test]
    fn facts_agree_with_the_schemas() {
        let definitions = definitions();
        assert!(definitions.len() > 250, "{}", definitions.len());
        for (name, schema) in &definitions {
            let none = serde_json::Map::new();
            let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
            let known = lookup(name);
            for field in known.map(|t| t.fields).unwrap_or_default() {
                let property = properties.get(field.name).unwrap_or_else(|| panic!("{name} has no field {}", field.name));
                let is_list = property.get("type").is_some_and(|t| t == "array");
                assert_eq!(is_list, is_list || field.list != ListType::Atomic, "{name}.{} is no list", field.name);
                if let (ListType::Map(keys), (_, Some(item))) = (field.list, edge(property)) {
                    for key in keys {
                        assert!(definitions[item]["properties"].get(key).is_some(), "{name}.{}: {item} has no {key}", field.name);
                    }
                }
            }
            for (property, schema) in properties {
                let (shape, Some(to)) = edge(schema) else { continue };
                if lookup(to).is_none() {
                    continue;
                }
                let target = known.and_then(|t| t.field(property)).map(|f| f.target);
                let expected = match shape {
                    "items" => Target::Items(lookup(to).unwrap().name),
                    "values" => Target::Values(lookup(to).unwrap().name),
                    _ => Target::One(lookup(to).unwrap().name),
                };
                assert_eq!(target, Some(expected), "{name}.{property}");
            }
        }
    }

    #[test]
    fn every_edge_leads_somewhere_and_no_name_is_twice() {
        let mut seen = std::collections::HashSet::new();
        for t in types() {
            assert!(seen.insert(t.name), "{} twice", t.name);
            for field in t.fields {
                if let Target::One(to) | Target::Items(to) | Target::Values(to) = field.target {
                    assert!(lookup(to).is_some(), "{}.{} leads to {to}", t.name, field.name);
                }
            }
        }
    }

    #[test]
    fn well_known_facts() {
        let field = |t: &str, f: &str| lookup(t).unwrap().field(f).unwrap();
        let ports = field("io.k8s.api.core.v1.Container", "ports");
        assert_eq!(ports.list, ListType::Map(&["containerPort", "protocol"]));
        assert_eq!((ports.patch.merge, ports.patch.key), (true, "containerPort"));
        let volumes = field("io.k8s.api.core.v1.PodSpec", "volumes");
        assert_eq!(volumes.patch.published(), Some("merge,retainKeys"));
        let strategy = field("io.k8s.api.apps.v1.DeploymentSpec", "strategy");
        assert_eq!(strategy.patch.published(), Some("retainKeys"));
        let finalizers = field("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers");
        assert_eq!((finalizers.list, finalizers.patch.published(), finalizers.patch.key), (ListType::Set, Some("merge"), ""));
        assert_eq!(field("io.k8s.api.core.v1.PodSpec", "nodeSelector").atomic, Some(true));
        assert!(lookup("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").unwrap().atomic);
        assert_eq!(field("io.k8s.api.core.v1.ServiceSpec", "ports").list, ListType::Map(&["port", "protocol"]));
        assert_eq!(lookup("io.k8s.api.core.v1.ConfigMapEnvSource").map(|t| t.fields.len()), None);
    }
}
