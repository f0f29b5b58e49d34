//! `/scale`: the replicas of any scalable kind as an autoscaling/v1 Scale.

use std::sync::Arc;

use serde_json::{Value, json};

use super::strategy::Subresource;
use super::update::{Mode, Proposal};
use super::{KindDef, Registry, WriteOptions};
use crate::api::{FieldError, Object, Status};
use crate::server::store::Entry;

/// How often a lost race is decided again.
const ATTEMPTS: usize = 16;

impl Registry {
    /// GET of `/scale`, as an autoscaling/v1 Scale.
    pub async fn get_scale(&self, kind: &KindDef, namespace: &str, name: &str) -> Result<Value, Status> {
        let entry = self.get(kind, namespace, name).await?;
        scale_of(kind, kind.object(&entry)?.as_ref())
    }

    /// PUT or PATCH of `/scale`: `edit` maps the old Scale to the new one.
    pub async fn edit_scale(
        &self,
        kind: &KindDef,
        namespace: &str,
        name: &str,
        edit: &(dyn Fn(Value) -> Result<Value, Status> + Sync),
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let propose = |current: &Arc<Entry>, old: &dyn Object| {
            let wanted = edit(scale_of(kind, old)?)?;
            let replicas = check(kind, &wanted, current)?;
            let mut object = old.clone_object();
            kind.set_scale(object.as_mut(), replicas);
            let given = wanted.pointer("/metadata/resourceVersion").and_then(Value::as_str);
            object.meta_mut().resource_version = given.map(str::to_owned);
            Ok(Proposal { object, warnings: Vec::new() })
        };
        // The revision that `edit` was shown is that of the current state, so it is no precondition unless the client changed it.
        let written = self.rewrite(kind, (namespace, name), Mode::Main, options, ATTEMPTS, &propose).await?;
        scale_of(kind, kind.object(&written.entry)?.as_ref())
    }
}

fn scale_of(kind: &KindDef, object: &dyn Object) -> Result<Value, Status> {
    let scale = kind.scale(object).filter(|_| kind.info.subresources.contains(&Subresource::Scale)).ok_or_else(Status::no_such_path)?;
    let meta = object.meta();
    let mut value = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta.name, "namespace": meta.namespace, "uid": meta.uid,
            "resourceVersion": meta.resource_version, "creationTimestamp": meta.creation_timestamp,
        },
        "spec": {},
        "status": {"replicas": scale.observed},
    });
    // Zero and empty values are left out as upstream's encoder does.
    if scale.replicas != 0 {
        value["spec"]["replicas"] = scale.replicas.into();
    }
    if !scale.selector.is_empty() {
        value["status"]["selector"] = scale.selector.into();
    }
    Ok(value)
}

/// The replicas that a Scale asks for.
fn check(kind: &KindDef, scale: &Value, current: &Entry) -> Result<i32, Status> {
    let name = current.key.name();
    if let Some(given) = scale.pointer("/metadata/name").and_then(Value::as_str)
        && given != name
    {
        return Err(Status::bad_request(format!("the name of the object ({given}) does not match the name on the URL ({name})")));
    }
    if let Some(given) = scale.pointer("/metadata/uid").and_then(Value::as_str)
        && current.meta.uid.as_deref().is_some_and(|uid| uid != given)
    {
        let uid = current.meta.uid.as_deref().unwrap_or_default();
        let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
        return Err(Status::conflict(kind.group(), kind.resource(), name, why));
    }
    let replicas = match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => 0,
        Some(value) => value.as_i64().and_then(|number| i32::try_from(number).ok()).ok_or_else(|| {
            Status::bad_request(format!(
                "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal {value} into field spec.replicas of type int32"
            ))
        })?,
    };
    if replicas < 0 {
        let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", name, vec![error]));
    }
    Ok(replicas)
}
