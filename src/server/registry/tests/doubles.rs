//! Kinds for the registry's own tests: API types under another Rust type, with just enough strategy, so that a test fails for a fault
//! of the registry and not of a kind.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::LocalSubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Event as CoreEvent, Pod};
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Serialize};

use crate::api::FieldError;
use crate::server::registry::strategy::{Info, Scale, Strategy, Subresource};
use crate::server::registry::{KindDef, KindRef};

macro_rules! double {
    ($name:ident, $inner:ty) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl Resource for $name {
            const API_VERSION: &'static str = <$inner>::API_VERSION;
            const GROUP: &'static str = <$inner>::GROUP;
            const KIND: &'static str = <$inner>::KIND;
            const VERSION: &'static str = <$inner>::VERSION;
            const URL_PATH_SEGMENT: &'static str = <$inner>::URL_PATH_SEGMENT;
            type Scope = NamespaceResourceScope;
        }

        impl Metadata for $name {
            type Ty = ObjectMeta;
            fn metadata(&self) -> &ObjectMeta {
                self.0.metadata()
            }
            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                self.0.metadata_mut()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                <$inner>::schema_name()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                <$inner>::json_schema(generator)
            }
        }
    };
}

double!(Map, ConfigMap);
double!(Task, Pod);
double!(Work, Deployment);
double!(Old, CoreEvent);
double!(New, NewEvent);
double!(Review, LocalSubjectAccessReview);

impl Strategy for Map {
    const INFO: Info = Info { singular: "configmap", generation: false, update_may_create: true, ..Info::NAMESPACED };
}

impl Strategy for Task {
    const INFO: Info = Info { singular: "pod", ..Info::NAMESPACED };
    const FIELDS: &'static [&'static str] = &["spec.nodeName"];
    fn field(&self, path: &str) -> Option<String> {
        let node = self.0.spec.as_ref().and_then(|spec| spec.node_name.clone());
        (path == "spec.nodeName").then(|| node.unwrap_or_default())
    }
    fn grace(&self, requested: Option<i64>) -> Option<i64> {
        let scheduled = self.0.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        scheduled.then(|| requested.unwrap_or(30))
    }
}

impl Strategy for Work {
    const INFO: Info = Info { singular: "deployment", subresources: &[Subresource::Status, Subresource::Scale], ..Info::NAMESPACED };
    fn apply_defaults(&mut self) {
        self.0.spec.replicas.get_or_insert(1);
    }
    fn prepare_create(&mut self) {
        self.0.status = None;
    }
    fn prepare_update(&mut self, old: &Self) {
        self.0.status = old.0.status.clone();
    }
    fn prepare_status(&mut self, old: &Self) {
        self.0.spec = old.0.spec.clone();
    }
    fn validate(&self, _old: Option<&Self>) -> Vec<FieldError> {
        let replicas = self.0.spec.replicas.unwrap_or_default();
        if replicas > 100 { vec![FieldError::invalid("spec.replicas", replicas, "too many")] } else { Vec::new() }
    }
    fn scale(&self) -> Option<Scale> {
        let replicas = self.0.spec.replicas.unwrap_or_default();
        Some(Scale { replicas, observed: 0, selector: "a=b".into() })
    }
    fn set_scale(&mut self, replicas: i32) {
        self.0.spec.replicas = Some(replicas);
    }
}

impl Strategy for Review {
    const INFO: Info = Info { singular: "review", virtual_only: true, ..Info::NAMESPACED };
}

impl Strategy for Old {
    const INFO: Info = Info { singular: "event", generation: false, ..Info::NAMESPACED };
}

fn rename(mut value: serde_json::Value, pairs: [(&str, &str); 2]) -> serde_json::Value {
    if let Some(map) = value.as_object_mut() {
        for (from, to) in pairs {
            if let Some(value) = map.remove(from) {
                map.insert(to.into(), value);
            }
        }
    }
    value
}

/// The table that the tests' registry serves.
pub static KINDS: std::sync::LazyLock<Vec<KindRef>> = std::sync::LazyLock::new(|| {
    vec![
        KindDef::of::<Map>(),
        KindDef::of::<Task>(),
        KindDef::of::<Work>(),
        KindDef::of::<Review>(),
        KindDef::of::<Old>(),
        KindDef::version_of::<New, Old>(
            |value| rename(value, [("regarding", "involvedObject"), ("note", "message")]),
            |value| rename(value, [("involvedObject", "regarding"), ("message", "note")]),
            &[],
            |_, _| Vec::new(),
        ),
    ]
});
