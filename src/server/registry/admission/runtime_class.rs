//! A pod's RuntimeClass says what running it costs beside its containers, and where it can run
//! (kubernetes `plugin/pkg/admission/runtimeclass`).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::{Check, Operation, Request, unreadable};
use crate::api::amounts::Amounts;
use crate::api::{Key, Status};

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const NO_OVERHEAD: &str = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

pub(super) struct RuntimeClasses;

impl Check for RuntimeClasses {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.subresource().is_empty() && request.object.as_any().is::<Pod>()
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let Some(class) = class(request)? else { return Ok(()) };
        let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return Ok(()) };
        set_overhead(spec, &class).and_then(|()| set_scheduling(spec, &class)).map_err(|why| request.forbidden(why))
    }

    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let class = class(request)?;
        let Some(spec) = request.object.as_any().downcast_ref::<Pod>().and_then(|pod| pod.spec.as_ref()) else { return Ok(()) };
        match (class.as_deref().and_then(overhead), &spec.overhead) {
            (Some(fixed), set) if Amounts::of(Some(fixed)) != Amounts::of(set.as_ref()) => Err(request.forbidden(MISMATCH)),
            (None, Some(_)) => Err(request.forbidden(NO_OVERHEAD)),
            _ => Ok(()),
        }
    }
}

/// The pod's class, if it names one.
fn class(request: &Request<'_>) -> Result<Option<Arc<RuntimeClass>>, Status> {
    let spec = request.object.as_any().downcast_ref::<Pod>().and_then(|pod| pod.spec.as_ref());
    let Some(name) = spec.and_then(|spec| spec.runtime_class_name.as_deref()) else { return Ok(None) };
    match request.snapshot.get(&Key::of::<RuntimeClass>("", name)) {
        Some(entry) => entry.typed::<RuntimeClass>().map(Some).map_err(unreadable),
        None => Err(request.forbidden(format_args!("pod rejected: RuntimeClass \"{name}\" not found"))),
    }
}

fn overhead(class: &RuntimeClass) -> Option<&BTreeMap<String, ApiQuantity>> {
    class.overhead.as_ref().map(|overhead| overhead.pod_fixed.as_ref().unwrap_or(&EMPTY))
}

static EMPTY: BTreeMap<String, ApiQuantity> = BTreeMap::new();

fn set_overhead(spec: &mut PodSpec, class: &RuntimeClass) -> Result<(), String> {
    let Some(fixed) = overhead(class) else { return Ok(()) };
    if spec.overhead.as_ref().is_some_and(|set| Amounts::of(Some(set)) != Amounts::of(Some(fixed))) {
        return Err(MISMATCH.into());
    }
    spec.overhead = Some(fixed.clone());
    Ok(())
}

fn set_scheduling(spec: &mut PodSpec, class: &RuntimeClass) -> Result<(), String> {
    let Some(scheduling) = &class.scheduling else { return Ok(()) };
    for (key, wanted) in scheduling.node_selector.iter().flatten() {
        let selector = spec.node_selector.get_or_insert_default();
        if let Some(present) = selector.get(key).filter(|present| *present != wanted) {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {present}"
            ));
        }
        selector.insert(key.clone(), wanted.clone());
    }
    let added = scheduling.tolerations.as_deref().unwrap_or_default();
    if !added.is_empty() {
        spec.tolerations = Some(merge(spec.tolerations.as_deref().unwrap_or_default(), added));
    }
    Ok(())
}

/// Both lists, without what another one covers; of equals, the first (kubernetes `pkg/util/tolerations`).
fn merge(first: &[Toleration], second: &[Toleration]) -> Vec<Toleration> {
    let all: Vec<&Toleration> = first.iter().chain(second).collect();
    let mut merged: Vec<Toleration> = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let covered =
            merged.iter().any(|other| covers(other, one)) || all[index + 1..].iter().any(|other| other != one && covers(other, one));
        if !covered {
            merged.push((*one).clone());
        }
    }
    merged
}

/// Whether `wide` tolerates all that `narrow` does.
fn covers(wide: &Toleration, narrow: &Toleration) -> bool {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let exists = wide.operator.as_deref() == Some("Exists");
    let equal = |one: &Toleration| matches!(one.operator.as_deref(), None | Some("" | "Equal"));
    let key = text(&wide.key) == text(&narrow.key) || (text(&wide.key).is_empty() && exists);
    let effect = text(&wide.effect).is_empty() || text(&wide.effect) == text(&narrow.effect);
    let lasts = wide.effect.as_deref() != Some("NoExecute")
        || wide.toleration_seconds.is_none_or(|wide| narrow.toleration_seconds.is_some_and(|narrow| narrow <= wide));
    let value = exists || (equal(wide) && equal(narrow) && text(&wide.value) == text(&narrow.value));
    wide == narrow || (key && effect && lasts && value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheduling_is_merged() {
        // (spec, class, the spec after, or the refusal)
        let cases = [
            ("{containers: []}", "{handler: h, overhead: {podFixed: {cpu: 1}}}", "{containers: [], overhead: {cpu: 1}}"),
            (
                "{containers: [], overhead: {cpu: 1000m}}",
                "{handler: h, overhead: {podFixed: {cpu: 1}}}",
                "{containers: [], overhead: {cpu: 1}}",
            ),
            ("{containers: [], overhead: {cpu: 2}}", "{handler: h, overhead: {podFixed: {cpu: 1}}}", MISMATCH),
            (
                "{containers: [], nodeSelector: {a: b}}",
                "{handler: h, scheduling: {nodeSelector: {c: d}}}",
                "{containers: [], nodeSelector: {a: b, c: d}}",
            ),
            (
                "{containers: [], nodeSelector: {a: b}}",
                "{handler: h, scheduling: {nodeSelector: {a: d}}}",
                "conflict: runtimeClass.scheduling.nodeSelector[a] = d; pod.spec.nodeSelector[a] = b",
            ),
            (
                "{containers: [], tolerations: [{key: a, operator: Exists}]}",
                "{handler: h, scheduling: {tolerations: [{key: a, operator: Equal, value: v}, {key: b, operator: Exists, effect: NoSchedule}]}}",
                "{containers: [], tolerations: [{key: a, operator: Exists}, {key: b, operator: Exists, effect: NoSchedule}]}",
            ),
            (
                "{containers: [], tolerations: [{key: a, operator: Equal, value: v, effect: NoExecute, tolerationSeconds: 5}]}",
                "{handler: h, scheduling: {tolerations: [{operator: Exists}]}}",
                "{containers: [], tolerations: [{operator: Exists}]}",
            ),
        ];
        for (spec, class, want) in cases {
            let mut parsed: PodSpec = serde_yaml::from_str(spec).expect("a spec");
            let class: RuntimeClass = serde_yaml::from_str(&class.replacen('{', "{metadata: {name: c}, ", 1)).expect("a class");
            match set_overhead(&mut parsed, &class).and_then(|()| set_scheduling(&mut parsed, &class)) {
                Ok(()) => assert_eq!(parsed, serde_yaml::from_str(want).expect("a spec"), "{spec}"),
                Err(why) => assert_eq!(why, want, "{spec}"),
            }
        }
    }
}
