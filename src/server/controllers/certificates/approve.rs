//! Decides on the certificates of nodes: whether whoever asks may have them.
//!
//! A client certificate is for the bearer of a bootstrap token, or for the node that renews its own; as upstream's
//! `certificates/approver/sarapprove.go`. Beyond upstream: a token does not get the name of a node that exists, unless its bearer has the
//! key that the Node notes, or else whoever has a token could become any node; and serving certificates are approved, for the
//! names and addresses that the Node says and no other Node does.
//!
//! Never: decides on a request of another sort, or on one that somebody decided on.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::Node;

use super::{certificate, condition, conditions};
use crate::api::Key;
use crate::api::cluster::KEY_ANNOTATION;
use crate::api::csr::Csr;
use crate::server::auth::{Attributes, Authority, User, node};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

/// The approver.
pub struct Approver {
    /// Who may.
    pub authority: Arc<Authority>,
}

/// What becomes of a request: a condition's type, reason and message.
type Verdict = (&'static str, &'static str, String);

fn approved(message: &str) -> Option<Verdict> {
    Some(("Approved", "AutoApproved", message.into()))
}

fn denied(message: String) -> Option<Verdict> {
    Some(("Denied", "NotThisNode", message))
}

fn requestor(spec: &CertificateSigningRequestSpec) -> User {
    User {
        name: spec.username.clone().unwrap_or_default(),
        uid: spec.uid.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    }
}

fn get(view: &View, name: &str) -> Option<Arc<Node>> {
    view.at::<Node>(&Key::of::<Node>("", name))
}

impl Approver {
    fn may(&self, view: &View, user: &User, subresource: &str) -> bool {
        let asked = Attributes {
            verb: "create".into(),
            group: "certificates.k8s.io".into(),
            version: "*".into(),
            resource: "certificatesigningrequests".into(),
            subresource: subresource.into(),
            ..Attributes::default()
        };
        self.authority.authorize(view.snapshot(), user, &asked).allowed()
    }

    fn client(&self, view: &View, user: &User, csr: &Csr) -> Option<Verdict> {
        if user.name == csr.common_name {
            let yes = self.may(view, user, "selfnodeclient");
            return yes.then(|| approved("Auto approving self kubelet client certificate after SubjectAccessReview.")).flatten();
        }
        let name = csr.common_name.strip_prefix("system:node:")?;
        if let Some(other) = node::node_name(user) {
            return denied(format!("node {other} may not have the certificate of node {name}"));
        }
        if !self.may(view, user, "nodeclient") {
            return None;
        }
        let noted = get(view, name).map(|node| node.metadata.annotations.as_ref().and_then(|all| all.get(KEY_ANNOTATION)).cloned());
        match noted {
            None => approved("Auto approving kubelet client certificate after SubjectAccessReview."),
            Some(Some(key)) if key == csr.key_hash() => approved("Auto approving: the node has the key that it had before."),
            Some(_) => denied(format!(
                "there is a node {name} already, and a token does not make one take its place; if this machine is that node, installed \
                 anew, delete the old one (kubectl delete node {name}) and join again; if not, choose another --node-name"
            )),
        }
    }
}

fn serving(view: &View, user: &User, csr: &Csr) -> Option<Verdict> {
    let asking = node::node_name(user)?;
    let name = csr.common_name.strip_prefix("system:node:")?;
    if asking != name {
        return denied(format!("node {asking} may not have the certificate of node {name}"));
    }
    let node = get(view, name)?;
    if let Some(dns) = csr.dns_names.iter().find(|dns| *dns != name && !addresses(&node).any(|address| address == dns.as_str())) {
        return denied(format!("{dns} is no name of node {name}"));
    }
    for ip in &csr.ips {
        let of = |node: &Node| addresses(node).any(|address| address.parse::<IpAddr>().is_ok_and(|address| address == *ip));
        if !of(&node) {
            return denied(format!("{ip} is no address of node {name}"));
        }
        if let Some(other) = view.list::<Node>(None).find(|other| other.metadata.name != node.metadata.name && of(other)) {
            let other = other.metadata.name.clone().unwrap_or_default();
            return denied(format!(
                "{ip} is an address of node {other} too; give one of them another --node-ip, or delete the one that is gone"
            ));
        }
    }
    approved("Auto approving the serving certificate of a node for its own names and addresses.")
}

fn addresses(node: &Node) -> impl Iterator<Item = &str> {
    node.status.iter().flat_map(|status| status.addresses.iter().flatten()).map(|address| address.address.as_str())
}

impl Controller for Approver {
    fn name(&self) -> &'static str {
        "certificate-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<CertificateSigningRequest>()]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(request) = view.at::<CertificateSigningRequest>(key) else { return Outcome::default() };
        let decided = conditions(&request).any(|condition| ["Approved", "Denied"].contains(&condition.type_.as_str()));
        if decided || certificate(&request).is_some() {
            return Outcome::default();
        }
        let Ok(csr) = Csr::parse(&request.spec.request.0) else { return Outcome::default() };
        let (user, usages) = (requestor(&request.spec), request.spec.usages.as_deref().unwrap_or_default());
        let verdict = match request.spec.signer_name.as_str() {
            "kubernetes.io/kube-apiserver-client-kubelet" if csr.check_kubelet_client(usages).is_ok() => self.client(view, &user, &csr),
            "kubernetes.io/kubelet-serving" if csr.check_kubelet_serving(usages).is_ok() => serving(view, &user, &csr),
            _ => None,
        };
        let Some((kind, reason, message)) = verdict else { return Outcome::default() };
        tracing::info!(
            request = key.name(),
            verdict = kind,
            by = user.name,
            subject = csr.common_name,
            message,
            "a node asks for a certificate"
        );
        let mut done = (*request).clone();
        done.status.get_or_insert_default().conditions.get_or_insert_default().push(condition(kind, reason, message, view.now()));
        vec![Op::UpdateStatus(Box::new(done))].into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::request;
    use super::*;
    use crate::server::reconcile::testing::World;

    /// The world with a request by `user` (a flow map of spec fields), and the verdict on it.
    fn verdict(cn: &str, spec: &str, objects: &[&str], names: &[&str]) -> String {
        let (object, hash) = super::super::testing::request_for(cn, "system:nodes", spec, names);
        let all: Vec<String> = std::iter::once(object).chain(objects.iter().map(|object| object.replace("KEYHASH", &hash))).collect();
        let mut world = World::of(&all.join("\n---\n"));
        let approver = Approver { authority: Arc::default() };
        world.settle(&approver, &Key::of::<CertificateSigningRequest>("", "r"));
        let request = world.one::<CertificateSigningRequest>("r");
        let found = conditions(&request).map(|c| format!("{}: {}", c.type_, c.message.clone().unwrap_or_default())).next();
        found.unwrap_or_default()
    }

    #[test]
    fn a_token_does_not_take_a_nodes_place() {
        const SPEC: &str = "signerName: kubernetes.io/kube-apiserver-client-kubelet, usages: [digital signature, client auth], \
                            username: x, groups: [system:masters]";
        let node = |annotations: &str| format!("{{kind: Node, metadata: {{name: a, annotations: {annotations}}}}}");
        for (objects, want) in [
            (vec![], "Approved"),
            (vec![node("{orch.local/client-key: KEYHASH}")], "Approved: Auto approving: the node has the key"),
            (vec![node("{orch.local/client-key: other}")], "Denied: there is a node a already"),
            (vec![node("{}")], "Denied: there is a node a already"),
        ] {
            let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
            let found = verdict("system:node:a", SPEC, &objects, &[]);
            assert!(found.starts_with(want), "{objects:?}: {found}");
        }
        let by_node = SPEC.replace("username: x", "username: 'system:node:b'").replace("system:masters", "system:nodes");
        assert_eq!(verdict("system:node:a", &by_node, &[], &[]), "Denied: node b may not have the certificate of node a");
    }

    #[test]
    fn nodes_are_called_by_their_own_names() {
        const SPEC: &str = "signerName: kubernetes.io/kubelet-serving, usages: [digital signature, server auth], \
                            username: 'system:node:a', groups: [system:nodes]";
        let node = |name: &str, ip: &str| {
            format!("{{kind: Node, metadata: {{name: {name}}}, status: {{addresses: [{{type: InternalIP, address: {ip}}}]}}}}")
        };
        for (cn, objects, names, want) in [
            ("system:node:a", vec![node("a", "192.0.2.1")], vec!["a", "192.0.2.1"], "Approved"),
            ("system:node:a", vec![node("a", "192.0.2.1")], vec!["a", "192.0.2.2"], "Denied: 192.0.2.2 is no address of node a"),
            ("system:node:a", vec![node("a", "192.0.2.1")], vec!["b"], "Denied: b is no name of node a"),
            ("system:node:b", vec![node("b", "192.0.2.1")], vec!["b"], "Denied: node a may not have the certificate of node b"),
            ("system:node:a", vec![], vec!["a"], ""),
            (
                "system:node:a",
                vec![node("a", "192.0.2.1"), node("b", "192.0.2.1")],
                vec!["192.0.2.1"],
                "Denied: 192.0.2.1 is an address of node b too",
            ),
        ] {
            let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
            let found = verdict(cn, SPEC, &objects, &names);
            assert!(found.starts_with(want) && found.is_empty() == want.is_empty(), "{cn} {objects:?} {names:?}: {found}");
        }
    }

    #[test]
    fn nodes_get_what_is_theirs() {
        const SPEC: &str = "signerName: kubernetes.io/kube-apiserver-client-kubelet, usages: [digital signature, client auth]";
        let approver = Approver { authority: Arc::default() };
        let key = Key::of::<CertificateSigningRequest>("", "r");
        for (cn, organization, more, want) in [
            ("system:node:a", "system:nodes", format!("{SPEC}, username: x, groups: [system:masters]"), true),
            ("system:node:a", "system:nodes", format!("{SPEC}, username: x"), false),
            ("a", "system:nodes", format!("{SPEC}, username: x, groups: [system:masters]"), false),
            ("system:node:a", "system:nodes", format!("{}, username: x, groups: [system:masters]", SPEC.replace("-kubelet", "")), false),
            (
                "system:node:a",
                "system:nodes",
                format!("{}, username: x, groups: [system:masters]", SPEC.replace("client auth", "server auth")),
                false,
            ),
        ] {
            let mut world = World::of(&request(cn, organization, &more));
            world.settle(&approver, &key);
            let approved = super::super::has(&world.one::<CertificateSigningRequest>("r"), "Approved");
            assert_eq!(approved, want, "{cn} {organization} {more}");
        }
    }
}
