//! The objects that API priority and fairness begins with, as upstream ships them (`apis/flowcontrol/bootstrap/default.go`).
//!
//! Words: a *mandatory* object is always there, with this very spec; a *suggested* one is there, with this spec unless its annotation
//! [`AUTOUPDATE`] says `false`.

use std::sync::LazyLock;

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use serde::Deserialize;

/// Whether a suggested object follows what is shipped.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// Names of the mandatory objects, of both kinds.
pub const MANDATORY: &[&str] = &["exempt", "catch-all"];

/// All of them.
#[derive(Debug, Default)]
pub struct Shipped {
    /// Levels.
    pub levels: Vec<PriorityLevelConfiguration>,
    /// Schemas.
    pub schemas: Vec<FlowSchema>,
}

/// What is shipped.
pub fn shipped() -> &'static Shipped {
    static SHIPPED: LazyLock<Shipped> = LazyLock::new(|| {
        let mut all = Shipped::default();
        for document in serde_yaml::Deserializer::from_str(include_str!("../../manifests/flowcontrol.yaml")) {
            let value = serde_yaml::Value::deserialize(document).expect("the shipped manifest is YAML");
            // Each of the two refuses the other's `kind`.
            if let Ok(level) = serde_yaml::from_value(value.clone()) {
                all.levels.push(level);
            } else {
                all.schemas.push(serde_yaml::from_value(value).expect("what is no level is a schema"));
            }
        }
        all
    });
    &SHIPPED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_whole() {
        let all = shipped();
        assert_eq!((all.levels.len(), all.schemas.len()), (8, 13));
        for schema in &all.schemas {
            let level = &schema.spec.priority_level_configuration.name;
            assert!(all.levels.iter().any(|l| l.metadata.name.as_ref() == Some(level)), "{level}");
        }
        for name in MANDATORY {
            assert!(all.schemas.iter().any(|s| s.metadata.name.as_deref() == Some(name)), "{name}");
        }
    }
}
