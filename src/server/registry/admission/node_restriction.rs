//! What a node may write: itself, and the pods that are bound to it (kubernetes `plugin/pkg/admission/noderestriction`).
//!
//! The node authorizer has already said which kinds and names; this check looks into the objects.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMapProjection, Container, Node, PersistentVolumeClaim, Pod, PodSpec, Volume, VolumeProjection};
use k8s_openapi::api::resource::v1::ResourceSlice;

use super::{Check, Operation, Request};
use crate::api::csr::Csr;
use crate::api::{Key, Status};

const LEASES: &str = "kube-node-lease";
const MIRROR: &str = "kubernetes.io/config.mirror";
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Labels of Kubernetes' own that a node may give itself.
const OWN_LABELS: [&str; 13] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// Domains below which all labels are the node's.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

pub(super) struct NodeRestriction;

impl Check for NodeRestriction {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.user().node().is_some()
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let Some(node) = request.user().node().map(str::to_owned) else { return Ok(()) };
        let judged = match (request.kind.group(), request.kind.resource()) {
            ("", "pods") => pod(request, &node),
            ("", "nodes") => itself(request, &node),
            ("", "persistentvolumeclaims") => claim(request, &node),
            ("coordination.k8s.io", "leases") => lease(request, &node),
            ("storage.k8s.io", "csinodes") if request.name() != node => {
                Err("can only access CSINode with the same name as the requesting node".into())
            }
            ("resource.k8s.io", "resourceslices") => slice(request, &node),
            ("certificates.k8s.io", "certificatesigningrequests") => signing(request, &node),
            _ => Ok(()),
        };
        judged.map_err(|why: String| request.forbidden(why))
    }
}

fn pod(request: &Request<'_>, node: &str) -> Result<(), String> {
    let runs_on = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let old = request.old::<Pod>();
    let own = old.is_some_and(|old| runs_on(old) == node);
    match (request.subresource(), request.operation) {
        ("", Operation::Create) => match request.object.as_any().downcast_ref::<Pod>() {
            Some(pod) => mirror(request, node, pod),
            None => Ok(()),
        },
        ("eviction", Operation::Create | Operation::Delete) if own => Ok(()),
        ("eviction", Operation::Create | Operation::Delete) => {
            Err(format!("node {node} can only evict pods with spec.nodeName set to itself"))
        }
        ("", Operation::Delete) if own => Ok(()),
        ("", Operation::Delete) => Err(format!("node \"{node}\" can only delete pods with spec.nodeName set to itself")),
        ("status", Operation::Update) if !own => {
            Err(format!("node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"))
        }
        ("status", Operation::Update) => status(request, node),
        ("", operation) => {
            let operation = format!("{operation:?}").to_uppercase();
            Err(format!("unexpected operation \"{operation}\", node \"{node}\" can only create and delete mirror pods"))
        }
        (other, _) => Err(format!("unexpected pod subresource \"{other}\", only 'status' and 'eviction' are allowed")),
    }
}

fn status(request: &Request<'_>, node: &str) -> Result<(), String> {
    let (Some(new), Some(old)) = (request.object.as_any().downcast_ref::<Pod>(), request.old::<Pod>()) else { return Ok(()) };
    if new.metadata.labels.clone().unwrap_or_default() != old.metadata.labels.clone().unwrap_or_default() {
        return Err(format!("node \"{node}\" cannot update labels through pod status"));
    }
    let claims = |pod: &Pod| pod.status.as_ref().and_then(|status| status.resource_claim_statuses.clone()).unwrap_or_default();
    if claims(new) != claims(old) {
        return Err(format!("node \"{node}\" cannot update resource claim statues"));
    }
    Ok(())
}

/// A mirror pod shows what the node runs from a file: it is the node's, and refers to nothing.
fn mirror(request: &Request<'_>, node: &str, pod: &Pod) -> Result<(), String> {
    let no_spec = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    if !pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR)) {
        return Err(format!("pod does not have \"{MIRROR}\" annotation, node \"{node}\" can only create mirror pods"));
    }
    if spec.node_name.as_deref() != Some(node) {
        return Err(format!("node \"{node}\" can only create pods with spec.nodeName set to itself"));
    }
    let owner = match pod.metadata.owner_references.as_deref().unwrap_or_default() {
        [owner] => owner,
        [] => return Err(format!("node \"{node}\" can only create pods with an owner reference set to itself")),
        _ => return Err(format!("node \"{node}\" can only create pods with a single owner reference set to itself")),
    };
    if (owner.api_version.as_str(), owner.kind.as_str(), owner.name.as_str()) != ("v1", "Node", node) {
        return Err(format!("node \"{node}\" can only create pods with an owner reference set to itself"));
    }
    if owner.controller != Some(true) {
        return Err(format!("node \"{node}\" can only create pods with a controller owner reference set to itself"));
    }
    if owner.block_owner_deletion == Some(true) {
        return Err(format!("node \"{node}\" must not set blockOwnerDeletion on an owner reference"));
    }
    let uid = request.snapshot.get(&Key::of::<Node>("", node)).and_then(|entry| entry.meta().uid.clone()).unwrap_or_default();
    if owner.uid != uid {
        return Err(format!("node {node} UID mismatch: expected {} got {uid}", owner.uid));
    }
    let referred = refers(spec);
    match referred {
        Some(what) => Err(format!("node \"{node}\" can not create pods that reference {what}")),
        None => Ok(()),
    }
}

/// What of the API a pod refers to, if anything.
fn refers(spec: &PodSpec) -> Option<&'static str> {
    if spec.service_account_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return Some("a service account");
    }
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let from = |container: &Container, secret: bool| {
        let single = container.env.iter().flatten().filter_map(|env| env.value_from.as_ref());
        let mut single = single.map(|from| if secret { from.secret_key_ref.is_some() } else { from.config_map_key_ref.is_some() });
        let mut all =
            container.env_from.iter().flatten().map(|from| if secret { from.secret_ref.is_some() } else { from.config_map_ref.is_some() });
        single.any(|yes| yes) || all.any(|yes| yes)
    };
    let volumes = || spec.volumes.iter().flatten();
    fn projected(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
        volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten())
    }
    let secret = |volume: &Volume| volume.secret.is_some() || projected(volume).any(|source| source.secret.is_some());
    let in_source = |source: &Option<ConfigMapProjection>| source.is_some();
    let config_map = |volume: &Volume| volume.config_map.is_some() || projected(volume).any(|source| in_source(&source.config_map));
    let pulls = spec.image_pull_secrets.as_ref().is_some_and(|secrets| !secrets.is_empty());
    if pulls || volumes().any(secret) || containers().any(|container| from(container, true)) {
        return Some("secrets");
    }
    if volumes().any(config_map) || containers().any(|container| from(container, false)) {
        return Some("configmaps");
    }
    if volumes().flat_map(projected).any(|source| source.cluster_trust_bundle.is_some()) {
        return Some("clustertrustbundles");
    }
    volumes().any(|volume| volume.persistent_volume_claim.is_some()).then_some("persistentvolumeclaims")
}

fn itself(request: &Request<'_>, node: &str) -> Result<(), String> {
    let asked = request.name();
    if asked != node {
        return Err(format!("node \"{node}\" is not allowed to modify node \"{asked}\""));
    }
    let Some(new) = request.object.as_any().downcast_ref::<Node>() else { return Ok(()) };
    let old = request.old::<Node>();
    let labels = |node: Option<&Node>| node.and_then(|node| node.metadata.labels.clone()).unwrap_or_default();
    let source = |node: &Node| node.spec.as_ref().and_then(|spec| spec.config_source.clone());
    match request.operation {
        Operation::Create => {
            if source(new).is_some() {
                return Err(format!("node \"{node}\" is not allowed to create pods with a non-nil configSource"));
            }
            let forbidden = forbidden(&labels(Some(new)), &BTreeMap::new());
            if !forbidden.is_empty() {
                return Err(format!("node \"{node}\" is not allowed to set the following labels: {}", forbidden.join(", ")));
            }
        }
        Operation::Update => {
            if source(new).is_some() && old.is_none_or(|old| source(old) != source(new)) {
                return Err(format!("node \"{node}\" is not allowed to update configSource to a new non-nil configSource"));
            }
            let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
            if old.is_some_and(|old| taints(old) != taints(new)) {
                return Err(format!("node \"{node}\" is not allowed to modify taints"));
            }
            let forbidden = forbidden(&labels(Some(new)), &labels(old));
            if !forbidden.is_empty() {
                return Err(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
            }
        }
        Operation::Delete | Operation::Connect => {}
    }
    Ok(())
}

/// Changed labels that are not the node's to change.
fn forbidden(new: &BTreeMap<String, String>, old: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = keys.into_iter().filter(|key| new.get(*key) != old.get(*key));
    changed.filter(|key| !is_own(key)).cloned().collect()
}

fn is_own(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let below = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    let kubernetes = below("kubernetes.io") || below("k8s.io");
    let own = OWN_LABELS.contains(&label) || OWN_DOMAINS.into_iter().any(below);
    !below(RESTRICTED) && (own || !kubernetes)
}

/// Of a claim, a node reports what became of a resize.
fn claim(request: &Request<'_>, node: &str) -> Result<(), String> {
    if request.subresource() != "status" {
        return Err("may only update PVC status".into());
    }
    let (Some(new), Some(old)) = (request.object.as_any().downcast_ref::<PersistentVolumeClaim>(), request.old::<PersistentVolumeClaim>())
    else {
        return Ok(());
    };
    let rest = |claim: &PersistentVolumeClaim| {
        let mut claim = claim.clone();
        (claim.metadata.resource_version, claim.metadata.managed_fields) = (None, None);
        let status = claim.status.get_or_insert_default();
        (status.capacity, status.conditions) = (None, None);
        (status.allocated_resource_statuses, status.allocated_resources) = (None, None);
        claim
    };
    if rest(new) != rest(old) {
        return Err(format!("node \"{node}\" is not allowed to update fields other than status.capacity and status.conditions"));
    }
    Ok(())
}

fn lease(request: &Request<'_>, node: &str) -> Result<(), String> {
    if request.namespace() != LEASES {
        return Err(format!("can only access leases in the \"{LEASES}\" system namespace"));
    }
    if request.name() != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

fn slice(request: &Request<'_>, node: &str) -> Result<(), String> {
    let verb = match request.operation {
        Operation::Create => "create",
        Operation::Delete => "delete",
        _ => return Ok(()),
    };
    let slice = request.object.as_any().downcast_ref::<ResourceSlice>();
    if slice.is_some_and(|slice| slice.spec.node_name.as_deref() == Some(node)) {
        return Ok(());
    }
    Err(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

/// A node asks for its own certificates only. Upstream takes such a request in and lets it lie; here the node is told at once.
fn signing(request: &Request<'_>, node: &str) -> Result<(), String> {
    let Some(wanted) = request.object.as_any().downcast_ref::<CertificateSigningRequest>() else { return Ok(()) };
    let of_nodes = ["kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"];
    if request.operation != Operation::Create || !of_nodes.contains(&wanted.spec.signer_name.as_str()) {
        return Ok(());
    }
    match Csr::parse(&wanted.spec.request.0) {
        Ok(csr) if csr.common_name != format!("system:node:{node}") => {
            Err(format!("node \"{node}\" can only ask for certificates of its own, not of \"{}\"", csr.common_name))
        }
        // What can't be read is for validation to refuse.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_a_node() {
        for (label, own) in [
            ("role", true),
            ("example.com/a", true),
            ("kubernetes.io/hostname", true),
            ("topology.kubernetes.io/zone", true),
            ("node.kubernetes.io/anything", true),
            ("sub.kubelet.kubernetes.io/x", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("kubernetes.io/other", false),
            ("foo.k8s.io/x", false),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("notkubernetes.io/x", true),
        ] {
            assert_eq!(is_own(label), own, "{label}");
        }
    }

    #[test]
    fn what_mirror_pods_refer_to() {
        let cases = [
            ("{containers: []}", None),
            ("{serviceAccountName: a, containers: []}", Some("a service account")),
            ("{imagePullSecrets: [{name: a}], containers: []}", Some("secrets")),
            ("{containers: [{name: c, envFrom: [{secretRef: {name: a}}]}]}", Some("secrets")),
            ("{containers: [{name: c, env: [{name: A, valueFrom: {configMapKeyRef: {name: a, key: k}}}]}]}", Some("configmaps")),
            ("{volumes: [{name: v, projected: {sources: [{configMap: {name: a}}]}}], containers: []}", Some("configmaps")),
            (
                "{volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {path: a}}]}}], containers: []}",
                Some("clustertrustbundles"),
            ),
            ("{volumes: [{name: v, persistentVolumeClaim: {claimName: a}}], containers: []}", Some("persistentvolumeclaims")),
        ];
        for (spec, want) in cases {
            let spec: PodSpec = serde_yaml::from_str(spec).expect("a spec");
            assert_eq!(refers(&spec), want, "{spec:?}");
        }
    }
}
