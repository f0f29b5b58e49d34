//! Secret: like a ConfigMap, but its values are never shown. `stringData` is write-only and merged into `data`.

use std::collections::HashMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::configmap::MAX_SIZE;
use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// Keys that a type of secret must have.
const REQUIRED_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

kind!(Secret: NAMESPACED { singular: "secret", generation: false }
    const FIELDS: &'static [&'static str] = &["type"];
    fn field(&self, path: &str) -> Option<String> { (path == "type").then(|| self.type_.clone().unwrap_or_default()) }
    fn apply_defaults(&mut self) {
        if rules::str_of(&self.type_).is_empty() {
            self.type_ = Some("Opaque".into());
        }
        if let Some(text) = self.string_data.take().filter(|text| !text.is_empty()) {
            self.data.get_or_insert_default().extend(text.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))));
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = check(self);
        let Some(old) = old else { return errors };
        rules::immutable(&mut errors, &Path::new("type"), &self.type_, &old.type_);
        if old.immutable == Some(true) {
            if self.immutable != Some(true) {
                errors.push(FieldError::forbidden("immutable", "field is immutable when `immutable` is set"));
            }
            if self.data != old.data {
                errors.push(FieldError::forbidden("data", "field is immutable when `immutable` is set"));
            }
        }
        errors
    }
    columns!(Secret;
        "Type" string: "What is in it." => |secret, _| print::opt(&secret.type_),
        "Data" string: "How many keys there are." => |secret, _| print::count(secret.data.as_ref().map_or(0, |data| data.len())),
        "Age" string: "Time since creation." => print::age);
);

fn check(secret: &Secret) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("data");
    let mut total = 0;
    for (key, value) in secret.data.iter().flatten() {
        rules::syntax(&mut errors, &path.key(key), key, names::config_key);
        total += value.0.len();
    }
    if total > MAX_SIZE {
        errors.push(FieldError::too_long(&path, MAX_SIZE));
    }
    let has = |key: &str| secret.data.as_ref().is_some_and(|data| data.contains_key(key));
    let kind = rules::str_of(&secret.type_);
    for (_, keys) in REQUIRED_KEYS.iter().filter(|(name, _)| *name == kind) {
        for key in keys.iter().filter(|key| !has(key)) {
            errors.push(FieldError::required(path.key(key), ""));
        }
    }
    let no_account = secret.metadata.annotations.as_ref().and_then(|all| all.get(ACCOUNT_NAME)).is_none_or(String::is_empty);
    match kind {
        "kubernetes.io/service-account-token" if no_account => {
            errors.push(FieldError::required(Path::new("metadata").at("annotations").key(ACCOUNT_NAME), ""));
        }
        "kubernetes.io/ssh-auth" if secret.data.as_ref().and_then(|data| data.get("ssh-privatekey")).is_none_or(|key| key.0.is_empty()) => {
            errors.push(FieldError::required(path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.push(FieldError::required(path.key("username"), ""));
            errors.push(FieldError::required(path.key("password"), ""));
        }
        "kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson" => {
            let key = if kind.ends_with("json") { ".dockerconfigjson" } else { ".dockercfg" };
            let value = secret.data.as_ref().and_then(|data| data.get(key));
            // The value itself must never be shown.
            if let Some(Err(why)) = value.map(|value| serde_json::from_slice::<HashMap<String, serde::de::IgnoredAny>>(&value.0)) {
                errors.push(FieldError::invalid(path.key(key), "<secret contents redacted>", why));
            }
        }
        _ => {}
    }
    errors
}
