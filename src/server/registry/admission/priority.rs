//! Resolves `priorityClassName` into `priority` and `preemptionPolicy`, and keeps the default class unique
//! (kubernetes `plugin/pkg/admission/priority`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::{Check, Operation, Request, unreadable};
use crate::api::{Key, Scope, Status};

/// Known even where their objects are missing, so that system pods never wait for them.
const SYSTEM: [(&str, i32); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const PREEMPT: &str = "PreemptLowerPriority";

pub(super) struct Priority;

/// What a class means for a pod.
struct Resolved {
    class: String,
    value: i32,
    preemption: String,
}

impl Check for Priority {
    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        match request.operation {
            Operation::Create => resolve(request),
            _ => keep(request),
        }
    }

    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        if request.object.as_any().is::<PriorityClass>() { one_default(request) } else { Ok(()) }
    }
}

fn resolve(request: &mut Request<'_>) -> Result<(), Status> {
    let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_ref()) else { return Ok(()) };
    let class = spec.priority_class_name.clone().unwrap_or_default();
    let (priority, preemption) = (spec.priority, spec.preemption_policy.clone());
    let resolved = lookup(request, &class)?;
    let computed = "priority admission controller computed";
    if let Some(given) = priority.filter(|given| *given != resolved.value) {
        let why = format_args!(
            "the integer value of priority ({given}) must not be provided in pod spec; {computed} {} from the given PriorityClass name",
            resolved.value
        );
        return Err(request.forbidden(why));
    }
    if let Some(given) = preemption.filter(|given| !given.is_empty() && *given != resolved.preemption) {
        let why = format_args!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; {computed} {} from the given PriorityClass name",
            resolved.preemption
        );
        return Err(request.forbidden(why));
    }
    let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return Ok(()) };
    spec.priority = Some(resolved.value);
    spec.preemption_policy = Some(resolved.preemption);
    if !resolved.class.is_empty() {
        spec.priority_class_name = Some(resolved.class);
    }
    Ok(())
}

fn lookup(request: &Request<'_>, class: &str) -> Result<Resolved, Status> {
    let none = || Resolved { class: String::new(), value: 0, preemption: PREEMPT.into() };
    let of = |class: &PriorityClass| Resolved {
        class: class.metadata.name.clone().unwrap_or_default(),
        value: class.value.unwrap_or_default(),
        preemption: class.preemption_policy.clone().unwrap_or_else(|| PREEMPT.into()),
    };
    if class.is_empty() {
        return Ok(default_class(request)?.map_or_else(none, |class| of(&class)));
    }
    let entry = (!class.contains('/')).then(|| request.snapshot.get(&Key::of::<PriorityClass>("", class))).flatten();
    if let Some(entry) = entry {
        return Ok(of(&*entry.typed::<PriorityClass>().map_err(unreadable)?));
    }
    match SYSTEM.iter().find(|(name, _)| *name == class) {
        Some((name, value)) => Ok(Resolved { class: (*name).into(), value: *value, preemption: PREEMPT.into() }),
        None => Err(request.forbidden(format_args!("no PriorityClass with name {class} was found"))),
    }
}

/// The class of pods that name none; the least of them, should there be several.
fn default_class(request: &Request<'_>) -> Result<Option<Arc<PriorityClass>>, Status> {
    let mut default: Option<Arc<PriorityClass>> = None;
    for entry in request.snapshot.range(&Scope::of::<PriorityClass>()) {
        let class = entry.typed::<PriorityClass>().map_err(unreadable)?;
        if class.global_default == Some(true) && default.as_ref().is_none_or(|least| least.value > class.value) {
            default = Some(class);
        }
    }
    Ok(default)
}

/// An update that leaves the computed values out does not mean to change them.
fn keep(request: &mut Request<'_>) -> Result<(), Status> {
    let Some(old) = request.old::<Pod>().and_then(|pod| pod.spec.as_ref()) else { return Ok(()) };
    let (priority, preemption) = (old.priority, old.preemption_policy.clone());
    if let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) {
        spec.priority = spec.priority.or(priority);
        spec.preemption_policy = spec.preemption_policy.take().or(preemption);
    }
    Ok(())
}

fn one_default(request: &mut Request<'_>) -> Result<(), Status> {
    let name = request.name();
    let wants = request.object::<PriorityClass>().is_some_and(|class| class.global_default == Some(true));
    let other = if wants { default_class(request)? } else { None };
    match other.and_then(|class| class.metadata.name.clone()).filter(|other| *other != name) {
        Some(other) => {
            Err(request.forbidden(format_args!("PriorityClass {other} is already marked as default. Only one default can exist")))
        }
        None => Ok(()),
    }
}
