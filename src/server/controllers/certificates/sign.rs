//! Signs approved requests of the signers `kubernetes.io/*`; a request that its signer can't accept is marked as failed.
//!
//! Follows upstream's `certificates/signer/signer.go`.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};

use super::{certificate, condition, has};
use crate::api::Key;
use crate::api::csr::{Csr, check_client_usages};
use crate::server::pki::{Pki, SignRequest};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

/// The shortest life of a certificate, unless that is more than the longest.
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);
/// Clocks differ: certificates begin a little earlier; those that live for less than this keep their whole life nevertheless.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
const SHORT: SignedDuration = SignedDuration::from_hours(8);
/// What fails for reasons of ours is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// The signer.
pub struct Signer {
    /// The authority.
    pub pki: Arc<Pki>,
    /// The longest life of a certificate, and that of one without wishes.
    pub longest: SignedDuration,
}

/// Whether the request is one that its signer signs. `None`: not a signer of ours.
fn check(spec: &CertificateSigningRequestSpec, csr: &Csr) -> Option<Result<(), String>> {
    let usages = spec.usages.as_deref().unwrap_or_default();
    Some(match spec.signer_name.as_str() {
        "kubernetes.io/kube-apiserver-client" => check_client_usages(usages),
        "kubernetes.io/kube-apiserver-client-kubelet" => csr.check_kubelet_client(usages),
        "kubernetes.io/kubelet-serving" => csr.check_kubelet_serving(usages),
        "kubernetes.io/legacy-unknown" => Ok(()),
        _ => return None,
    })
}

/// From when until when.
fn validity(expiration_seconds: Option<i32>, longest: SignedDuration, now: Timestamp) -> (Timestamp, Timestamp) {
    let asked = expiration_seconds.map_or(longest, |seconds| SignedDuration::from_secs(seconds.into()));
    let life = asked.max(SHORTEST).min(longest);
    let end = if life < SHORT { now + life } else { now + life - BACKDATE };
    (now - BACKDATE, end)
}

impl Signer {
    fn sign(&self, spec: &CertificateSigningRequestSpec, csr: &Csr, now: Timestamp) -> Result<String, String> {
        let (not_before, not_after) = validity(spec.expiration_seconds, self.longest, now);
        self.pki.sign_request(&SignRequest {
            subject_der: &csr.subject_der,
            public_key_der: &csr.public_key_der,
            dns_names: &csr.dns_names,
            emails: &csr.emails,
            ips: &csr.ips,
            uris: &csr.uris,
            usages: spec.usages.as_deref().unwrap_or_default(),
            not_before,
            not_after,
        })
    }
}

impl Controller for Signer {
    fn name(&self) -> &'static str {
        "certificate-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<CertificateSigningRequest>()]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(request) = view.at::<CertificateSigningRequest>(key) else { return Outcome::default() };
        if !has(&request, "Approved") || has(&request, "Failed") || has(&request, "Denied") || certificate(&request).is_some() {
            return Outcome::default();
        }
        // Validation has read it once already.
        let Ok(csr) = Csr::parse(&request.spec.request.0) else { return Outcome::default() };
        let Some(verdict) = check(&request.spec, &csr) else { return Outcome::default() };
        let mut done = (*request).clone();
        let status = done.status.get_or_insert_default();
        match verdict {
            Err(why) => {
                let failed = condition("Failed", "SignerValidationFailure", why, view.now());
                status.conditions.get_or_insert_default().push(failed);
            }
            Ok(()) => match self.sign(&request.spec, &csr, view.now()) {
                Ok(pem) => status.certificate = Some(ByteString(pem.into_bytes())),
                Err(why) => {
                    tracing::warn!(request = key.name(), why, "signing a certificate");
                    return Outcome { ops: Vec::new(), again: Some(RETRY) };
                }
            },
        }
        vec![Op::UpdateStatus(Box::new(done))].into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::request;
    use super::*;
    use crate::server::pki::PkiConfig;
    use crate::server::reconcile::testing::World;

    const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);

    #[test]
    fn lives() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let life = |seconds| {
            let (begin, end) = validity(seconds, LONGEST, now);
            assert_eq!(now.duration_since(begin), BACKDATE);
            end.duration_since(now)
        };
        assert_eq!(life(None), LONGEST - BACKDATE);
        assert_eq!(life(Some(1)), SHORTEST);
        assert_eq!(life(Some(3600)), SignedDuration::from_hours(1));
        assert_eq!(life(Some(i32::MAX)), LONGEST - BACKDATE);
    }

    #[test]
    fn approved_requests_are_signed_or_fail() {
        let dir = tempfile::tempdir().unwrap();
        let config = PkiConfig {
            host_name: "h".into(),
            node_ips: vec![],
            service_ip: [10, 43, 0, 1].into(),
            cluster_domain: "cluster.local".into(),
            tls_sans: vec![],
            front_proxy_ca_pem: None,
        };
        let signer = Signer { pki: Arc::new(Pki::open(dir.path(), &config).unwrap()), longest: LONGEST };
        let key = Key::of::<CertificateSigningRequest>("", "r");
        const CLIENT: &str = "signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]";
        const APPROVED: &str = "status: {conditions: [{type: Approved, status: 'True'}]}\n";
        for (spec, status, want) in [
            (CLIENT, APPROVED, "issued"),
            (CLIENT, "", "nothing"),
            (CLIENT, "status: {conditions: [{type: Approved, status: 'True'}, {type: Denied, status: 'True'}]}\n", "nothing"),
            (
                "signerName: kubernetes.io/kube-apiserver-client, usages: [server auth]",
                APPROVED,
                "invalid usage for client certificate: server auth",
            ),
            ("signerName: kubernetes.io/kubelet-serving, usages: [server auth]", APPROVED, "subject organization is not system:nodes"),
            ("signerName: example.org/x, usages: [server auth]", APPROVED, "nothing"),
        ] {
            let mut world = World::of(&format!("{}{status}", request("ann", "devs", spec)));
            world.settle(&signer, &key);
            let done = world.one::<CertificateSigningRequest>("r");
            let failed = super::super::conditions(&done).find(|c| c.type_ == "Failed").and_then(|c| c.message.clone());
            let got = failed.unwrap_or_else(|| if certificate(&done).is_some() { "issued".into() } else { "nothing".into() });
            assert_eq!(got, want, "{spec} {status}");
        }
    }
}
