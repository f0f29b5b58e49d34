//! Removes bootstrap tokens when their time is over.
//!
//! Follows upstream's `pkg/controller/bootstrap/tokencleaner.go`.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;

use super::pods;
use crate::api::{Key, Scope};
use crate::server::auth::authn::bootstrap_token::{NAMESPACE, TYPE, expiration};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

/// The cleaner.
pub struct TokenCleaner;

impl Controller for TokenCleaner {
    fn name(&self) -> &'static str {
        "token-cleaner"
    }
    fn triggers(&self) -> Vec<Trigger> {
        let map = |event: &crate::server::store::Event| {
            let key = &event.entry.key;
            if key.namespace() == NAMESPACE { vec![key.clone()] } else { Vec::new() }
        };
        vec![Trigger { scope: Scope::of::<Secret>, map }]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(secret) = view.at::<Secret>(key).filter(|secret| secret.type_.as_deref() == Some(TYPE)) else {
            return Outcome::default();
        };
        let Some(end) = expiration(&secret) else { return Outcome::default() };
        let end = jiff::Timestamp::from_second(end).unwrap_or(jiff::Timestamp::MIN);
        match pods::remaining(end, 0, view.now()) {
            Some(wait) => Outcome { ops: Vec::new(), again: Some(wait.max(Duration::from_secs(1))) },
            None => vec![Op::delete(&*secret)].into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::check;
    use base64::Engine;

    #[test]
    fn at_their_time() {
        let key = Key::of::<Secret>(NAMESPACE, "bootstrap-token-a");
        let token = |kind: &str, end: &str| {
            let end = base64::engine::general_purpose::STANDARD.encode(end);
            format!(
                "kind: Secret\nmetadata: {{name: bootstrap-token-a, namespace: kube-system}}\ntype: {kind}\ndata: {{expiration: {end}}}"
            )
        };
        let gone = ["delete /secrets/kube-system/bootstrap-token-a"];
        check(&TokenCleaner, &token(TYPE, "2025-12-31T23:59:59Z"), &key, &gone);
        check(&TokenCleaner, &token("Opaque", "2025-12-31T23:59:59Z"), &key, &[]);
        check(&TokenCleaner, &token(TYPE, ""), &key, &[]);
        let outcome = check(&TokenCleaner, &token(TYPE, "2026-01-01T00:10:00Z"), &key, &[]);
        assert_eq!(outcome.again, Some(Duration::from_secs(600)));
    }
}
