//! Every kind in every version through every verb: one walk over `kinds.yaml`, held against the server's table of kinds.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use orch::server::kinds::KINDS;
use orch::server::registry::KindRef;
use serde_json::{Value, json};

use super::objects::{collection, objects, row, text, twin};
use super::protobuf;
use super::support::{Server, server};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// Every field of `wanted` is in `found`, at the same place with the same value.
fn contains(found: &Value, wanted: &Value, at: &str) {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            for (key, value) in wanted {
                contains(found.get(key).unwrap_or_else(|| panic!("{at}.{key} is missing")), value, &format!("{at}.{key}"));
            }
        }
        (Value::Array(found), Value::Array(wanted)) if found.len() >= wanted.len() => {
            for (index, value) in wanted.iter().enumerate() {
                contains(&found[index], value, &format!("{at}[{index}]"));
            }
        }
        // 1 and 1.0 are the same number to JSON.
        (Value::Number(found), Value::Number(wanted)) => assert_eq!(found.as_f64(), wanted.as_f64(), "{at}"),
        _ => assert_eq!(found, wanted, "{at}"),
    }
}

fn revision(object: &Value) -> u64 {
    text(&object["metadata"]["resourceVersion"]).parse().unwrap_or_else(|_| panic!("no revision: {object}"))
}

/// One object's walk.
struct Walk<'a> {
    api: &'a Server,
    kind: &'static KindRef,
    all: String,
    one: String,
    object: &'a Value,
}

impl Walk<'_> {
    async fn ask(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.api.ask("admin", method, uri, headers, &body).await;
        assert!(answer.code < 300, "{:?} {method} {uri}: {} {}", self.kind, answer.code, answer.body);
        answer.body
    }

    async fn get(&self) -> Value {
        self.ask("GET", &self.one, &[], &Value::Null).await
    }

    /// Created, read back equal, and stable: what was read may be written, and changes nothing.
    async fn creates(&self) -> Value {
        let dry = self.ask("POST", &format!("{}?dryRun=All&fieldValidation=Strict", self.all), &[], self.object).await;
        contains(&dry, self.object, "dry run");
        assert_eq!(self.api.ask("admin", "GET", &self.one, &[], "").await.code, 404, "{:?}: a dry run stores nothing", self.kind);
        let made = self.ask("POST", &format!("{}?fieldValidation=Strict", self.all), &[], self.object).await;
        contains(&made, self.object, self.kind.kind());
        for field in ["uid", "creationTimestamp", "resourceVersion"] {
            assert!(!text(&made["metadata"][field]).is_empty(), "{:?} has no {field}", self.kind);
        }
        assert_eq!(self.get().await, made);
        let again = self.ask("PUT", &self.one, &[], &made).await;
        assert_eq!(again, made, "{:?}: writing what was read changes nothing", self.kind);
        made
    }

    /// A change by each of PUT and the four patches; returns the last state.
    async fn changes(&self, made: &Value) -> Value {
        let mut wanted = made.clone();
        wanted["metadata"]["labels"]["put"] = "yes".into();
        let put = self.ask("PUT", &self.one, &[], &wanted).await;
        assert!(revision(&put) > revision(made) && put["metadata"]["labels"]["put"] == "yes", "{:?}: {put}", self.kind);
        assert_eq!(put["metadata"].get("generation"), made["metadata"].get("generation"), "{:?}: labels are not the spec", self.kind);
        let label = |name: &str| json!({"metadata": {"labels": {name: "yes"}}});
        let apply = json!({
            "apiVersion": self.object["apiVersion"], "kind": self.object["kind"],
            "metadata": {"name": self.object["metadata"]["name"], "labels": {"apply": "yes"}},
        });
        let patches = [
            ("json", "application/json-patch+json", json!([{"op": "add", "path": "/metadata/labels/json", "value": "yes"}])),
            ("merge", "application/merge-patch+json", label("merge")),
            ("strategic", "application/strategic-merge-patch+json", label("strategic")),
            ("apply", "application/apply-patch+yaml", apply),
        ];
        let mut last = put;
        for (name, media, patch) in patches {
            let uri = format!("{}?fieldManager=walk", self.one);
            let patched = self.ask("PATCH", &uri, &[("content-type", media)], &patch).await;
            assert_eq!(patched["metadata"]["labels"][name], "yes", "{:?}: {name}", self.kind);
            assert!(revision(&patched) > revision(&last), "{:?}: {name}", self.kind);
            last = patched;
        }
        assert_eq!(self.get().await, last);
        last
    }

    /// Two objects, in chunks, as a Table, and as metadata alone.
    async fn lists(&self) {
        let twin = twin(self.object);
        self.ask("POST", &self.all, &[], &twin).await;
        let mut names = Vec::new();
        let mut uri = format!("{}?limit=1", self.all);
        loop {
            let page = self.ask("GET", &uri, &[], &Value::Null).await;
            assert_eq!(page["kind"], self.kind.list_kind());
            assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{:?}", self.kind);
            names.push(text(&page["items"][0]["metadata"]["name"]).to_owned());
            let Some(token) = page["metadata"]["continue"].as_str() else { break };
            uri = format!("{}?limit=1&continue={token}", self.all);
        }
        for object in [self.object, &twin] {
            assert!(names.iter().any(|name| name == text(&object["metadata"]["name"])), "{:?}: {names:?}", self.kind);
        }
        let table = self.ask("GET", &self.all, &[("accept", TABLE)], &Value::Null).await;
        let columns = table["columnDefinitions"].as_array().unwrap();
        let rows = table["rows"].as_array().unwrap();
        assert_eq!((rows.len(), columns.iter().filter(|column| column["name"] == "Name").count()), (names.len(), 1), "{:?}", self.kind);
        for row in rows {
            assert_eq!(row["cells"].as_array().map(Vec::len), Some(columns.len()), "{:?}", self.kind);
        }
        let partial = self.ask("GET", &self.all, &[("accept", PARTIAL)], &Value::Null).await;
        assert_eq!(partial["items"].as_array().map(Vec::len), Some(names.len()));
        assert!(partial["items"][0].get("spec").is_none(), "{:?}", self.kind);
        let one = format!("{}/{}", self.all, text(&twin["metadata"]["name"]));
        self.ask("DELETE", &one, &[], &json!({"gracePeriodSeconds": 0})).await;
    }

    /// Deleted; what only a controller of the kind would let go is let go here.
    async fn deletes(&self) {
        self.ask("DELETE", &self.one, &[], &json!({"gracePeriodSeconds": 0})).await;
        let left = self.api.ask("admin", "GET", &self.one, &[], "").await;
        if left.code == 200 {
            assert!(!text(&left.body["metadata"]["deletionTimestamp"]).is_empty(), "{:?}: {}", self.kind, left.body);
            let free = [("content-type", "application/merge-patch+json")];
            self.ask("PATCH", &self.one, &free, &json!({"metadata": {"finalizers": null}})).await;
            if self.kind.kind() == "Namespace" {
                let mut namespace = left.body.clone();
                namespace["metadata"]["resourceVersion"].take();
                namespace["spec"]["finalizers"].take();
                self.ask("PUT", &format!("{}/finalize", self.one), &[], &namespace).await;
            }
        }
        let gone = self.api.ask("admin", "GET", &self.one, &[], "").await;
        assert_eq!((gone.code, text(&gone.body["reason"])), (404, "NotFound"), "{:?}: {}", self.kind, gone.body);
    }
}

/// What the walk has to have looked like to a watcher from its start.
async fn watched(api: &Server, walk: &Walk<'_>, since: u64) {
    let name = text(&walk.object["metadata"]["name"]);
    let uri = format!("{}?watch=1&resourceVersion={since}&fieldSelector=metadata.name%3D{name}", walk.all);
    let mut events = api.watch(&uri).await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "DELETED") {
        let event = events.next().await.unwrap();
        assert_eq!(event["object"]["metadata"]["name"], name);
        assert_eq!(event["object"]["apiVersion"], walk.object["apiVersion"]);
        seen.push(text(&event["type"]).to_owned());
    }
    let changes = seen.iter().filter(|kind| *kind == "MODIFIED").count();
    assert_eq!(seen.first().map(String::as_str), Some("ADDED"), "{:?}", walk.kind);
    assert!(changes >= 5, "{:?}: PUT and four patches are five changes: {seen:?}", walk.kind);
}

#[tokio::test]
async fn every_kind_through_every_verb() {
    let objects = objects();
    let names = |kind: &KindRef| format!("{} {}", kind.api_version(), kind.kind());
    let written: BTreeSet<String> = objects.iter().map(|object| names(row(object))).collect();
    // Component statuses are asked for and never stored, as reviews are never read.
    let stored = KINDS.iter().filter(|kind| !kind.info.virtual_only && !kind.info.computed);
    assert_eq!(written, stored.map(names).collect(), "kinds.yaml has one object of every stored kind");
    every(&objects, async |object| walk(object).await).await;
}

/// Does it with every object; all failures are told, not only the first.
async fn every(objects: &[Value], walk: impl AsyncFn(&Value)) {
    let mut failed = Vec::new();
    for object in objects {
        if let Err(why) = AssertUnwindSafe(walk(object)).catch_unwind().await {
            let why = why.downcast_ref::<String>().cloned().or_else(|| why.downcast_ref::<&str>().map(|why| (*why).to_owned()));
            failed.push(format!("{} {}: {}", object["apiVersion"], object["kind"], why.unwrap_or_default()));
        }
    }
    assert!(failed.is_empty(), "{} of {} kinds:\n{}", failed.len(), objects.len(), failed.join("\n"));
}

#[tokio::test]
async fn every_kind_in_protobuf() {
    every(&objects(), async |object| walk_in_protobuf(object).await).await;
}

/// What JSON and protobuf tell of the same object must be the same.
fn same(what: &str, json: &Value, message: &Value) {
    let mut lost = Vec::new();
    protobuf::differences(json, message, "", &mut lost);
    // What is no pointer in Go is there when it is zero, but for who reads messages.
    let zero = |path: &String| path.contains(".status.") && (path.ends_with(": 0 / null") || path.ends_with(": false / null"));
    lost.retain(|path| !zero(path) && !protobuf::is_known_gap(path));
    assert!(lost.is_empty(), "{what}: {}", lost.join("\n"));
}

/// Created, read, listed, replaced, watched and deleted by a client that sends and takes nothing but messages, beside one of JSON.
async fn walk_in_protobuf(object: &Value) {
    let client = protobuf::client().await;
    let kind = row(object);
    let all = collection(kind);
    let one = format!("{all}/{}", text(&object["metadata"]["name"]));
    let since = revision(&client.0.yes("GET", &all, "").await);
    let dry = client.yes("POST", &format!("{all}?dryRun=All"), Some(object)).await;
    let made = client.yes("POST", &format!("{all}?fieldValidation=Strict"), Some(object)).await;
    assert_eq!((&dry["kind"], &dry["metadata"]["name"]), (&made["kind"], &made["metadata"]["name"]));
    let json = client.0.yes("GET", &one, "").await;
    contains(&json, object, kind.kind());
    same("created", &json, &made);
    same("read", &json, &client.yes("GET", &one, None).await);
    let mut list = client.0.yes("GET", &all, "").await;
    list["items"].as_array_mut().unwrap().iter_mut().for_each(|item| *item = protobuf::bare(item.take()));
    same("listed", &list, &client.yes("GET", &all, None).await);
    let again = client.yes("PUT", &one, Some(&made)).await;
    assert_eq!(revision(&again), revision(&made), "writing what was read changes nothing");
    let mut wanted = made.clone();
    wanted["metadata"]["labels"]["put"] = "yes".into();
    let put = client.yes("PUT", &one, Some(&wanted)).await;
    assert!(revision(&put) > revision(&made) && put["metadata"]["labels"]["put"] == "yes", "{put}");
    let stored = client.0.yes("GET", &one, "").await;
    same("replaced", &stored, &put);
    let deletion = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        "preconditions": {"uid": made["metadata"]["uid"]}});
    client.yes("DELETE", &one, Some(&deletion)).await;
    let name = text(&object["metadata"]["name"]);
    let uri = format!("{all}?watch=1&resourceVersion={since}&fieldSelector=metadata.name%3D{name}");
    let events = client.watch(&uri, 3).await;
    let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    // A namespace, and what waits for a finalizer, is only marked.
    assert!(kinds[..2] == ["ADDED", "MODIFIED"] && ["DELETED", "MODIFIED"].contains(&kinds[2]), "{kinds:?}");
    assert_eq!(events[1].1, put);
}

/// A server each: kinds that are stored as one would meet, and definitions and policies would mind the others.
async fn walk(object: &Value) {
    let api = server().await;
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
    let kind = row(object);
    let all = collection(kind);
    let one = format!("{all}/{}", text(&object["metadata"]["name"]));
    let walk = Walk { api: &api, kind, all, one, object };
    let since = revision(&api.yes("GET", &walk.all, "").await);
    let made = walk.creates().await;
    walk.changes(&made).await;
    walk.lists().await;
    walk.deletes().await;
    watched(&api, &walk, since).await;
}
