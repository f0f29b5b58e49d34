//! Secrets of type `kubernetes.io/service-account-token`: filled in while their account lives, removed with it.
//!
//! Follows upstream's `pkg/controller/serviceaccount/tokens_controller.go`.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};

use crate::api::{Key, Scope};
use crate::server::auth::token::TokenKey;
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};
use crate::server::store::Event;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Fills and removes them.
pub struct SecretTokens {
    /// Signs.
    pub key: Arc<TokenKey>,
    /// The cluster's authority, PEM.
    pub ca_pem: String,
}

/// A Secret is its own key; an account wakes itself, and with it all Secrets of its namespace that name it.
fn accounts(event: &Event) -> Vec<Key> {
    vec![event.entry.key.clone()]
}

impl SecretTokens {
    fn secret(&self, secret: &Secret, view: &View) -> Option<Op> {
        let annotation = |key: &str| secret.metadata.annotations.as_ref().and_then(|all| all.get(key)).map_or("", String::as_str);
        let (name, wanted_uid) = (annotation(ACCOUNT), annotation(ACCOUNT_UID));
        if secret.type_.as_deref() != Some(TYPE) || name.is_empty() || secret.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
        let account = view.get::<ServiceAccount>(namespace, name);
        let uid = account.as_ref().and_then(|account| account.metadata.uid.as_deref());
        let Some(uid) = uid.filter(|uid| wanted_uid.is_empty() || wanted_uid == *uid) else { return Some(Op::delete(secret)) };
        let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.as_slice());
        let current = data("ca.crt") == Some(self.ca_pem.as_bytes())
            && data("namespace") == Some(namespace.as_bytes())
            && data("token").is_some_and(|token| !token.is_empty())
            && wanted_uid == uid;
        if current {
            return None;
        }
        let mut filled = secret.clone();
        let values = filled.data.get_or_insert_default();
        values.insert("ca.crt".into(), ByteString(self.ca_pem.clone().into_bytes()));
        values.insert("namespace".into(), ByteString(namespace.as_bytes().to_vec()));
        if data("token").is_none_or(<[u8]>::is_empty) {
            let token = self.key.sign_legacy(namespace, name, uid, secret.metadata.name.as_deref().unwrap_or_default());
            let token = token.inspect_err(|error| tracing::error!(%error, "signing a token for a Secret")).ok()?;
            values.insert("token".into(), ByteString(token.into_bytes()));
        }
        let annotations = filled.metadata.annotations.get_or_insert_default();
        annotations.insert(ACCOUNT_UID.into(), uid.into());
        Some(Op::Update(Box::new(filled)))
    }
}

impl Controller for SecretTokens {
    fn name(&self) -> &'static str {
        "token-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<Secret>(), Trigger { scope: Scope::of::<ServiceAccount>, map: accounts }]
    }
    fn user(&self) -> String {
        "system:kube-controller-manager".into()
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        if key.is::<Secret>() {
            return view.at::<Secret>(key).and_then(|secret| self.secret(&secret, view)).into_iter().collect::<Vec<_>>().into();
        }
        let named =
            |secret: &Arc<Secret>| secret.metadata.annotations.as_ref().and_then(|all| all.get(ACCOUNT)).is_some_and(|n| n == key.name());
        let secrets = view.list::<Secret>(Some(key.namespace())).filter(named);
        secrets.filter_map(|secret| self.secret(&secret, view)).collect::<Vec<_>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::token::Verified;
    use crate::server::auth::token::tests::key;
    use crate::server::reconcile::testing::World;

    const SECRET: &str = "
kind: Secret
metadata: {name: s, namespace: ns, annotations: {kubernetes.io/service-account.name: web}}
type: kubernetes.io/service-account-token
";
    const WEB: &str = "kind: ServiceAccount\nmetadata: {name: web, namespace: ns}\n";

    #[test]
    fn tokens_come_and_go_with_their_account() {
        let controller = SecretTokens { key: Arc::new(key()), ca_pem: "ca".into() };
        let mut world = World::of(&format!("{WEB}---{SECRET}"));
        let secret = Key::of::<Secret>("ns", "s");
        world.settle(&controller, &secret);
        let filled = world.one::<Secret>("s");
        let data = filled.data.unwrap();
        assert_eq!((data["ca.crt"].0.as_slice(), data["namespace"].0.as_slice()), (&b"ca"[..], &b"ns"[..]));
        assert_eq!(filled.metadata.annotations.unwrap()[ACCOUNT_UID], "web-uid");
        let token = String::from_utf8(data["token"].0.clone()).unwrap();
        let verified = controller.key.verify(&token).unwrap().unwrap();
        assert!(matches!(&*verified, Verified::Legacy(claims) if claims.secret == "s" && claims.uid == "web-uid"));
        // The account is another one of that name.
        world.edit::<ServiceAccount>("ns", "web", |account| account.metadata.uid = Some("new".into()));
        world.settle(&controller, &Key::of::<ServiceAccount>("ns", "web"));
        assert!(world.all::<Secret>().is_empty());
        // Without an account there is no token.
        let mut world = World::of(SECRET);
        world.settle(&controller, &secret);
        assert!(world.all::<Secret>().is_empty());
    }

    #[test]
    fn other_secrets_are_left_alone() {
        let controller = SecretTokens { key: Arc::new(key()), ca_pem: "ca".into() };
        for yaml in [SECRET.replace("kubernetes.io/service-account-token", "Opaque"), SECRET.replace("service-account.name: web", "x: y")] {
            let mut world = World::of(&yaml);
            assert!(world.step(&controller, &Key::of::<Secret>("ns", "s")).ops.is_empty(), "{yaml}");
        }
    }
}
