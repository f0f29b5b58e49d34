//! `/scale`: the replicas of any scalable kind as an autoscaling/v1 Scale.

use std::sync::LazyLock;

use k8s_openapi::api::autoscaling::v1::Scale;
use serde_json::{Value, json};

use super::admission::{Asked, Findings, Phase};
use super::ownership::Entries;
use super::strategy::Subresource;
use super::update::{Current, Managed, Mode, Proposal, Propose};
use super::{KindDef, Registry, WriteOptions, Written, now};
use crate::api::apply::managed::{Claims, Source, read, write};
use crate::api::apply::manager::{self, Applied, Live, Writer};
use crate::api::apply::{Filter, Schema, Versions, compile, scale as claims};
use crate::api::{FieldError, Object, Status, schema};
use crate::server::store::Entry;

/// How often a lost race is decided again.
const ATTEMPTS: usize = 16;

/// A change of a Scale.
#[derive(Clone, Copy)]
pub enum ScaleChange<'a> {
    /// From the old Scale to the new one (PUT, and patches).
    Edit(&'a (dyn Fn(Value) -> Result<Value, Status> + Sync)),
    /// Server-side apply.
    Apply {
        /// The applied configuration.
        config: &'a Value,
        /// Take over fields that others own.
        force: bool,
    },
}

impl Registry {
    /// GET of `/scale`, as an autoscaling/v1 Scale.
    pub async fn get_scale(&self, kind: &KindDef, namespace: &str, name: &str) -> Result<Value, Status> {
        let entry = self.get(kind, namespace, name).await?;
        scale_of(kind, kind.object(&entry)?.as_ref())
    }

    /// PUT or PATCH of `/scale`.
    pub async fn edit_scale(
        &self,
        kind: &KindDef,
        namespace: &str,
        name: &str,
        change: ScaleChange<'_>,
        options: &WriteOptions,
    ) -> Result<(Value, Written), Status> {
        let path = kind.replicas_path();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let versions: Vec<String> = self.versions_of(kind).iter().map(|kind| kind.api_version()).collect();
        let paths = |version: &str| versions.iter().any(|known| known == version).then_some(path.as_slice());
        let propose = |current: &Current<'_>| {
            let scale = scale_of(kind, current.object)?;
            let (wanted, managed) = changed(kind, current.entry, scale, change, options, &paths)?;
            let replicas = check(kind, &wanted, current.entry)?;
            let mut object = current.object.clone_object();
            kind.set_scale(object.as_mut(), replicas);
            let given = wanted.pointer("/metadata/resourceVersion").and_then(Value::as_str);
            object.meta_mut().resource_version = given.map(str::to_owned);
            Ok(Proposal { object, warnings: Vec::new(), managed: Managed::Decided(managed) })
        };
        // The revision that `edit` was shown is that of the current state, so it is no precondition unless the client changed it.
        let written = self.rewrite(kind, (namespace, name), Mode::Scale, options, ATTEMPTS, Propose::Change(&propose)).await?;
        Ok((scale_of(kind, kind.object(&written.entry)?.as_ref())?, written))
    }

    /// Admission of a write by `/scale`: the Scale is what is admitted, as upstream has it, not the object behind it.
    pub(super) async fn admit_scale(
        &self,
        phase: Phase,
        asked: Asked<'_>,
        object: &mut Box<dyn Object>,
        findings: &mut Findings,
    ) -> Result<(), Status> {
        let seen = |object: &dyn Object| -> Result<Scale, Status> {
            serde_json::from_value(scale_of(asked.kind, object)?).map_err(Status::internal)
        };
        let old = asked.old.map(seen).transpose()?;
        let mut scale: Box<dyn Object> = Box::new(seen(&**object)?);
        let asked = Asked { old: old.as_ref().map(|old| old as &dyn Object), ..asked };
        self.admit(phase, asked, &mut scale, findings).await?;
        let wanted = scale.as_any().downcast_ref::<Scale>().and_then(|scale| scale.spec.as_ref()?.replicas).unwrap_or(0);
        if phase == Phase::Mutate && asked.kind.scale(&**object).is_some_and(|present| present.replicas != wanted) {
            asked.kind.set_scale(object.as_mut(), wanted);
        }
        Ok(())
    }
}

static SCALE: LazyLock<ScaleSchema> = LazyLock::new(|| ScaleSchema {
    schema: compile::built_in(|generator| generator.subschema_for::<Scale>()),
    zero: schema::zero("io.k8s.api.autoscaling.v1.Scale"),
});

/// A Scale has one version, and all of it may be owned.
struct ScaleSchema {
    schema: Schema,
    zero: Value,
}

impl Versions for ScaleSchema {
    fn schema(&self, version: &str) -> Option<&Schema> {
        (version == claims::VERSION).then_some(&self.schema)
    }
    fn convert(&self, _: &Value, from: &str, to: &str) -> Result<Value, String> {
        Err(format!("a Scale is not converted from {from} to {to}"))
    }
    fn filter(&self, _: &str) -> Filter {
        Filter::Except(&[])
    }
}

/// The Scale as the change leaves it, and who owns what of the object then.
fn changed(
    kind: &KindDef,
    current: &Entry,
    scale: Value,
    change: ScaleChange<'_>,
    options: &WriteOptions,
    paths: claims::Paths<'_>,
) -> Result<(Value, Entries), Status> {
    let parent: Claims = read(current.managed_fields().unwrap_or_default(), Source::Stored).unwrap_or_default();
    let entries = write(claims::to_scale(&parent, paths));
    let now = now();
    let writer = Writer { manager: &options.field_manager, version: claims::VERSION, subresource: "scale", now: &now };
    let (wanted, after) = match change {
        ScaleChange::Edit(edit) => {
            let wanted = edit(scale.clone())?;
            let filled = |mut value: Value| {
                schema::fill(&mut value, &SCALE.zero);
                value
            };
            let (live, new) = (filled(scale), filled(wanted.clone()));
            let live = Live { value: &live, entries, is_new: false };
            let after = manager::update(live, &new, None, writer, &*SCALE).unwrap_or_else(|why| {
                tracing::warn!("the scale of {current:?} is written without managed fields: {why}");
                None
            });
            (wanted, after)
        }
        ScaleChange::Apply { config, force } => {
            let live = Live { value: &scale, entries, is_new: false };
            let applied = Applied { config, kind: "Scale", force, zero: &SCALE.zero };
            manager::apply(live, applied, writer, &*SCALE)?
        }
    };
    let after = read(after.unwrap_or_default(), Source::Stored).unwrap_or_default();
    Ok((wanted, write(claims::to_parent(parent, after, &kind.api_version(), paths))))
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
        && current.meta().uid.as_deref().is_some_and(|uid| uid != given)
    {
        let uid = current.meta().uid.as_deref().unwrap_or_default();
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
