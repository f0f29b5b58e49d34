//! A definition and its versions, compiled.

use std::sync::{Arc, OnceLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, CustomResourceSubresourceScale,
};
use serde_json::{Value, json};

use super::behaviour::Custom;
use super::columns::{Column, columns};
use super::convert::Versions;
use super::{accepted, has};
use crate::api::structural::Schema;
use crate::api::validations::Validations;
use crate::api::{Key, Rev};
use crate::server::outbound::Outbound;
use crate::server::registry::strategy::Subresource;
use crate::server::registry::{Facts, KindDef, KindRef, Names};

/// A definition at one revision, with its versions compiled at first use.
pub(super) struct Definition {
    /// Of the definition itself.
    pub key: Key,
    /// What was written after this was written under this definition.
    pub rev: Rev,
    pub crd: Arc<CustomResourceDefinition>,
    pub outbound: Outbound,
    versions: Vec<OnceLock<Arc<Version>>>,
}

/// One version.
pub(super) struct Version {
    pub api_version: String,
    pub kind: String,
    pub schema: Schema,
    /// `x-kubernetes-validations`, if there are any.
    pub rules: Option<Validations>,
    /// Whether filling in defaults can change anything.
    pub defaults: bool,
    /// Whether fields that no schema describes are kept.
    pub preserve: bool,
    pub status: bool,
    pub scale: Option<CustomResourceSubresourceScale>,
    pub columns: Vec<Column>,
    /// Paths of selectable fields, without the first dot.
    pub selectable: Vec<String>,
    pub warning: Option<String>,
    /// The schema as applied configurations are merged by it.
    pub merge_schema: Arc<Value>,
}

impl Definition {
    pub fn new(key: Key, rev: Rev, crd: Arc<CustomResourceDefinition>, outbound: Outbound) -> Definition {
        let versions = crd.spec.versions.iter().map(|_| OnceLock::new()).collect();
        Definition { key, rev, crd, outbound, versions }
    }

    /// The kind of a version.
    pub fn kind(this: &Arc<Definition>, index: usize) -> KindRef {
        let (crd, names) = (&this.crd, accepted(&this.crd));
        let version = &crd.spec.versions[index];
        let or = |name: Option<String>, other: &str| name.filter(|name| !name.is_empty()).unwrap_or_else(|| other.to_owned());
        let kind = or(Some(names.kind), &crd.spec.names.kind);
        let list_kind = or(names.list_kind, &format!("{kind}List"));
        let mut subresources = Vec::new();
        if let Some(given) = &version.subresources {
            subresources.extend(given.status.is_some().then_some(Subresource::Status));
            subresources.extend(given.scale.is_some().then_some(Subresource::Scale));
        }
        let all = |list: Option<Vec<String>>| list.unwrap_or_default().into_iter().map(Into::into).collect();
        let facts = Facts {
            singular: names.singular.unwrap_or_default().into(),
            short: all(names.short_names),
            categories: all(names.categories),
            namespaced: crd.spec.scope == "Namespaced",
            subresources,
            generation: true,
            virtual_only: false,
            computed: false,
            update_may_create: false,
            returns_deleted: false,
            plain_finalizers: true,
        };
        let names = Names {
            group: crd.spec.group.clone().into(),
            version: version.name.clone().into(),
            kind: kind.into(),
            list_kind: list_kind.into(),
            resource: crd.spec.names.plural.clone().into(),
        };
        let behaviour = Custom { definition: this.clone(), index };
        let converter = Versions { definition: this.clone(), index };
        Arc::new(KindDef::new(names, facts, Box::new(behaviour), Some(Box::new(converter))))
    }

    /// The compiled version.
    pub fn version(&self, index: usize) -> &Arc<Version> {
        self.versions[index].get_or_init(|| Arc::new(Version::new(&self.crd, &self.crd.spec.versions[index])))
    }

    /// The version that objects are stored in.
    pub fn storage(&self) -> usize {
        self.crd.spec.versions.iter().position(|version| version.storage).unwrap_or_default()
    }

    /// The version of an object's `apiVersion`, if it is one of this definition's.
    pub fn find(&self, api_version: &str) -> Option<usize> {
        let (group, version) = api_version.split_once('/')?;
        self.crd.spec.versions.iter().position(|one| one.name == version).filter(|_| group == self.crd.spec.group)
    }

    /// Whether the definition is on its way out.
    pub fn is_terminating(&self) -> bool {
        has(&self.crd, "Terminating")
    }
}

impl Version {
    fn new(crd: &CustomResourceDefinition, version: &CustomResourceDefinitionVersion) -> Version {
        let props = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        // What is stored was checked; a definition of old that is not structural preserves everything.
        let parsed = props.and_then(|props| Schema::parse(props).ok());
        let preserve = crd.spec.preserve_unknown_fields == Some(true) || (props.is_some() && parsed.is_none());
        let tree = props.map_or_else(|| json!({"type": "object"}), |props| serde_json::to_value(props).unwrap_or_default());
        let schema = parsed.unwrap_or_default();
        let kind = accepted(crd).kind;
        let kind = if kind.is_empty() { crd.spec.names.kind.clone() } else { kind };
        let api_version = format!("{}/{}", crd.spec.group, version.name);
        let deprecated = version
            .deprecated
            .unwrap_or_default()
            .then(|| version.deprecation_warning.clone().unwrap_or_else(|| format!("{api_version} {kind} is deprecated")));
        let subresources = version.subresources.as_ref();
        let selectable = version.selectable_fields.iter().flatten();
        Version {
            rules: Validations::compile(&schema, &tree),
            defaults: schema.has_defaults(),
            status: subresources.is_some_and(|given| given.status.is_some()),
            scale: subresources.and_then(|given| given.scale.clone()),
            columns: columns(version.additional_printer_columns.as_deref()),
            selectable: selectable.map(|field| field.json_path.trim_start_matches('.').to_owned()).collect(),
            warning: deprecated,
            merge_schema: Arc::new(tree),
            api_version,
            kind,
            schema,
            preserve,
        }
    }
}
