//! The types of `metrics.k8s.io/v1beta1`, as OpenAPI documents show them: no Rust type of the client crates stands for them.
//!
//! Follows `k8s.io/metrics/pkg/apis/metrics/v1beta1/types.go`. Never: an answer; those are written by [`super`].

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::RESOURCES;
use crate::api::usage::{GROUP, VERSION};
use crate::server::http::openapi::{KindDoc, SchemaOf};

const ABOUT: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// What the documents say about the kinds of this group.
pub(in crate::server::http) fn kinds() -> impl Iterator<Item = KindDoc> {
    RESOURCES.iter().map(|(resource, kind, namespaced)| {
        let schema: SchemaOf = match namespaced {
            true => Arc::new(|generator: &mut SchemaGenerator| generator.subschema_for::<PodMetrics>()),
            false => Arc::new(|generator: &mut SchemaGenerator| generator.subschema_for::<NodeMetrics>()),
        };
        KindDoc {
            group: GROUP.into(),
            version: VERSION.into(),
            kind: (*kind).into(),
            list_kind: format!("{kind}List").into(),
            resource: (*resource).into(),
            namespaced: *namespaced,
            virtual_only: false,
            computed: true,
            subresources: Vec::new(),
            schema,
        }
    })
}

/// Declares types that exist for their schemas only, under upstream's names.
macro_rules! types {
    ($($name:ident = $package:literal $schema:expr;)*) => {
        $(
            struct $name;
            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    concat!($package, ".", stringify!($name)).into()
                }
                fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                    let schema: fn(&mut SchemaGenerator) -> Schema = $schema;
                    schema(generator)
                }
            }
        )*
    };
}

types! {
    Duration = "io.k8s.apimachinery.pkg.apis.meta.v1" |_| json_schema!({
        "type": "string",
        "description": "A length of time, written as Go writes it, such as 1m30s.",
    });
    ContainerMetrics = "io.k8s.metrics.pkg.apis.metrics.v1beta1" |generator| {
        let usage = usage(generator);
        json_schema!({
            "type": "object",
            "description": "ContainerMetrics says how much one container uses.",
            "required": ["name", "usage"],
            "properties": {
                "name": {"type": "string", "default": "", "description": "The container's name in the pod's spec."},
                "usage": usage,
            },
        })
    };
    NodeMetrics = "io.k8s.metrics.pkg.apis.metrics.v1beta1" |generator| {
        let usage = usage(generator);
        measured("NodeMetrics says how much a node uses.", "usage", &usage, generator)
    };
    PodMetrics = "io.k8s.metrics.pkg.apis.metrics.v1beta1" |generator| {
        let item = generator.subschema_for::<ContainerMetrics>().to_value();
        let containers = json!({
            "type": "array",
            "description": "All containers, measured within the same window.",
            "items": {"allOf": [item], "default": {}},
        });
        measured("PodMetrics says how much a pod uses.", "containers", &containers, generator)
    };
}

fn usage(generator: &mut SchemaGenerator) -> Value {
    let amount = generator.subschema_for::<Quantity>().to_value();
    json!({"type": "object", "description": "Amounts by resource; that of memory is the working set.", "additionalProperties": amount})
}

/// What both kinds have, and the field that differs.
fn measured(description: &str, field: &str, of: &Value, generator: &mut SchemaGenerator) -> Schema {
    let metadata = generator.subschema_for::<ObjectMeta>().to_value();
    let time = generator.subschema_for::<Time>().to_value();
    let window = generator.subschema_for::<Duration>().to_value();
    json_schema!({
        "type": "object",
        "description": description,
        "required": ["timestamp", "window", field],
        "properties": {
            "apiVersion": {"type": "string", "description": format!("Group and version of this form of the object. More info: {ABOUT}#resources")},
            "kind": {"type": "string", "description": format!("The object's kind, in CamelCase. More info: {ABOUT}#types-kinds")},
            "metadata": {"allOf": [metadata], "default": {}, "description": format!("Standard object's metadata. More info: {ABOUT}#metadata")},
            "timestamp": {"allOf": [time], "description": "When the interval ends that the amounts are of: [timestamp-window, timestamp]."},
            "window": {"allOf": [window], "description": "How long that interval is."},
            field: of,
        },
    })
}
