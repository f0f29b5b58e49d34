//! What every cluster and every namespace has: the system namespaces, a `default` ServiceAccount, and the cluster's CA.
//!
//! Follows upstream's `systemnamespaces`, `serviceaccounts_controller` and `rootcacertpublisher`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

/// Namespaces that are there from the start, and come back.
const SYSTEM: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
/// The account of pods that name none.
const ACCOUNT: &str = "default";
/// Where pods find the CA.
const CA_MAP: &str = "kube-root-ca.crt";

/// Creates the system namespaces.
pub struct SystemNamespaces;

/// Creates the `default` ServiceAccount of each namespace.
pub struct DefaultAccounts;

/// Publishes the cluster's CA in each namespace.
pub struct RootCa {
    /// PEM.
    pub ca_pem: String,
}

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()).filter(|n: &String| !n.is_empty()), ..ObjectMeta::default() }
}

fn named(event: &Event, name: &str) -> Vec<Key> {
    if event.entry.key.name() == name { vec![Key::of::<Namespace>("", event.entry.key.namespace())] } else { Vec::new() }
}

/// The namespace, unless it is going away.
fn living(key: &Key, view: &View) -> bool {
    view.at::<Namespace>(key).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
}

impl Controller for SystemNamespaces {
    fn name(&self) -> &'static str {
        "system-namespaces-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<Namespace>()]
    }
    fn startup(&self) -> Vec<Key> {
        SYSTEM.iter().map(|name| Key::of::<Namespace>("", name)).collect()
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        if !SYSTEM.contains(&key.name()) || view.entry(key).is_some() {
            return Outcome::default();
        }
        vec![Op::Create(Box::new(Namespace { metadata: meta("", key.name()), ..Namespace::default() }))].into()
    }
}

impl Controller for DefaultAccounts {
    fn name(&self) -> &'static str {
        "service-account-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<Namespace>(), Trigger { scope: Scope::of::<ServiceAccount>, map: |event| named(event, ACCOUNT) }]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        if !living(key, view) || view.entry(&Key::of::<ServiceAccount>(key.name(), ACCOUNT)).is_some() {
            return Outcome::default();
        }
        vec![Op::Create(Box::new(ServiceAccount { metadata: meta(key.name(), ACCOUNT), ..ServiceAccount::default() }))].into()
    }
}

impl Controller for RootCa {
    fn name(&self) -> &'static str {
        "root-ca-certificate-publisher"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<Namespace>(), Trigger { scope: Scope::of::<ConfigMap>, map: |event| named(event, CA_MAP) }]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        if !living(key, view) {
            return Outcome::default();
        }
        let data = Some(BTreeMap::from([("ca.crt".to_owned(), self.ca_pem.clone())]));
        match view.get::<ConfigMap>(key.name(), CA_MAP) {
            Some(present) if present.data == data => Outcome::default(),
            Some(present) => vec![Op::Update(Box::new(ConfigMap { data, ..(*present).clone() }))].into(),
            None => {
                let mut metadata = meta(key.name(), CA_MAP);
                let why = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
                metadata.annotations = Some(BTreeMap::from([("kubernetes.io/description".to_owned(), why.to_owned())]));
                vec![Op::Create(Box::new(ConfigMap { metadata, data, ..ConfigMap::default() }))].into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::check;

    #[test]
    fn namespaces_are_furnished() {
        let key = Key::of::<Namespace>("", "default");
        check(&SystemNamespaces, "", &key, &["create Namespace default"]);
        let namespace = "kind: Namespace\nmetadata: {name: default}\n";
        check(&SystemNamespaces, namespace, &key, &[]);
        let ca = RootCa { ca_pem: "new".into() };
        check(&DefaultAccounts, namespace, &key, &["create ServiceAccount default"]);
        check(&ca, namespace, &key, &["create ConfigMap kube-root-ca.crt"]);
        let map =
            format!("{namespace}---\nkind: ConfigMap\nmetadata: {{name: kube-root-ca.crt, namespace: default}}\ndata: {{ca.crt: old}}");
        check(&ca, &map, &key, &["update ConfigMap kube-root-ca.crt"]);
        check(&ca, &map.replace("old", "new"), &key, &[]);
        let ending = namespace.replace("default}", "default, deletionTimestamp: '2026-01-01T00:00:00Z'}");
        check(&DefaultAccounts, &ending, &key, &[]);
        check(&ca, &ending, &key, &[]);
    }
}
