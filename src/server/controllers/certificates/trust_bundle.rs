//! The ClusterTrustBundle of `kubernetes.io/kube-apiserver-serving`: whom to trust when calling the API.
//!
//! Follows upstream's `certificates/clustertrustbundlepublisher`.

use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, ClusterTrustBundleSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";
/// Bundles of a signer are called after it.
const PREFIX: &str = "kubernetes.io:kube-apiserver-serving:";

/// The publisher.
pub struct ServingTrustBundle {
    /// PEM.
    pub ca_pem: String,
}

impl ServingTrustBundle {
    /// A name that says which certificates are in it, as upstream: the first half of their digest.
    fn object_name(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.ca_pem.as_bytes());
        let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{PREFIX}{hex}")
    }
}

impl Controller for ServingTrustBundle {
    fn name(&self) -> &'static str {
        "kube-apiserver-serving-clustertrustbundle-publisher"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger { scope: Scope::of::<ClusterTrustBundle>, map: |_| vec![Key::of::<ClusterTrustBundle>("", PREFIX)] }]
    }
    fn startup(&self) -> Vec<Key> {
        vec![Key::of::<ClusterTrustBundle>("", PREFIX)]
    }
    fn reconcile(&self, _: &Key, view: &View) -> Outcome {
        let name = self.object_name();
        let spec = ClusterTrustBundleSpec { signer_name: Some(SIGNER.into()), trust_bundle: self.ca_pem.clone() };
        let mut ops = Vec::new();
        let mut there = false;
        for bundle in view.list::<ClusterTrustBundle>(None).filter(|b| b.spec.signer_name.as_deref() == Some(SIGNER)) {
            if bundle.metadata.name.as_deref() != Some(&name) {
                // Of an authority that is no more; after the new one is there.
                ops.push(Op::delete(&*bundle));
                continue;
            }
            there = true;
            if bundle.spec != spec {
                ops.insert(0, Op::Update(Box::new(ClusterTrustBundle { spec: spec.clone(), ..(*bundle).clone() })));
            }
        }
        if !there {
            let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
            ops.insert(0, Op::Create(Box::new(ClusterTrustBundle { metadata, spec })));
        }
        ops.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::check;

    #[test]
    fn the_bundle_follows_the_authority() {
        let publisher = ServingTrustBundle { ca_pem: "ca".into() };
        let key = Key::of::<ClusterTrustBundle>("", PREFIX);
        let name = publisher.object_name();
        let made = format!("create ClusterTrustBundle {name}");
        check(&publisher, "", &key, &[&made]);
        let bundle = |name: &str, ca: &str| {
            format!("kind: ClusterTrustBundle\nmetadata: {{name: '{name}'}}\nspec: {{signerName: {SIGNER}, trustBundle: {ca}}}\n")
        };
        check(&publisher, &bundle(&name, "ca"), &key, &[]);
        check(&publisher, &bundle(&name, "other"), &key, &[&format!("update ClusterTrustBundle {name}")]);
        let old = format!("{PREFIX}old");
        let removed = format!("delete certificates.k8s.io/clustertrustbundles//{old}");
        check(&publisher, &bundle(&old, "other"), &key, &[&made, &removed]);
    }
}
