//! A pod learns its node's zone and region when it is bound to it (kubernetes `plugin/pkg/admission/podtopologylabels`).
//!
//! Upstream writes the labels into the Binding, whose labels then become the pod's; here the binding is already a change of the pod.

use k8s_openapi::api::core::v1::{Node, Pod};

use super::{Check, Operation, Request};
use crate::api::{Key, Status};

const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

pub(super) struct PodTopologyLabels;

impl Check for PodTopologyLabels {
    fn handles(&self, request: &Request<'_>) -> bool {
        let ways = matches!(request.subresource(), "" | "binding") && matches!(request.operation, Operation::Create | Operation::Update);
        ways && bound_to(request.object.as_any().downcast_ref()).is_some() && bound_to(request.old::<Pod>()).is_none()
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let node = bound_to(request.object.as_any().downcast_ref()).unwrap_or_default();
        let key = Key::of::<Node>("", node);
        let Some(entry) = request.snapshot.get(&key) else { return Ok(()) };
        let all = entry.meta().labels.iter().flatten();
        let labels: Vec<_> = all.filter(|(key, _)| LABELS.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
        if !labels.is_empty() {
            request.object.meta_mut().labels.get_or_insert_default().extend(labels);
        }
        Ok(())
    }
}

fn bound_to(pod: Option<&Pod>) -> Option<&str> {
    pod?.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}
