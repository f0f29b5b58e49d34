//! Rules of `metadata`: what the server fills in, what clients may not change, what is valid.
//!
//! Follows apimachinery `pkg/api/validation/objectmeta.go` and apiserver `pkg/registry/rest/{create,update,meta}.go`. Pure but for
//! the random suffix of generated names.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};

use super::KindDef;
use crate::api::apply::managed::{Source, read};
use crate::api::{FieldError, Status};

/// The finalizer that makes dependents go first.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer that lets dependents stay.
pub(super) const ORPHAN: &str = "orphan";

const MAX_GENERATED_BASE: usize = 58;
const MAX_ANNOTATIONS: usize = 256 * 1024;
const IMMUTABLE: &str = "field is immutable";
/// Upstream's alphabet of generated names: no vowels (no words), no characters that look alike.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five random characters, as upstream's name generator (apimachinery `util/rand`).
pub(super) fn random_suffix() -> String {
    let random = uuid::Uuid::new_v4();
    random.as_bytes()[..5].iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

/// A name from `generateName`.
pub(super) fn generate_name(base: &str) -> String {
    let mut end = base.len().min(MAX_GENERATED_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], random_suffix())
}

/// Makes the object's namespace that of the URL, or refuses.
pub(super) fn settle_namespace(kind: &KindDef, meta: &mut ObjectMeta, namespace: &str) -> Result<(), Status> {
    if !kind.info.namespaced {
        meta.namespace = None;
        return Ok(());
    }
    match meta.namespace.as_deref() {
        None | Some("") => meta.namespace = Some(namespace.into()),
        Some(given) if given == namespace => {}
        Some(_) => {
            return Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
        }
    }
    if namespace.is_empty() { Err(Status::bad_request("an empty namespace may not be set during creation")) } else { Ok(()) }
}

/// Checks the body's name against the URL's.
pub(super) fn settle_name(meta: &ObjectMeta, name: &str) -> Result<(), Status> {
    match meta.name.as_deref() {
        Some(given) if given == name => Ok(()),
        None | Some("") => Err(Status::bad_request(format!(
            "the name of the object (based on the URL: {name}) was not given in the object's metadata.name"
        ))),
        Some(given) => Err(Status::bad_request(format!("the name of the object ({given}) does not match the name on the URL ({name})"))),
    }
}

/// What the server decides about a new object.
pub(super) fn fill_new(kind: &KindDef, meta: &mut ObjectMeta, now: &Time) -> Result<(), Status> {
    if meta.resource_version.as_deref().is_some_and(|version| !version.is_empty()) {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    meta.resource_version = None;
    meta.uid = Some(uuid::Uuid::new_v4().to_string());
    meta.creation_timestamp = Some(now.clone());
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.self_link = None;
    meta.generation = kind.info.generation.then_some(1);
    Ok(())
}

/// What the server keeps over an update, whatever the client sends.
pub(super) fn keep_old(meta: &mut ObjectMeta, old: &ObjectMeta) {
    meta.generation = old.generation;
    meta.creation_timestamp = old.creation_timestamp.clone();
    meta.deletion_timestamp = old.deletion_timestamp.clone();
    meta.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    meta.generate_name = meta.generate_name.take().or_else(|| old.generate_name.clone());
    meta.self_link = None;
    if meta.uid.as_deref().is_none_or(str::is_empty) {
        meta.uid = old.uid.clone();
    }
}

/// Puts `managedFields` back as they were before admission if that made nonsense of them, and says so (apiserver
/// `pkg/endpoints/handlers/fieldmanager/admission.go`).
pub(super) fn check_managed(meta: &mut ObjectMeta, before: Option<Vec<ManagedFieldsEntry>>, warnings: &mut Vec<String>) {
    if meta.managed_fields == before {
        return;
    }
    if let Some(Err(why)) = meta.managed_fields.clone().map(|after| read(after, Source::Client)) {
        meta.managed_fields = before;
        warnings.push(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission \
             controller; please fix your requests: {why}"
        ));
    }
}

/// Every violated rule of an object's metadata.
pub(super) fn validate(kind: &KindDef, meta: &ObjectMeta) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(base) = meta.generate_name.as_deref().filter(|base| !base.is_empty()) {
        // The suffix will follow, so a trailing dash is legal here.
        let masked = base.strip_suffix('-').map_or_else(|| base.to_owned(), |stem| format!("{stem}a"));
        if let Err(why) = kind.validate_name(&masked) {
            errors.push(FieldError::invalid("metadata.generateName", base, why));
        }
    }
    match meta.name.as_deref() {
        None | Some("") => errors.push(FieldError::required("metadata.name", "name or generateName is required")),
        Some(name) => {
            if let Err(why) = kind.validate_name(name) {
                errors.push(FieldError::invalid("metadata.name", name, why));
            } else if name.contains('/') || matches!(name, "." | "..") {
                errors.push(FieldError::invalid("metadata.name", name, "may not be '.' or '..' or contain '/'"));
            }
        }
    }
    if meta.generation.is_some_and(|generation| generation < 0) {
        errors.push(FieldError::invalid("metadata.generation", meta.generation, "must be greater than or equal to 0"));
    }
    labels(meta.labels.as_ref(), "metadata.labels", &mut errors);
    annotations(meta.annotations.as_ref(), &mut errors);
    owners(meta.owner_references.as_deref().unwrap_or_default(), &mut errors);
    finalizers(meta.finalizers.as_deref().unwrap_or_default(), kind.info.plain_finalizers, &mut errors);
    errors
}

/// Every violated rule of a change of metadata.
pub(super) fn validate_update(meta: &ObjectMeta, old: &ObjectMeta) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let pairs = [
        ("metadata.name", &meta.name, &old.name),
        ("metadata.namespace", &meta.namespace, &old.namespace),
        ("metadata.uid", &meta.uid, &old.uid),
    ];
    for (field, new, old) in pairs {
        if new.as_deref().unwrap_or_default() != old.as_deref().unwrap_or_default() {
            errors.push(FieldError::invalid(field, new, IMMUTABLE));
        }
    }
    if old.deletion_timestamp.is_some() {
        let had = old.finalizers.as_deref().unwrap_or_default();
        let added: Vec<_> = meta.finalizers.iter().flatten().filter(|finalizer| !had.contains(finalizer)).collect();
        if !added.is_empty() {
            let list = added.iter().map(|finalizer| format!("\"{finalizer}\"")).collect::<Vec<_>>().join(", ");
            let why = format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}");
            errors.push(FieldError::forbidden("metadata.finalizers", why));
        }
    }
    errors
}

fn labels(labels: Option<&BTreeMap<String, String>>, field: &str, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.into_iter().flatten() {
        if let Err(why) = qualified_name(key) {
            errors.push(FieldError::invalid(field, key, why));
        }
        if value.len() > 63 {
            errors.push(FieldError::invalid(field, value, "must be no more than 63 bytes"));
        }
        if !value.is_empty() && !word(value) {
            errors.push(FieldError::invalid(
                field,
                value,
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                 with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
                 '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ));
        }
    }
}

fn annotations(annotations: Option<&BTreeMap<String, String>>, errors: &mut Vec<FieldError>) {
    let mut total = 0;
    for (key, value) in annotations.into_iter().flatten() {
        // Upstream forgives upper case in annotation keys.
        if let Err(why) = qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", key, why));
        }
        total += key.len() + value.len();
    }
    if total > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long("metadata.annotations", MAX_ANNOTATIONS));
    }
}

fn owners(owners: &[OwnerReference], errors: &mut Vec<FieldError>) {
    let mut controller: Option<&OwnerReference> = None;
    for owner in owners {
        let field = "metadata.ownerReferences";
        let version = owner.api_version.rsplit('/').next().unwrap_or_default();
        let parts = [
            ("apiVersion", version, "version must not be empty"),
            ("kind", &owner.kind, "must not be empty"),
            ("name", &owner.name, "must not be empty"),
            ("uid", &owner.uid, "must not be empty"),
        ];
        for (part, value, why) in parts {
            if value.is_empty() {
                errors.push(FieldError::invalid(format!("{field}.{part}"), value, why));
            }
        }
        if owner.api_version == "v1" && owner.kind == "Event" {
            errors.push(FieldError::invalid(field, owner, "v1, Kind=Event is disallowed from being an owner"));
        }
        if owner.controller == Some(true) {
            if let Some(first) = controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
                    first.kind, first.name, owner.kind, owner.name
                );
                errors.push(FieldError::invalid(field, owners, why));
            }
            controller = Some(owner);
        }
    }
}

/// `plain`: names without a domain are legal, as upstream has it for definitions and custom kinds.
fn finalizers(finalizers: &[String], plain: bool, errors: &mut Vec<FieldError>) {
    let field = "metadata.finalizers";
    for finalizer in finalizers {
        if let Err(why) = qualified_name(finalizer) {
            errors.push(FieldError::invalid(field, finalizer, why));
        } else if !plain && !finalizer.contains('/') && ![ORPHAN, FOREGROUND, "kubernetes"].contains(&finalizer.as_str()) {
            errors.push(FieldError::invalid(field, finalizer, "name is neither a standard finalizer name nor is it fully qualified"));
        }
    }
    if [ORPHAN, FOREGROUND].iter().all(|one| finalizers.iter().any(|finalizer| finalizer == one)) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(field, finalizers, why));
    }
}

/// `[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?`.
fn word(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// `PREFIX/NAME` or `NAME`, as upstream's `IsQualifiedName`.
fn qualified_name(text: &str) -> Result<(), String> {
    let name = match text.split_once('/') {
        Some(("", _)) => return Err("prefix part must be non-empty".into()),
        Some((prefix, name)) => {
            crate::api::names::subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
            name
        }
        None => text,
    };
    let part = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
                (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    match name {
        "" => Err("name part must be non-empty".into()),
        long if long.len() > 63 => Err("name part must be no more than 63 bytes".into()),
        name if word(name) => Ok(()),
        _ => Err(part.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_upstreams() {
        let name = generate_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-") && name[4..].bytes().all(|b| ALPHABET.contains(&b)), "{name}");
        assert_eq!(generate_name(&"a".repeat(80)).len(), 63);
        assert_ne!(generate_name("a"), generate_name("a"));
    }

    #[test]
    fn qualified_names() {
        for good in ["a", "a.b/c", "app.kubernetes.io/name", "A_b.C"] {
            assert_eq!(qualified_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "/a", "a/", "a/b/c", "a b"] {
            assert!(qualified_name(bad).is_err(), "{bad}");
        }
    }

    /// The fields at fault after `old` becomes `new`.
    fn check_update(old: &str, new: &str, fields: &[&str]) {
        let parse = |text: &str| serde_yaml::from_str::<ObjectMeta>(text).expect("test metadata");
        let errors = validate_update(&parse(new), &parse(old));
        assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), fields, "{errors:?}");
    }

    #[test]
    fn immutable_metadata() {
        check_update("{name: a, uid: u}", "{name: a, uid: u, labels: {x: y}}", &[]);
        check_update("{name: a, uid: u}", "{name: b, uid: v}", &["metadata.name", "metadata.uid"]);
        check_update("{name: a, finalizers: [x/y]}", "{name: a, finalizers: [x/y, x/z]}", &[]);
        let deleted = "{name: a, deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: [x/y]}";
        check_update(deleted, "{name: a, finalizers: [x/y, x/z]}", &["metadata.finalizers"]);
        check_update(deleted, "{name: a}", &[]);
    }

    #[test]
    fn owners_and_finalizers() {
        let check = |text: &str, count: usize| {
            let meta: ObjectMeta = serde_yaml::from_str(text).expect("test metadata");
            let mut errors = Vec::new();
            owners(meta.owner_references.as_deref().unwrap_or_default(), &mut errors);
            finalizers(meta.finalizers.as_deref().unwrap_or_default(), false, &mut errors);
            labels(meta.labels.as_ref(), "metadata.labels", &mut errors);
            annotations(meta.annotations.as_ref(), &mut errors);
            assert_eq!(errors.len(), count, "{text}: {errors:?}");
        };
        check("{ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: a, uid: u, controller: true}]}", 0);
        let two = "{apiVersion: v1, kind: K, name: a, uid: u, controller: true}";
        check(&format!("{{ownerReferences: [{two}, {two}]}}"), 1);
        check("{ownerReferences: [{apiVersion: '', kind: '', name: '', uid: ''}]}", 4);
        check("{finalizers: [orphan, foregroundDeletion]}", 1);
        check("{finalizers: [x/y, kubernetes]}", 0);
        check("{finalizers: [nonsense]}", 1);
        check("{labels: {a: b, 'x y': z, c: '-'}}", 2);
        check("{annotations: {'UPPER.example.com/Key': anything at all}}", 0);
    }
}
