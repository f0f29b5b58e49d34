//! The verbs over a real store, with kinds of the tests' own.

mod doubles;
mod reading;
mod writing;

use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use serde_json::Value;

use super::*;
use crate::api::Kind;
use crate::server::store::{Change, Draft, Expect, Limits};

/// A registry with namespace and service account `default`, and the directory that its store lives in.
pub(super) struct Fixture {
    pub(super) registry: Registry,
    _dir: tempfile::TempDir,
}

impl Fixture {
    pub(super) async fn new() -> Fixture {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), Limits::default(), INDEXES).expect("opens");
        put::<Namespace>(&store, "", "default", "{apiVersion: v1, kind: Namespace, metadata: {name: default}}").await;
        let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: default}}";
        put::<ServiceAccount>(&store, "default", "default", account).await;
        Fixture { registry: Registry::new(store, &doubles::KINDS), _dir: dir }
    }

    pub(super) fn kind(&self, resource: &str) -> &'static KindRef {
        doubles::KINDS.iter().find(|kind| kind.resource() == resource).expect("a kind of the tests")
    }

    async fn create(&self, resource: &str, yaml: &str) -> Result<Written, Status> {
        self.registry.create(self.kind(resource), "default", body(yaml), &WriteOptions::default()).await
    }

    async fn update(&self, resource: &str, name: &str, part: Part, yaml: &str) -> Result<Written, Status> {
        self.registry.update(self.kind(resource), "default", name, part, body(yaml), &WriteOptions::default()).await
    }

    async fn delete(&self, resource: &str, name: &str, options: DeleteOptions) -> Result<Deleted, Status> {
        self.registry.delete(self.kind(resource), "default", name, &options, &WriteOptions::default()).await
    }

    async fn value(&self, resource: &str, name: &str) -> Value {
        json(&self.registry.get(self.kind(resource), "default", name).await.expect("is there"))
    }
}

/// Writes an object past the registry.
pub(super) async fn put<T: Kind>(store: &Store, namespace: &str, name: &str, yaml: &str) {
    let object: T = serde_yaml::from_str(yaml).expect("a test object");
    store.commit(Key::of::<T>(namespace, name), Expect::Absent, Change::Put(Draft::of(Arc::new(object)))).await.expect("written");
}

fn body(yaml: &str) -> Body {
    Body { bytes: Bytes::copy_from_slice(yaml.as_bytes()), format: Format::Yaml }
}

fn json(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.json).expect("JSON")
}

/// Code and message of a refusal.
fn refusal<T>(result: Result<T, Status>) -> (u16, String) {
    let status = result.err().expect("refused");
    (status.code, status.message)
}
