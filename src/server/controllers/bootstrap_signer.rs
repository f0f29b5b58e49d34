//! Signs `kube-public/cluster-info` with each bootstrap token that is for signing, so that whoever has one can tell that it is genuine.
//!
//! A signature is a detached JWS (RFC 7515, appendix F) of the kubeconfig, HS256, keyed by the token's secret half; it stands beside the
//! kubeconfig under `jws-kubeconfig-ID`. Follows upstream's `pkg/controller/bootstrap/bootstrapsigner.go` and `cluster-bootstrap/token/jws`.
//!
//! Invariant: there is a signature for each token that holds now, and no other. Never: makes the ConfigMap (`bootstrap::join` does).

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use ring::hmac;

use super::pods;
use crate::api::cluster::{INFO, INFO_KUBECONFIG, INFO_SIGNATURE};
use crate::api::{Key, Scope};
use crate::server::auth::authn::bootstrap_token::{NAMESPACE, PREFIX, TYPE, expiration, text};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

/// Letters of a token's ID.
const ID_LENGTH: usize = 6;

/// The signer.
pub struct BootstrapSigner;

fn info() -> Key {
    Key::of::<ConfigMap>(INFO.0, INFO.1)
}

/// The detached signature of `content` with a token.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(serde_json::json!({"alg": "HS256", "kid": id}).to_string());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
}

/// ID and secret half of a token that is for signing. `None`: it is for other things, or its Secret is not well made.
fn token(secret: &Secret) -> Option<(&str, &str)> {
    let id = secret.metadata.name.as_deref()?.strip_prefix(PREFIX)?;
    let legal = id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let signs = secret.type_.as_deref() == Some(TYPE) && text(secret, "usage-bootstrap-signing") == Some("true");
    let half = text(secret, "token-secret").filter(|half| !half.is_empty())?;
    (legal && signs && text(secret, "token-id") == Some(id)).then_some((id, half))
}

impl Controller for BootstrapSigner {
    fn name(&self) -> &'static str {
        "bootstrap-signer"
    }
    fn triggers(&self) -> Vec<Trigger> {
        let map = |event: &Event| if event.entry.key == info() { vec![info()] } else { Vec::new() };
        let token = |event: &Event| {
            let key = &event.entry.key;
            if key.namespace() == NAMESPACE && key.name().starts_with(PREFIX) { vec![info()] } else { Vec::new() }
        };
        vec![Trigger { scope: Scope::of::<ConfigMap>, map }, Trigger { scope: Scope::of::<Secret>, map: token }]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(present) = view.at::<ConfigMap>(key) else { return Outcome::default() };
        let empty = BTreeMap::new();
        let here = present.data.as_ref().unwrap_or(&empty);
        let Some(content) = here.get(INFO_KUBECONFIG) else { return Outcome::default() };
        let mut outcome = Outcome::default();
        let mut data: BTreeMap<String, String> = here.clone();
        data.retain(|key, _| !key.starts_with(INFO_SIGNATURE));
        for secret in view.list::<Secret>(Some(NAMESPACE)) {
            let Some((id, half)) = token(&secret) else { continue };
            if let Some(end) = expiration(&secret) {
                // The cleaner removes it then; this does not rely on it.
                let end = jiff::Timestamp::from_second(end).unwrap_or(jiff::Timestamp::MIN);
                let Some(wait) = pods::remaining(end, 0, view.now()) else { continue };
                outcome.again_in(wait.max(Duration::from_secs(1)));
            }
            data.insert(format!("{INFO_SIGNATURE}{id}"), signature(content, id, half));
        }
        if data != *here {
            outcome.ops.push(Op::Update(Box::new(ConfigMap { data: Some(data), ..(*present).clone() })));
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::World;

    const WHAT: &str = "Hello from the other side. I must have called a thousand times.";

    /// A token's Secret; `fields` come over those of a good one.
    fn secret(id: &str, kind: &str, fields: &[(&str, &str)]) -> String {
        let good = [("token-id", id), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-signing", "true")];
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let data: BTreeMap<_, _> = good.iter().chain(fields).map(|(key, value)| (*key, encode(value))).collect();
        let data = serde_json::to_string(&data).unwrap();
        format!("---\nkind: Secret\nmetadata: {{name: {PREFIX}{id}, namespace: {NAMESPACE}}}\ntype: {kind}\ndata: {data}\n")
    }

    #[test]
    fn as_upstream_signs() {
        // From upstream's jws_test.go.
        let secret = "my voice is my passcode";
        for (content, secret, want) in [
            (WHAT, secret, "VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"),
            ("", secret, "7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk"),
            (WHAT, "", "UfkqvDGiIFxrMnFseDj9LYJOLNrvjW8aHhF71mvvAs8"),
        ] {
            assert_eq!(signature(content, "joshua", secret), format!("eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..{want}"));
        }
    }

    #[test]
    fn tokens_that_sign() {
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], bool);
        let table: &[Case] = &[
            ("abcdef", TYPE, &[], true),
            ("abcdef", "Opaque", &[], false),
            ("abcdefg", TYPE, &[], false),
            ("abc-ef", TYPE, &[], false),
            ("abcdef", TYPE, &[("token-id", "fedcba")], false),
            ("abcdef", TYPE, &[("token-secret", "")], false),
            ("abcdef", TYPE, &[("usage-bootstrap-signing", "false")], false),
            ("abcdef", TYPE, &[("expiration", "2025-12-31T23:59:59Z")], false),
            ("abcdef", TYPE, &[("expiration", "soon")], false),
            ("abcdef", TYPE, &[("expiration", "2026-01-01T00:10:00Z")], true),
        ];
        for (id, kind, fields, signs) in table {
            let map = format!("kind: ConfigMap\nmetadata: {{name: {}, namespace: {}}}\ndata: {{kubeconfig: x}}\n", INFO.1, INFO.0);
            let mut world = World::of(&(map + &secret(id, kind, fields)));
            world.settle(&BootstrapSigner, &info());
            let data = world.one::<ConfigMap>(INFO.1).data.unwrap();
            assert_eq!(data.contains_key(&format!("{INFO_SIGNATURE}{id}")), *signs, "{id} {kind} {fields:?}");
        }
    }

    #[test]
    fn signatures_follow_what_is_signed_and_who_may_sign() {
        let map = format!(
            "kind: ConfigMap\nmetadata: {{name: {}, namespace: {}}}\ndata: {{kubeconfig: one, other: kept, jws-kubeconfig-gone00: x}}\n",
            INFO.1, INFO.0
        );
        let mut world =
            World::of(&(map + &secret("aaaaaa", TYPE, &[]) + &secret("bbbbbb", TYPE, &[("expiration", "2026-01-01T00:10:00Z")])));
        let of = |world: &World| world.one::<ConfigMap>(INFO.1).data.unwrap();
        let good = |id: &str, content: &str| signature(content, id, "0123456789abcdef");
        let outcome = world.step(&BootstrapSigner, &info());
        assert_eq!(outcome.again, Some(Duration::from_secs(600)));
        let keys: Vec<String> = of(&world).into_keys().collect();
        assert_eq!(keys, ["jws-kubeconfig-aaaaaa", "jws-kubeconfig-bbbbbb", "kubeconfig", "other"]);
        world.edit::<ConfigMap>(INFO.0, INFO.1, |map| {
            map.data.as_mut().unwrap().insert("kubeconfig".into(), "two".into());
        });
        world.settle(&BootstrapSigner, &info());
        assert_eq!(of(&world)["jws-kubeconfig-aaaaaa"], good("aaaaaa", "two"));
        world.remove(&Key::of::<Secret>(NAMESPACE, &format!("{PREFIX}aaaaaa")));
        world.wait(Duration::from_secs(600));
        world.settle(&BootstrapSigner, &info());
        let keys: Vec<String> = of(&world).into_keys().collect();
        assert_eq!(keys, ["kubeconfig", "other"]);
        assert!(world.step(&BootstrapSigner, &info()).ops.is_empty(), "nothing is left to do");
    }
}
