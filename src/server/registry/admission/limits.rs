//! What a LimitRange does to one pod or claim: which requests and limits it fills in, and what it does not let through
//! (kubernetes `plugin/pkg/admission/limitranger`). Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, ResourceRequirements};

use crate::api::amounts::Amounts;
use crate::api::pod::{Column, total};
use crate::api::quantity::Quantity;

/// Where it is written what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Fills in what the containers leave open, and notes it in an annotation.
pub(super) fn fill(range: &LimitRange, pod: &mut Pod) {
    let items = || range.spec.iter().flat_map(|spec| &spec.limits).filter(|item| item.type_ == "Container");
    let mut defaults = ResourceRequirements::default();
    for item in items() {
        let (requests, limits) = (item.default_request.clone(), item.default.clone());
        defaults.requests.get_or_insert_default().extend(requests.into_iter().flatten());
        defaults.limits.get_or_insert_default().extend(limits.into_iter().flatten());
    }
    let Some(spec) = pod.spec.as_mut() else { return };
    let mut notes = Vec::new();
    for container in &mut spec.containers {
        fill_container(container, &defaults, "container", &mut notes);
    }
    for container in spec.init_containers.iter_mut().flatten() {
        fill_container(container, &defaults, "init container", &mut notes);
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.metadata.annotations.get_or_insert_default().insert(ANNOTATION.into(), note);
    }
}

fn fill_container(container: &mut Container, defaults: &ResourceRequirements, what: &str, notes: &mut Vec<String>) {
    let open = |has: Option<&ResourceRequirements>, column: Column| -> Vec<_> {
        let of = |resources: &ResourceRequirements| {
            if column == Column::Requests { resources.requests.clone() } else { resources.limits.clone() }
        };
        let has = has.and_then(of).unwrap_or_default();
        of(defaults).into_iter().flatten().filter(|(name, _)| !has.contains_key(name)).collect()
    };
    for (column, word) in [(Column::Requests, "request"), (Column::Limits, "limit")] {
        let missing = open(container.resources.as_ref(), column);
        if missing.is_empty() {
            continue;
        }
        let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
        notes.push(format!("{} {word} for {what} {}", names.join(", "), container.name));
        let resources = container.resources.get_or_insert_default();
        let list = if column == Column::Requests { &mut resources.requests } else { &mut resources.limits };
        list.get_or_insert_default().extend(missing);
    }
}

/// Everything about a pod that a LimitRange does not let through.
pub(super) fn check_pod(range: &LimitRange, pod: &Pod) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(spec) = &pod.spec else { return wrong };
    for item in range.spec.iter().flat_map(|spec| &spec.limits) {
        match item.type_.as_str() {
            "Container" => {
                for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
                    let list = |of: fn(&ResourceRequirements) -> &Option<_>| {
                        Amounts::of(container.resources.as_ref().and_then(|r| of(r).as_ref()))
                    };
                    check(item, &list(|r| &r.requests), &list(|r| &r.limits), &mut wrong);
                }
            }
            "Pod" => check(item, &total(spec, Column::Requests), &total(spec, Column::Limits), &mut wrong),
            _ => {}
        }
    }
    wrong
}

/// Everything about a claim that a LimitRange does not let through.
pub(super) fn check_claim(range: &LimitRange, claim: &PersistentVolumeClaim) -> Vec<String> {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = Amounts::of(resources.and_then(|resources| resources.requests.as_ref()));
    let mut wrong = Vec::new();
    for item in range.spec.iter().flat_map(|spec| &spec.limits).filter(|item| item.type_ == "PersistentVolumeClaim") {
        let bound = |bounds: &Option<_>| Amounts::of(bounds.as_ref());
        wrong.extend(bound(&item.min).iter().filter_map(|(name, min)| minimum(&item.type_, name, min, requests.get(name), None)));
        for (name, max) in bound(&item.max).iter() {
            let kind = &item.type_;
            match requests.get(name) {
                None => wrong.push(format!("maximum {name} usage per {kind} is {max}.  No request is specified")),
                Some(request) if request > max => {
                    wrong.push(format!("maximum {name} usage per {kind} is {max}, but request is {request}"));
                }
                Some(_) => {}
            }
        }
    }
    wrong
}

/// One sentence for one thing that is wrong, a list for several, as upstream's aggregated errors: each once.
pub(super) fn summary(wrong: Vec<String>) -> Option<String> {
    let mut seen = BTreeSet::new();
    let mut wrong: Vec<String> = wrong.into_iter().filter(|text| seen.insert(text.clone())).collect();
    match wrong.len() {
        0 => None,
        1 => wrong.pop(),
        _ => Some(format!("[{}]", wrong.join(", "))),
    }
}

fn check(item: &LimitRangeItem, requests: &Amounts, limits: &Amounts, wrong: &mut Vec<String>) {
    let (kind, of) = (&item.type_, |bounds: &Option<_>| Amounts::of(bounds.as_ref()));
    wrong.extend(of(&item.min).iter().filter_map(|(name, min)| minimum(kind, name, min, requests.get(name), limits.get(name))));
    wrong.extend(of(&item.max).iter().filter_map(|(name, max)| maximum(kind, name, max, requests.get(name), limits.get(name))));
    let ratios = of(&item.max_limit_request_ratio);
    wrong.extend(ratios.iter().filter_map(|(name, most)| ratio(kind, name, most, requests.get(name), limits.get(name))));
}

fn minimum(kind: &str, name: &str, min: Quantity, request: Option<Quantity>, limit: Option<Quantity>) -> Option<String> {
    let text = format!("minimum {name} usage per {kind} is {min}");
    match (request, limit) {
        (None, _) => Some(format!("{text}.  No request is specified")),
        (Some(request), _) if request < min => Some(format!("{text}, but request is {request}")),
        (_, Some(limit)) if limit < min => Some(format!("{text}, but limit is {limit}")),
        _ => None,
    }
}

fn maximum(kind: &str, name: &str, max: Quantity, request: Option<Quantity>, limit: Option<Quantity>) -> Option<String> {
    let text = format!("maximum {name} usage per {kind} is {max}");
    match (limit, request) {
        (None, _) => Some(format!("{text}.  No limit is specified")),
        (Some(limit), _) if limit > max => Some(format!("{text}, but limit is {limit}")),
        (_, Some(request)) if request > max => Some(format!("{text}, but request is {request}")),
        _ => None,
    }
}

fn ratio(kind: &str, name: &str, most: Quantity, request: Option<Quantity>, limit: Option<Quantity>) -> Option<String> {
    let text = format!("{name} max limit to request ratio per {kind} is {most}");
    let set = |amount: Option<Quantity>| amount.filter(|amount| !amount.is_zero());
    let Some(request) = set(request) else { return Some(format!("{text}, but no request is specified or request is 0")) };
    let Some(limit) = set(limit) else { return Some(format!("{text}, but no limit is specified or limit is 0")) };
    // Thousandths of a ratio, compared as whole numbers: limit / request > most.
    let (limit_milli, request_milli) = (i128::from(limit.milli()), i128::from(request.milli()));
    if limit_milli * 1000 <= i128::from(most.milli()) * request_milli {
        return None;
    }
    // Six places, as upstream prints it.
    let millionths = (limit_milli * 10_000_000 / request_milli + 5) / 10;
    Some(format!("{text}, but provided ratio is {}.{:06}", millionths / 1_000_000, millionths % 1_000_000))
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    fn parse<T: DeserializeOwned>(yaml: &str) -> T {
        serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"))
    }

    fn range(limits: &str) -> LimitRange {
        parse(&format!("{{metadata: {{name: l}}, spec: {{limits: [{limits}]}}}}"))
    }

    #[test]
    fn fills_in() {
        let range = range("{type: Container, default: {cpu: 500m, memory: 1Gi}, defaultRequest: {cpu: 100m}}");
        let mut pod: Pod = parse(
            "{metadata: {name: p}, spec: {containers: [{name: a}, {name: b, resources: {requests: {cpu: 1}, limits: {cpu: 1, memory: 1}}}],
              initContainers: [{name: i, resources: {limits: {memory: 2Gi}}}]}}",
        );
        fill(&range, &mut pod);
        let want: Pod = parse(
            "{metadata: {name: p, annotations: {kubernetes.io/limit-ranger: 'LimitRanger plugin set: cpu request for container a; \
             cpu, memory limit for container a; cpu request for init container i; cpu limit for init container i'}},
              spec: {containers: [{name: a, resources: {requests: {cpu: 100m}, limits: {cpu: 500m, memory: 1Gi}}},
                {name: b, resources: {requests: {cpu: 1}, limits: {cpu: 1, memory: 1}}}],
              initContainers: [{name: i, resources: {requests: {cpu: 100m}, limits: {cpu: 500m, memory: 2Gi}}}]}}",
        );
        assert_eq!(pod, want);
        let before = pod.clone();
        fill(&range, &mut pod);
        assert_eq!(pod, before, "twice is as once");
    }

    #[test]
    fn bounds_of_pods() {
        let one = |resources: &str| format!("{{containers: [{{name: c, resources: {resources}}}]}}");
        let cases = [
            ("{type: Container, min: {cpu: 1}}", one("{}"), "minimum cpu usage per Container is 1.  No request is specified"),
            ("{type: Container, min: {cpu: 1}}", one("{requests: {cpu: 500m}}"), "minimum cpu usage per Container is 1, but request is 500m"),
            ("{type: Container, min: {cpu: 1}}", one("{requests: {cpu: 1}, limits: {cpu: 2}}"), ""),
            ("{type: Container, max: {memory: 1Gi}}", one("{}"), "maximum memory usage per Container is 1Gi.  No limit is specified"),
            ("{type: Container, max: {memory: 1Gi}}", one("{limits: {memory: 2Gi}}"), "maximum memory usage per Container is 1Gi, but limit is 2Gi"),
            (
                "{type: Container, min: {cpu: 1}, max: {cpu: 2}}",
                one("{requests: {cpu: 100m}, limits: {cpu: 3}}"),
                "[minimum cpu usage per Container is 1, but request is 100m, maximum cpu usage per Container is 2, but limit is 3]",
            ),
            (
                "{type: Container, maxLimitRequestRatio: {cpu: 2}}",
                one("{requests: {cpu: 1}, limits: {cpu: 2500m}}"),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 2.500000",
            ),
            ("{type: Container, maxLimitRequestRatio: {cpu: 1500m}}", one("{requests: {cpu: 1}, limits: {cpu: 1500m}}"), ""),
            (
                "{type: Container, maxLimitRequestRatio: {cpu: 2}}",
                one("{limits: {cpu: 1}}"),
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ),
            (
                "{type: Pod, max: {cpu: 2}}",
                "{containers: [{name: a, resources: {limits: {cpu: 1}}}, {name: b, resources: {limits: {cpu: 1500m}}}]}".into(),
                "maximum cpu usage per Pod is 2, but limit is 2500m",
            ),
            (
                "{type: Pod, max: {cpu: 2}}",
                "{resources: {limits: {cpu: 3}}, containers: [{name: a, resources: {limits: {cpu: 1}}}]}".into(),
                "maximum cpu usage per Pod is 2, but limit is 3",
            ),
            (
                "{type: Container, min: {cpu: 1}}",
                "{containers: [{name: a, resources: {requests: {cpu: 1}}}], initContainers: [{name: i, resources: {requests: {cpu: 10m}}}]}".into(),
                "minimum cpu usage per Container is 1, but request is 10m",
            ),
        ];
        for (item, spec, want) in cases {
            let pod: Pod = parse(&format!("{{metadata: {{name: p}}, spec: {spec}}}"));
            assert_eq!(summary(check_pod(&range(item), &pod)).unwrap_or_default(), want, "{item} {spec}");
        }
    }

    #[test]
    fn bounds_of_claims() {
        let range = range("{type: PersistentVolumeClaim, min: {storage: 1Gi}, max: {storage: 5Gi}}");
        let cases = [
            ("500Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"),
            ("5Gi", ""),
            ("6Gi", "maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"),
        ];
        for (size, want) in cases {
            let claim: PersistentVolumeClaim =
                parse(&format!("{{metadata: {{name: c}}, spec: {{resources: {{requests: {{storage: {size}}}}}}}}}"));
            assert_eq!(summary(check_claim(&range, &claim)).unwrap_or_default(), want, "{size}");
        }
    }
}
