//! ConfigMap: named pieces of configuration, at most 1 MiB in all.

use k8s_openapi::api::core::v1::ConfigMap;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};

/// Upstream's `MaxSecretSize`, which holds for both.
pub const MAX_SIZE: usize = 1024 * 1024;

kind!(ConfigMap: NAMESPACED { singular: "configmap", short: &["cm"], generation: false }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = check(self);
        if let Some(old) = old.filter(|old| old.immutable == Some(true)) {
            if self.immutable != Some(true) {
                errors.push(FieldError::forbidden("immutable", "field is immutable when `immutable` is set"));
            }
            for (field, changed) in [("data", self.data != old.data), ("binaryData", self.binary_data != old.binary_data)] {
                if changed {
                    errors.push(FieldError::forbidden(field, "field is immutable when `immutable` is set"));
                }
            }
        }
        errors
    }
    columns!(ConfigMap;
        "Data" string: "How many keys there are." =>
            |map, _| print::count(map.data.as_ref().map_or(0, |data| data.len()) + map.binary_data.as_ref().map_or(0, |data| data.len())),
        "Age" string: "Time since creation." => print::age);
);

fn check(map: &ConfigMap) -> Errors {
    let mut errors = Errors::new();
    let mut total = 0;
    for (key, value) in map.data.iter().flatten() {
        rules::syntax(&mut errors, &Path::new("data").key(key), key, names::config_key);
        if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
            errors.push(FieldError::invalid(Path::new("data").key(key), key, "duplicate of key present in binaryData"));
        }
        total += value.len();
    }
    for (key, value) in map.binary_data.iter().flatten() {
        rules::syntax(&mut errors, &Path::new("binaryData").key(key), key, names::config_key);
        total += value.0.len();
    }
    if total > MAX_SIZE {
        errors.push(FieldError::too_long("", MAX_SIZE));
    }
    errors
}
