//! The ConfigMap `extension-apiserver-authentication` of kube-system: whom extension servers may believe.
//!
//! Follows upstream's `controlplane/controller/clusterauthenticationtrust`: authorities are added to those that are there, so that
//! several servers with different ones all stay trusted; lists of names are this server's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Trust;
use crate::api::{Key, Scope};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// Keeps it.
pub struct ClusterAuthentication {
    /// What it says.
    pub trust: Trust,
}

/// The certificates of `present` and `ours`, each once.
fn combined(present: &str, ours: &str) -> String {
    let blocks = |text: &str| -> Vec<String> {
        let ends = text.split_inclusive("-----END CERTIFICATE-----");
        ends.filter_map(|block| block.find("-----BEGIN CERTIFICATE-----").map(|at| block[at..].trim().to_owned())).collect()
    };
    let mut all = blocks(present);
    for block in blocks(ours) {
        if !all.contains(&block) {
            all.push(block);
        }
    }
    all.iter().map(|block| format!("{block}\n")).collect()
}

impl ClusterAuthentication {
    fn data(&self, present: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let list = |names: &[String]| serde_json::to_string(names).unwrap_or_default();
        let canonical = |names: &[String]| list(&names.iter().map(|name| canonical(name)).collect::<Vec<_>>());
        let pem = |key: &str, ours: &str| combined(present.get(key).map_or("", String::as_str), ours);
        let trust = &self.trust;
        BTreeMap::from([
            ("client-ca-file".into(), pem("client-ca-file", &trust.client_ca)),
            ("requestheader-client-ca-file".into(), pem("requestheader-client-ca-file", &trust.front_proxy_ca)),
            ("requestheader-allowed-names".into(), list(&trust.allowed_names)),
            ("requestheader-username-headers".into(), canonical(&trust.username_headers)),
            ("requestheader-uid-headers".into(), canonical(&trust.uid_headers)),
            ("requestheader-group-headers".into(), canonical(&trust.group_headers)),
            ("requestheader-extra-headers-prefix".into(), canonical(&trust.extra_prefixes)),
        ])
    }
}

/// `x-remote-user` as Go writes names of headers: `X-Remote-User`.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

impl Controller for ClusterAuthentication {
    fn name(&self) -> &'static str {
        "cluster-authentication-trust-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        let map = |event: &crate::server::store::Event| {
            let key = &event.entry.key;
            if key.namespace() == NAMESPACE && key.name() == NAME { vec![key.clone()] } else { Vec::new() }
        };
        vec![Trigger { scope: Scope::of::<ConfigMap>, map }]
    }
    fn startup(&self) -> Vec<Key> {
        vec![Key::of::<ConfigMap>(NAMESPACE, NAME)]
    }
    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(present) = view.at::<ConfigMap>(key) else {
            let metadata = ObjectMeta { name: Some(NAME.into()), namespace: Some(NAMESPACE.into()), ..ObjectMeta::default() };
            let data = Some(self.data(&BTreeMap::new()));
            return vec![Op::Create(Box::new(ConfigMap { metadata, data, ..ConfigMap::default() }))].into();
        };
        let empty = BTreeMap::new();
        let here = present.data.as_ref().unwrap_or(&empty);
        let mut data = here.clone();
        data.extend(self.data(here));
        if data == *here {
            return Outcome::default();
        }
        vec![Op::Update(Box::new(ConfigMap { data: Some(data), ..(*present).clone() }))].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::World;

    #[test]
    fn authorities_are_added_and_names_are_ours() {
        let block = |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        let trust = Trust {
            client_ca: block("ours"),
            front_proxy_ca: block("front"),
            username_headers: vec!["x-remote-user".into()],
            ..Trust::default()
        };
        let controller = ClusterAuthentication { trust };
        let key = Key::of::<ConfigMap>(NAMESPACE, NAME);
        let mut world = World::default();
        world.settle(&controller, &key);
        let data = |world: &World| world.one::<ConfigMap>(NAME).data.unwrap();
        assert_eq!(data(&world)["client-ca-file"], block("ours"));
        assert_eq!(data(&world)["requestheader-username-headers"], r#"["X-Remote-User"]"#);
        world.edit::<ConfigMap>(NAMESPACE, NAME, |map| {
            let data = map.data.as_mut().unwrap();
            data.insert("client-ca-file".into(), block("theirs"));
            data.insert("requestheader-group-headers".into(), "wrong".into());
        });
        world.settle(&controller, &key);
        assert_eq!(data(&world)["client-ca-file"], block("theirs") + &block("ours"));
        assert_eq!(data(&world)["requestheader-group-headers"], "[]");
    }
}
