//! Removes requests that nobody needs any more, an hour after they were settled or a day after they were forgotten.
//!
//! Follows upstream's `certificates/cleaner/cleaner.go`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{certificate, conditions};
use crate::api::Key;
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

const SETTLED: i64 = 3600;
const PENDING: i64 = 24 * 3600;

/// The cleaner.
pub struct Cleaner;

/// When the request is due; `None`: not as it is.
fn due(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let created = request.metadata.creation_timestamp.as_ref().map(|time| time.0)?;
    let after = |time: Timestamp, seconds: i64| time.checked_add(jiff::SignedDuration::from_secs(seconds)).ok();
    let pem = certificate(request);
    let mut times: Vec<Timestamp> = Vec::new();
    let mut settled = false;
    for condition in conditions(request) {
        let time = condition.last_update_time.as_ref().map_or(created, |time| time.0);
        let counts = match condition.type_.as_str() {
            "Approved" => pem.is_some(),
            "Denied" | "Failed" => true,
            _ => false,
        };
        settled = true;
        times.extend(counts.then(|| after(time, SETTLED)).flatten());
    }
    if !settled {
        times.extend(after(created, PENDING));
    }
    if let Some(der) = pem.and_then(|pem| CertificateDer::from_pem_slice(pem).ok())
        && let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&der)
    {
        times.extend(Timestamp::from_second(certificate.validity().not_after.timestamp()).ok());
    }
    times.into_iter().min()
}

impl Controller for Cleaner {
    fn name(&self) -> &'static str {
        "certificate-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<CertificateSigningRequest>()]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(request) = view.at::<CertificateSigningRequest>(key) else { return Outcome::default() };
        let Some(due) = due(&request) else { return Outcome::default() };
        let left = due.duration_since(view.now());
        if left.is_positive() {
            let wait = Duration::try_from(left).unwrap_or_default().max(Duration::from_secs(1));
            return Outcome { ops: Vec::new(), again: Some(wait) };
        }
        vec![Op::delete(&*request)].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::check;

    #[test]
    fn what_is_settled_goes_sooner() {
        let key = Key::of::<CertificateSigningRequest>("", "r");
        let request = |created: &str, status: &str| {
            format!(
                "kind: CertificateSigningRequest\nmetadata: {{name: r, creationTimestamp: '{created}'}}\n\
                 spec: {{request: '', signerName: a/b, usages: []}}\nstatus: {status}"
            )
        };
        let condition = |kind: &str, time: &str| format!("{{conditions: [{{type: {kind}, status: 'True', lastUpdateTime: '{time}'}}]}}");
        let gone = ["delete certificates.k8s.io/certificatesigningrequests//r"];
        let (young, old) = ("2025-12-31T23:30:00Z", "2025-12-30T00:00:00Z");
        for (created, status, want) in [
            (young, "{}".to_owned(), &[][..]),
            (old, "{}".to_owned(), &gone[..]),
            (old, condition("Denied", young), &[]),
            (old, condition("Denied", "2025-12-31T22:00:00Z"), &gone),
            (old, condition("Failed", "2025-12-31T22:00:00Z"), &gone),
            (old, condition("Approved", old), &[]),
            (old, condition("Approved", old).replace("{conditions", "{certificate: Zm9v, conditions"), &gone),
        ] {
            check(&Cleaner, &request(created, &status), &key, want);
        }
    }
}
