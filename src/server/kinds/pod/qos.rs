//! A pod's quality of service class: `pkg/apis/core/v1/helper/qos`.

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

use crate::api::quantity::Quantity;

/// `Guaranteed`, `Burstable` or `BestEffort`, by the requests and limits of CPU and memory.
pub fn class(spec: &PodSpec) -> &'static str {
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    // Requests and limits of the pod as a whole take the place of its containers'.
    let sets: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        Some(resources) if resources.requests.is_some() || resources.limits.is_some() => vec![Some(resources)],
        _ => containers().map(|container| container.resources.as_ref()).collect(),
    };
    let mut any = false;
    let mut guaranteed = !sets.is_empty();
    for set in sets {
        for name in ["cpu", "memory"] {
            let request =
                set.and_then(|set| positive(set.requests.as_ref().and_then(|list| list.get(name)).map(|amount| amount.0.as_str())));
            let limit = set.and_then(|set| positive(set.limits.as_ref().and_then(|list| list.get(name)).map(|amount| amount.0.as_str())));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// A quantity above zero; malformed ones are validation's concern.
fn positive(text: Option<&str>) -> Option<Quantity> {
    let zero = Quantity::parse("0").ok()?;
    Quantity::parse(text?).ok().filter(|amount| *amount > zero)
}
