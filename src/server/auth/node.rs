//! What a node may do: as little as its agent needs.
//!
//! Words: a pod is a node's *own* when it is bound to it and no mirror of a file on it. What an own pod refers to is *related* to the
//! node: secrets, config maps, claims, the volumes behind them and the secrets of those, its service account, its resource claims.
//!
//! What a body says can't be seen here; that a node creates and changes only what is its own is for admission (NodeRestriction).
//!
//! Follows upstream's `plugin/pkg/auth/authorizer/node` and the node rules of `bootstrappolicy/policy.go`. Decided by walking the node's
//! own pods in the snapshot, so there is no graph to keep in step.

use std::sync::Arc;

use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Volume};
use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::api::storage::v1::VolumeAttachment;

use super::authz::{Attributes, Decision};
use super::lookup::Lookup;
use crate::api::cluster;
use crate::server::registry::User;

const READ: &[&str] = &["get", "list", "watch"];
const LEASES: &str = "kube-node-lease";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Group, resource with subresource, and verbs that every node has, whatever the object.
const EVERYWHERE: &[(&str, &str, &[&str])] = &[
    ("authentication.k8s.io", "tokenreviews", &["create"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("authorization.k8s.io", "localsubjectaccessreviews", &["create"]),
    ("", "services", READ),
    ("", "endpoints", &["get"]),
    ("", "events", &["create", "update", "patch"]),
    ("certificates.k8s.io", "certificatesigningrequests", &["create", "get", "list", "watch"]),
    ("certificates.k8s.io", "clustertrustbundles", READ),
    ("storage.k8s.io", "csidrivers", READ),
    ("node.k8s.io", "runtimeclasses", READ),
];

/// The node's name, if `user` is a node.
pub fn node_name(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == "system:nodes").then_some(name)
}

fn deny(why: impl Into<String>) -> Decision {
    Decision::Deny(why.into())
}

fn allow_if(yes: bool, why: impl FnOnce() -> String) -> Decision {
    if yes { Decision::Allow(String::new()) } else { Decision::Deny(why()) }
}

/// Decides for the node called `node`.
pub fn authorize(state: &impl Lookup, node: &str, asked: &Attributes) -> Decision {
    if let Some(other) = cluster::node_of_tunnel(&asked.path).filter(|_| asked.resource.is_empty()) {
        return allow_if(asked.verb == "get" && other == node, || format!("node '{node}' can only keep a tunnel for itself"));
    }
    let question = Question { state, node, asked };
    match (asked.group.as_str(), asked.resource.as_str()) {
        ("", "secrets" | "configmaps") => question.read_by_name(),
        ("", "persistentvolumeclaims") if asked.subresource == "status" => match asked.verb.as_str() {
            "update" | "patch" => question.related(),
            _ => deny("can only get/update/patch this type"),
        },
        ("", "persistentvolumeclaims" | "persistentvolumes") => question.get(),
        ("resource.k8s.io", "resourceclaims") | ("storage.k8s.io", "volumeattachments") => question.get(),
        ("", "serviceaccounts") => question.service_account(),
        ("coordination.k8s.io", "leases") => question.lease(),
        ("storage.k8s.io", "csinodes") => question.csi_node(),
        ("resource.k8s.io", "resourceslices") => question.resource_slice(),
        ("certificates.k8s.io", "podcertificaterequests") => question.pod_certificate(),
        ("", "nodes") => question.node(),
        ("", "pods") => question.pod(),
        (group, resource) => {
            let listed = |row: &&(&str, &str, &[&str])| row.0 == group && row.1 == resource && row.2.contains(&asked.verb.as_str());
            allow_if(asked.subresource.is_empty() && EVERYWHERE.iter().any(|row| listed(&row)), String::new)
        }
    }
}

/// One question of one node.
struct Question<'a, L> {
    state: &'a L,
    node: &'a str,
    asked: &'a Attributes,
}

impl<L: Lookup> Question<'_, L> {
    fn verb(&self) -> &str {
        &self.asked.verb
    }

    fn get(&self) -> Decision {
        match (self.verb(), self.asked.subresource.as_str()) {
            ("get", "") => self.related(),
            ("get", _) => deny("cannot get subresource"),
            _ => deny("can only get individual resources of this type"),
        }
    }

    fn read_by_name(&self) -> Decision {
        match () {
            () if !READ.contains(&self.verb()) => deny("can only read resources of this type"),
            () if !self.asked.subresource.is_empty() => deny("cannot read subresource"),
            () if self.asked.namespace.is_empty() => deny("can only read namespaced object of this type"),
            () => self.related(),
        }
    }

    fn service_account(&self) -> Decision {
        match (self.verb(), self.asked.subresource.as_str()) {
            // For credential providers that act as the pod's account.
            ("get", "") => self.related(),
            (verb, _) if verb != "create" || self.asked.name.is_empty() => deny("can only create tokens for individual service accounts"),
            (_, "token") => self.related(),
            _ => deny("can only create token subresource of serviceaccount"),
        }
    }

    fn lease(&self) -> Decision {
        match self.verb() {
            "get" | "create" | "update" | "patch" | "delete" if self.asked.namespace != LEASES => {
                deny(format!("can only access leases in the {LEASES:?} system namespace"))
            }
            "create" => Decision::Allow(String::new()),
            "get" | "update" | "patch" | "delete" => {
                allow_if(self.asked.name == self.node, || "can only access node lease with the same name as the requesting node".into())
            }
            _ => deny("can only get, create, update, patch, or delete a node lease"),
        }
    }

    fn csi_node(&self) -> Decision {
        match self.verb() {
            "get" | "create" | "update" | "patch" | "delete" if !self.asked.subresource.is_empty() => {
                deny("cannot authorize CSINode subresources")
            }
            "create" => Decision::Allow(String::new()),
            "get" | "update" | "patch" | "delete" => {
                allow_if(self.asked.name == self.node, || "can only access CSINode with the same name as the requesting node".into())
            }
            _ => deny("can only get, create, update, patch, or delete a CSINode"),
        }
    }

    fn resource_slice(&self) -> Decision {
        if !self.asked.subresource.is_empty() {
            return deny("cannot authorize ResourceSlice subresources");
        }
        match self.verb() {
            "create" => Decision::Allow(String::new()),
            "get" | "update" | "patch" | "delete" => self.related(),
            "watch" | "list" | "deletecollection" => allow_if(self.selects("nodeName"), || {
                "can only list/watch/deletecollection resourceslices with nodeName field selector".into()
            }),
            _ => deny(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod_certificate(&self) -> Decision {
        match (self.verb(), self.asked.subresource.as_str()) {
            ("create", "") => Decision::Allow(String::new()),
            ("get", "") => self.related(),
            ("list" | "watch", "") => allow_if(self.selects("spec.nodeName"), || {
                "can only list/watch podcertificaterequests with spec.nodeName field selector".into()
            }),
            _ => deny("can only create, get, list, or watch PodCertificateRequests"),
        }
    }

    fn node(&self) -> Decision {
        let (node, name) = (self.node, self.asked.name.as_str());
        match (self.asked.subresource.as_str(), self.verb()) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Decision::Allow(String::new()),
            ("", "get" | "list" | "watch") => match name {
                "" => deny(format!("node '{node}' cannot read all nodes, only its own Node object")),
                name => allow_if(name == node, || format!("node '{node}' cannot read '{name}', only its own Node object")),
            },
            _ => deny(""),
        }
    }

    fn pod(&self) -> Decision {
        match (self.asked.subresource.as_str(), self.verb()) {
            ("", "get") => self.get(),
            ("", "list" | "watch") if self.selects("spec.nodeName") => Decision::Allow(String::new()),
            ("", "list" | "watch") if !self.asked.name.is_empty() => self.related(),
            ("", "list" | "watch") => deny("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Decision::Allow(String::new()),
            _ => deny(""),
        }
    }

    /// Whether the field selector is this node's.
    fn selects(&self, field: &str) -> bool {
        self.asked.required_field(field).as_deref() == Some(self.node)
    }

    /// Whether the named object is related to the node.
    fn related(&self) -> Decision {
        if self.asked.name.is_empty() {
            return deny("No Object name found");
        }
        allow_if(self.is_related(), || format!("no relationship found between node '{}' and this object", self.node))
    }

    fn is_related(&self) -> bool {
        let (state, node, namespace, name) = (self.state, self.node, self.asked.namespace.as_str(), self.asked.name.as_str());
        match self.asked.resource.as_str() {
            "pods" => state.get::<Pod>(namespace, name).is_some_and(|pod| is_own(&pod, node)),
            "persistentvolumes" => state.get::<PersistentVolume>("", name).is_some_and(|volume| volume_used(state, node, &volume)),
            "volumeattachments" => state.get::<VolumeAttachment>("", name).is_some_and(|attachment| attachment.spec.node_name == node),
            "resourceslices" => state.get::<ResourceSlice>("", name).is_some_and(|slice| slice.spec.node_name.as_deref() == Some(node)),
            "podcertificaterequests" => {
                state.get::<PodCertificateRequest>(namespace, name).is_some_and(|request| request.spec.node_name == node)
            }
            resource => {
                own_pods(state, node, namespace).iter().any(|pod| refers(pod, resource, name))
                    || (resource == "secrets" && secret_of_volume(state, node, namespace, name))
            }
        }
    }
}

/// Whether the pod runs on the node and is no mirror: what a node itself says about a pod may not open anything to it.
fn is_own(pod: &Pod, node: &str) -> bool {
    let mirror = || pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR));
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(node)) && !mirror()
}

fn own_pods(state: &impl Lookup, node: &str, namespace: &str) -> Vec<Arc<Pod>> {
    state.list::<Pod>(Some(namespace)).into_iter().filter(|pod| is_own(pod, node)).collect()
}

fn volume_used(state: &impl Lookup, node: &str, volume: &PersistentVolume) -> bool {
    let Some(claim) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let (namespace, name) = (claim.namespace.as_deref().unwrap_or_default(), claim.name.as_deref().unwrap_or_default());
    state.get::<PersistentVolumeClaim>(namespace, name).is_some()
        && own_pods(state, node, namespace).iter().any(|pod| refers(pod, "persistentvolumeclaims", name))
}

/// Whether a volume that the node uses needs this secret to be mounted.
fn secret_of_volume(state: &impl Lookup, node: &str, namespace: &str, name: &str) -> bool {
    state.list::<PersistentVolume>(None).into_iter().any(|volume| {
        let Some(spec) = &volume.spec else { return false };
        let home = spec.claim_ref.as_ref().and_then(|claim| claim.namespace.as_deref()).unwrap_or_default();
        let is =
            |at: Option<&str>, secret: Option<&str>| secret == Some(name) && at.filter(|at| !at.is_empty()).unwrap_or(home) == namespace;
        let csi = spec.csi.as_ref().is_some_and(|csi| {
            let refs = [&csi.node_publish_secret_ref, &csi.node_stage_secret_ref, &csi.node_expand_secret_ref];
            refs.into_iter().flatten().any(|r| is(r.namespace.as_deref(), r.name.as_deref()))
        });
        let used = csi
            || spec.azure_file.as_ref().is_some_and(|v| is(v.secret_namespace.as_deref(), Some(&v.secret_name)))
            || spec.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()).is_some_and(|r| is(r.namespace.as_deref(), r.name.as_deref()))
            || spec.flex_volume.as_ref().and_then(|v| v.secret_ref.as_ref()).is_some_and(|r| is(r.namespace.as_deref(), r.name.as_deref()))
            || spec.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()).is_some_and(|r| is(r.namespace.as_deref(), r.name.as_deref()))
            || spec.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()).is_some_and(|r| is(r.namespace.as_deref(), r.name.as_deref()))
            || spec.scale_io.as_ref().is_some_and(|v| is(v.secret_ref.namespace.as_deref(), v.secret_ref.name.as_deref()))
            || spec.storageos.as_ref().and_then(|v| v.secret_ref.as_ref()).is_some_and(|r| is(r.namespace.as_deref(), r.name.as_deref()));
        used && volume_used(state, node, &volume)
    })
}

/// Whether `pod` refers to the object of this kind and name in its namespace.
fn refers(pod: &Pod, resource: &str, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let volumes = || spec.volumes.iter().flatten();
    match resource {
        "serviceaccounts" => spec.service_account_name.as_deref().filter(|n| !n.is_empty()).unwrap_or("default") == name,
        "persistentvolumeclaims" => volumes().any(|volume| claims(pod, volume, name)),
        "resourceclaims" => uses_resource_claim(pod, spec, name),
        "secrets" => {
            spec.image_pull_secrets.iter().flatten().any(|s| s.name == name)
                || volumes().any(|volume| volume_has_secret(volume, name))
                || in_environment(spec, |from| from.secret == Some(name))
        }
        "configmaps" => {
            volumes().any(|volume| volume_has_config_map(volume, name)) || in_environment(spec, |from| from.config_map == Some(name))
        }
        _ => false,
    }
}

fn uses_resource_claim(pod: &Pod, spec: &PodSpec, name: &str) -> bool {
    let direct = spec.resource_claims.iter().flatten().any(|claim| claim.resource_claim_name.as_deref() == Some(name));
    let status = pod.status.as_ref();
    let made = status.into_iter().flat_map(|s| s.resource_claim_statuses.iter().flatten());
    let extended = status.and_then(|s| s.extended_resource_claim_status.as_ref());
    direct
        || made.into_iter().any(|s| s.resource_claim_name.as_deref() == Some(name))
        || extended.is_some_and(|s| s.resource_claim_name == name)
}

fn claims(pod: &Pod, volume: &Volume, name: &str) -> bool {
    let ephemeral = || {
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        volume.ephemeral.is_some() && format!("{pod_name}-{}", volume.name) == name
    };
    volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.claim_name == name) || ephemeral()
}

fn volume_has_secret(volume: &Volume, name: &str) -> bool {
    let local = |r: &Option<k8s_openapi::api::core::v1::LocalObjectReference>| r.as_ref().is_some_and(|r| r.name == name);
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    volume.secret.as_ref().is_some_and(|s| s.secret_name.as_deref() == Some(name))
        || projected.filter_map(|source| source.secret.as_ref()).any(|s| s.name == name)
        || volume.csi.as_ref().is_some_and(|v| local(&v.node_publish_secret_ref))
        || volume.azure_file.as_ref().is_some_and(|v| v.secret_name == name)
        || volume.cephfs.as_ref().is_some_and(|v| local(&v.secret_ref))
        || volume.cinder.as_ref().is_some_and(|v| local(&v.secret_ref))
        || volume.flex_volume.as_ref().is_some_and(|v| local(&v.secret_ref))
        || volume.rbd.as_ref().is_some_and(|v| local(&v.secret_ref))
        || volume.iscsi.as_ref().is_some_and(|v| local(&v.secret_ref))
        || volume.scale_io.as_ref().is_some_and(|v| v.secret_ref.name == name)
        || volume.storageos.as_ref().is_some_and(|v| local(&v.secret_ref))
}

fn volume_has_config_map(volume: &Volume, name: &str) -> bool {
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    volume.config_map.as_ref().is_some_and(|c| c.name == name)
        || projected.filter_map(|source| source.config_map.as_ref()).any(|c| c.name == name)
}

/// What an environment variable, or all of `envFrom`, is taken from.
struct From<'a> {
    secret: Option<&'a str>,
    config_map: Option<&'a str>,
}

fn in_environment(spec: &PodSpec, matches: impl Fn(From<'_>) -> bool) -> bool {
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (&c.env, &c.env_from));
    let others = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| (&c.env, &c.env_from));
    others.chain(ephemeral).any(|(env, env_from)| {
        let single = env.iter().flatten().filter_map(|env| env.value_from.as_ref()).map(|from| From {
            secret: from.secret_key_ref.as_ref().map(|r| r.name.as_str()),
            config_map: from.config_map_key_ref.as_ref().map(|r| r.name.as_str()),
        });
        let all = env_from.iter().flatten().map(|from| From {
            secret: from.secret_ref.as_ref().map(|r| r.name.as_str()),
            config_map: from.config_map_ref.as_ref().map(|r| r.name.as_str()),
        });
        single.chain(all).any(&matches)
    })
}

#[cfg(test)]
mod tests {
    use super::super::lookup::memory::Memory;
    use super::*;

    const PODS: &str = "
metadata: {namespace: ns, name: own}
spec:
  nodeName: n1
  serviceAccountName: web
  imagePullSecrets: [{name: pull}]
  volumes:
  - {name: a, secret: {secretName: vol}}
  - {name: b, projected: {sources: [{configMap: {name: root-ca}}]}}
  - {name: c, persistentVolumeClaim: {claimName: data}}
  resourceClaims: [{name: a, resourceClaimName: gpu}]
  containers:
  - name: c
    env: [{name: X, valueFrom: {secretKeyRef: {name: env, key: k}}}]
    envFrom: [{configMapRef: {name: all}}]
status: {resourceClaimStatuses: [{name: b, resourceClaimName: made}]}
---
metadata: {namespace: ns, name: mirror, annotations: {kubernetes.io/config.mirror: x}}
spec: {nodeName: n1, containers: [], volumes: [{name: a, secret: {secretName: mirrored}}]}
---
metadata: {namespace: ns, name: foreign}
spec: {nodeName: n2, containers: [], volumes: [{name: a, secret: {secretName: theirs}}]}
";

    /// `VERB GROUP/RESOURCE[/SUB] NAMESPACE/NAME [FIELDS]`.
    fn check(question: &str, want: bool) {
        let mut words = question.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (verb, what, place, fields) = (next(), next(), next(), next());
        let mut parts = what.split('/').map(String::from);
        let (namespace, name) = place.split_once('/').unwrap();
        let asked = Attributes {
            verb: verb.into(),
            group: parts.next().unwrap(),
            resource: parts.next().unwrap(),
            subresource: parts.next().unwrap_or_default(),
            namespace: namespace.into(),
            name: name.into(),
            fields: fields.into(),
            ..Attributes::default()
        };
        let state = Memory::default()
            .with::<Pod>(PODS)
            .with::<PersistentVolumeClaim>("{metadata: {namespace: ns, name: data}}")
            .with::<PersistentVolume>(
            "{metadata: {name: pv}, spec: {claimRef: {namespace: ns, name: data},
                csi: {driver: d, volumeHandle: h, nodeStageSecretRef: {namespace: store, name: stage},
                    controllerPublishSecretRef: {namespace: store, name: control}}}}",
        );
        assert_eq!(authorize(&state, "n1", &asked).allowed(), want, "{question}");
    }

    #[test]
    fn what_a_node_may() {
        for (question, want) in [
            ("watch /services /", true),
            ("get /endpoints ns/a", true),
            ("list /endpoints /", false),
            ("create /services ns/a", false),
            ("create /nodes /", true),
            ("get /nodes /n1", true),
            ("get /nodes /n2", false),
            ("list /nodes /", false),
            ("patch /nodes/status /n1", true),
            ("delete /nodes /n1", false),
            ("update coordination.k8s.io/leases kube-node-lease/n1", true),
            ("update coordination.k8s.io/leases kube-node-lease/n2", false),
            ("create coordination.k8s.io/leases kube-node-lease/", true),
            ("list coordination.k8s.io/leases kube-node-lease/", false),
            ("update coordination.k8s.io/leases default/n1", false),
            ("create storage.k8s.io/csinodes /", true),
            ("get storage.k8s.io/csinodes /n2", false),
            ("list /pods / spec.nodeName=n1", true),
            ("list /pods / spec.nodeName=n2", false),
            ("list /pods /", false),
            ("watch /pods ns/own", true),
            ("get /pods ns/own", true),
            ("get /pods ns/foreign", false),
            ("get /pods ns/mirror", false),
            ("patch /pods/status ns/own", true),
            ("patch /pods ns/own", false),
            ("delete /pods ns/own", true),
            ("create /pods/exec ns/own", false),
            ("get /secrets ns/vol", true),
            ("get /secrets ns/env", true),
            ("watch /secrets ns/pull", true),
            ("get /secrets ns/theirs", false),
            ("get /secrets ns/mirrored", false),
            ("get /secrets other/vol", false),
            ("get /secrets store/stage", true),
            ("get /secrets store/control", false),
            ("list /secrets ns/", false),
            ("update /secrets ns/vol", false),
            ("get /configmaps ns/root-ca", true),
            ("get /configmaps ns/all", true),
            ("get /configmaps ns/other", false),
            ("get /persistentvolumeclaims ns/data", true),
            ("list /persistentvolumeclaims ns/data", false),
            ("patch /persistentvolumeclaims/status ns/data", true),
            ("get /persistentvolumes /pv", true),
            ("get /persistentvolumes /other", false),
            ("create /serviceaccounts/token ns/web", true),
            ("create /serviceaccounts/token ns/default", false),
            ("get /serviceaccounts ns/web", true),
            ("list /serviceaccounts ns/web", false),
            ("get resource.k8s.io/resourceclaims ns/gpu", true),
            ("get resource.k8s.io/resourceclaims ns/made", true),
            ("get resource.k8s.io/resourceclaims ns/other", false),
            ("list resource.k8s.io/resourceslices / nodeName=n1", true),
            ("list resource.k8s.io/resourceslices /", false),
            ("create resource.k8s.io/resourceslices /", true),
            ("list certificates.k8s.io/podcertificaterequests / spec.nodeName=n1", true),
            ("list certificates.k8s.io/podcertificaterequests /", false),
            ("create /events ns/", true),
            ("get apps/deployments ns/a", false),
        ] {
            check(question, want);
        }
    }

    #[test]
    fn a_tunnel_for_itself() {
        let ask = |verb: &str, node: &str| {
            let asked = Attributes { verb: verb.into(), path: cluster::tunnel_path(node), ..Attributes::default() };
            authorize(&Memory::default(), "n1", &asked)
        };
        assert!(ask("get", "n1").allowed());
        assert_eq!(ask("get", "n2"), Decision::Deny("node 'n1' can only keep a tunnel for itself".into()));
        assert!(!ask("post", "n1").allowed());
    }

    #[test]
    fn who_is_a_node() {
        let user = |name: &str, group: &str| User { name: name.into(), groups: vec![group.into()], ..User::default() };
        assert_eq!(node_name(&user("system:node:n1", "system:nodes")), Some("n1"));
        assert_eq!(node_name(&user("system:node:n1", "others")), None);
        assert_eq!(node_name(&user("n1", "system:nodes")), None);
        assert_eq!(node_name(&user("system:node:", "system:nodes")), None);
    }
}
