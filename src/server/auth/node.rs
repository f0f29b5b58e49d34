//! What a node may do: as little as its agent needs.
//!
//! Words: a pod is a node's *own* when it is bound to it. Secrets, config maps, claims and service accounts are readable by name, and only
//! while one of the node's own pods refers to them.
//!
//! Follows upstream's `plugin/pkg/auth/authorizer/node` and the node rules of `bootstrappolicy/policy.go`. Decided by walking the node's
//! own pods in the snapshot, so there is no graph to keep in step.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Volume};

use super::authz::{Attributes, Decision};
use super::lookup::Lookup;
use crate::server::registry::User;

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch", "delete"];

/// Group, resource and verbs that every node has, whatever the object.
const EVERYWHERE: &[(&str, &str, &[&str])] = &[
    ("", "services", READ),
    ("", "endpoints", READ),
    ("", "namespaces", READ),
    ("", "nodes", &["get", "list", "watch", "create"]),
    ("", "events", &["create", "update", "patch"]),
    ("events.k8s.io", "events", &["create", "update", "patch"]),
    ("discovery.k8s.io", "endpointslices", READ),
    ("node.k8s.io", "runtimeclasses", READ),
    ("storage.k8s.io", "csidrivers", READ),
    ("authentication.k8s.io", "tokenreviews", &["create"]),
    ("authentication.k8s.io", "selfsubjectreviews", &["create"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("authorization.k8s.io", "selfsubjectaccessreviews", &["create"]),
    ("authorization.k8s.io", "selfsubjectrulesreviews", &["create"]),
    ("certificates.k8s.io", "certificatesigningrequests", &["create", "get", "list", "watch"]),
];

/// The node's name, if `user` is a node.
pub fn node_name(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == "system:nodes").then_some(name)
}

/// Decides for the node called `node`.
pub fn authorize(state: &impl Lookup, node: &str, asked: &Attributes) -> Decision {
    let allow = |yes: bool, why: &str| {
        if yes { Decision::Allow("node authorizer".into()) } else { Decision::Deny(why.into()) }
    };
    let verb = asked.verb.as_str();
    if asked.resource.is_empty() {
        let public = ["/api", "/apis", "/openapi", "/healthz", "/livez", "/readyz", "/version"];
        let under = |root: &&str| asked.path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        return allow(verb == "get" && public.iter().any(under), "");
    }
    let plain = asked.subresource.is_empty();
    if plain && EVERYWHERE.iter().any(|(g, r, verbs)| *g == asked.group && *r == asked.resource && verbs.contains(&verb)) {
        return allow(true, "");
    }
    match (asked.group.as_str(), asked.resource.as_str(), asked.subresource.as_str()) {
        ("", "nodes", "" | "status") => {
            allow(asked.name == node && WRITE.contains(&verb), &format!("node {node:?} may only change its own Node"))
        }
        ("coordination.k8s.io", "leases", "") => {
            let own = asked.namespace == "kube-node-lease" && (asked.name == node || (verb == "create" && asked.name.is_empty()));
            allow(own && (verb == "get" || WRITE.contains(&verb)), "can only access node lease with the same name as the requesting node")
        }
        ("storage.k8s.io", "csinodes", "") => {
            let own = asked.name == node || (verb == "create" && asked.name.is_empty());
            allow(own && (verb == "get" || WRITE.contains(&verb)), "can only access CSINode with the same name as the requesting node")
        }
        ("", "pods", _) => pod(state, node, asked),
        ("", "secrets" | "configmaps" | "persistentvolumeclaims" | "serviceaccounts" | "persistentvolumes", _) => {
            referenced(state, node, asked)
        }
        _ => Decision::Deny(String::new()),
    }
}

fn runs_on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(node))
}

fn pod(state: &impl Lookup, node: &str, asked: &Attributes) -> Decision {
    let verb = asked.verb.as_str();
    let selected = asked.required_field("spec.nodeName") == Some(node);
    let own = || state.get::<Pod>(&asked.namespace, &asked.name).is_some_and(|pod| runs_on(&pod, node));
    let yes = match (asked.subresource.as_str(), verb) {
        ("", "list" | "watch") => selected || (!asked.name.is_empty() && own()),
        ("", "get" | "delete") => own(),
        ("status", "get" | "update" | "patch") => own(),
        ("eviction", "create") => own(),
        _ => false,
    };
    if yes {
        return Decision::Allow("node authorizer".into());
    }
    Decision::Deny(match (asked.subresource.as_str(), verb) {
        ("", "list" | "watch") => format!("can only list/watch pods with spec.nodeName={node} field selector"),
        _ => format!("no relationship found between node {node:?} and this object"),
    })
}

/// Whether an own pod refers to the object that is asked for, in a way that this verb needs.
fn referenced(state: &impl Lookup, node: &str, asked: &Attributes) -> Decision {
    let reads = READ.contains(&asked.verb.as_str()) && asked.subresource.is_empty();
    let mints = asked.resource == "serviceaccounts" && asked.subresource == "token" && asked.verb == "create";
    let claim_status = asked.resource == "persistentvolumeclaims" && asked.subresource == "status" && asked.verb != "create";
    if !(reads || mints || claim_status) {
        return Decision::Deny(String::new());
    }
    if asked.name.is_empty() {
        return Decision::Deny("can only read resources of this type by name".into());
    }
    let found = match asked.resource.as_str() {
        "persistentvolumes" => state.get::<PersistentVolume>("", &asked.name).is_some_and(|volume| volume_used(state, node, &volume)),
        _ => own_pods(state, node, &asked.namespace).iter().any(|pod| refers(pod, &asked.resource, &asked.name)),
    };
    if found {
        return Decision::Allow("node authorizer".into());
    }
    Decision::Deny(format!("no relationship found between node {node:?} and this object"))
}

fn own_pods(state: &impl Lookup, node: &str, namespace: &str) -> Vec<Arc<Pod>> {
    state.list::<Pod>(Some(namespace)).into_iter().filter(|pod| runs_on(pod, node)).collect()
}

fn volume_used(state: &impl Lookup, node: &str, volume: &PersistentVolume) -> bool {
    let Some(claim) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let (namespace, name) = (claim.namespace.as_deref().unwrap_or_default(), claim.name.as_deref().unwrap_or_default());
    state.get::<PersistentVolumeClaim>(namespace, name).is_some()
        && own_pods(state, node, namespace).iter().any(|pod| refers(pod, "persistentvolumeclaims", name))
}

/// Whether `pod` refers to the object of this kind and name in its namespace.
fn refers(pod: &Pod, resource: &str, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let volumes = || spec.volumes.iter().flatten();
    match resource {
        "serviceaccounts" => spec.service_account_name.as_deref().filter(|n| !n.is_empty()).unwrap_or("default") == name,
        "persistentvolumeclaims" => volumes().any(|volume| claims(pod, volume, name)),
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

fn claims(pod: &Pod, volume: &Volume, name: &str) -> bool {
    let ephemeral = || {
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        volume.ephemeral.is_some() && format!("{pod_name}-{}", volume.name) == name
    };
    volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.claim_name == name) || ephemeral()
}

fn volume_has_secret(volume: &Volume, name: &str) -> bool {
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    volume.secret.as_ref().is_some_and(|s| s.secret_name.as_deref() == Some(name))
        || projected.filter_map(|source| source.secret.as_ref()).any(|s| s.name == name)
        || volume.csi.as_ref().and_then(|csi| csi.node_publish_secret_ref.as_ref()).is_some_and(|s| s.name == name)
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
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|container| {
        let single = container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()).map(|from| From {
            secret: from.secret_key_ref.as_ref().map(|r| r.name.as_str()),
            config_map: from.config_map_key_ref.as_ref().map(|r| r.name.as_str()),
        });
        let all = container.env_from.iter().flatten().map(|from| From {
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
  containers:
  - name: c
    env: [{name: X, valueFrom: {secretKeyRef: {name: env, key: k}}}]
    envFrom: [{configMapRef: {name: all}}]
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
            .with::<PersistentVolume>("{metadata: {name: pv}, spec: {claimRef: {namespace: ns, name: data}}}");
        assert_eq!(authorize(&state, "n1", &asked).allowed(), want, "{question}");
    }

    #[test]
    fn what_a_node_may() {
        for (question, want) in [
            ("watch /services /", true),
            ("list discovery.k8s.io/endpointslices /", true),
            ("create /services ns/a", false),
            ("create /nodes /", true),
            ("patch /nodes/status /n1", true),
            ("patch /nodes/status /n2", false),
            ("delete /nodes /n2", false),
            ("update coordination.k8s.io/leases kube-node-lease/n1", true),
            ("update coordination.k8s.io/leases kube-node-lease/n2", false),
            ("create coordination.k8s.io/leases kube-node-lease/", true),
            ("update coordination.k8s.io/leases default/n1", false),
            ("list /pods / spec.nodeName=n1", true),
            ("list /pods / spec.nodeName=n2", false),
            ("list /pods /", false),
            ("get /pods ns/own", true),
            ("get /pods ns/foreign", false),
            ("patch /pods/status ns/own", true),
            ("patch /pods/status ns/foreign", false),
            ("patch /pods ns/own", false),
            ("delete /pods ns/own", true),
            ("create /pods/exec ns/own", false),
            ("get /secrets ns/vol", true),
            ("get /secrets ns/env", true),
            ("watch /secrets ns/pull", true),
            ("get /secrets ns/theirs", false),
            ("get /secrets other/vol", false),
            ("list /secrets ns/", false),
            ("update /secrets ns/vol", false),
            ("get /configmaps ns/root-ca", true),
            ("get /configmaps ns/all", true),
            ("get /configmaps ns/other", false),
            ("get /persistentvolumeclaims ns/data", true),
            ("get /persistentvolumes /pv", true),
            ("get /persistentvolumes /other", false),
            ("create /serviceaccounts/token ns/web", true),
            ("create /serviceaccounts/token ns/default", false),
            ("create /events ns/", true),
            ("get apps/deployments ns/a", false),
        ] {
            check(question, want);
        }
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
