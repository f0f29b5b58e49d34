//! The API over HTTP, without sockets: each test has a server of its own.
#![allow(missing_docs, clippy::unwrap_used)]

mod admission;
mod aggregation;
mod apply;
mod auth;
mod components;
mod custom;
mod found;
mod kinds;
mod mutations;
mod mutator;
mod objects;
mod outbound;
mod peer;
mod policies;
mod protobuf;
mod record;
mod samples;
mod support;
mod watches;
mod webhooks;
mod yaml;

use orch::server::kinds::KINDS;
use support::server;

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn an_object_from_creation_to_deletion() {
    let api = server().await;
    let made = api.yes("POST", CONFIGMAPS, "{metadata: {name: a}, data: {k: v}}").await;
    assert_eq!((made["kind"].as_str(), made["data"]["k"].as_str()), (Some("ConfigMap"), Some("v")));
    let one = format!("{CONFIGMAPS}/a");
    assert_eq!(api.yes("GET", &one, "").await["metadata"]["uid"], made["metadata"]["uid"]);
    assert!(api.no(409, "POST", CONFIGMAPS, "metadata: {name: a}").await.contains("already exists"));
    let merge = [("content-type", "application/merge-patch+json")];
    let patched = api.ask("admin", "PATCH", &one, &merge, r#"{"data":{"k":"w"}}"#).await;
    assert_eq!((patched.code, patched.body["data"]["k"].as_str()), (200, Some("w")));
    let stale = format!("{{metadata: {{name: a, resourceVersion: {:?}}}}}", made["metadata"]["resourceVersion"].as_str().unwrap());
    assert!(api.no(409, "PUT", &one, &stale).await.contains("the object has been modified"));
    assert_eq!(api.yes("DELETE", &one, "").await["status"], "Success");
    assert_eq!(api.no(404, "GET", &one, "").await, "configmaps \"a\" not found");
}

#[tokio::test]
async fn lists_tables_and_metadata() {
    let api = server().await;
    for name in ["a", "b", "c"] {
        api.yes("POST", CONFIGMAPS, &format!("metadata: {{name: {name}, labels: {{'n': {name}}}}}")).await;
    }
    let list = api.yes("GET", CONFIGMAPS, "").await;
    assert_eq!((list["kind"].as_str(), list["items"].as_array().map(Vec::len)), (Some("ConfigMapList"), Some(3)));
    let page = api.yes("GET", &format!("{CONFIGMAPS}?limit=2"), "").await;
    let token = page["metadata"]["continue"].as_str().expect("more is left");
    let rest = api.yes("GET", &format!("{CONFIGMAPS}?limit=2&continue={token}"), "").await;
    assert_eq!(rest["items"][0]["metadata"]["name"], "c");
    let selected = api.yes("GET", &format!("{CONFIGMAPS}?labelSelector=n%3Db"), "").await;
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(1));
    let table = api.ask("admin", "GET", CONFIGMAPS, &[("accept", TABLE)], "").await.body;
    assert_eq!((table["kind"].as_str(), table["columnDefinitions"][0]["name"].as_str()), (Some("Table"), Some("Name")));
    assert_eq!(table["rows"][2]["cells"][0], "c");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let metadata = [("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")];
    assert_eq!(api.ask("admin", "GET", CONFIGMAPS, &metadata, "").await.body["kind"], "PartialObjectMetadataList");
    let yaml = api.ask("admin", "GET", &format!("{CONFIGMAPS}/a"), &[("accept", "application/yaml")], "").await.body;
    assert!(yaml.as_str().unwrap().contains("kind: ConfigMap"), "{yaml}");
}

#[tokio::test]
async fn watches_tell_what_happens() {
    let api = server().await;
    api.yes("POST", CONFIGMAPS, "metadata: {name: a}").await;
    let rev = api.yes("GET", CONFIGMAPS, "").await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut whole = api.watch(&format!("{CONFIGMAPS}?watch=1&resourceVersion={rev}")).await;
    let mut one = api.watch("/api/v1/watch/namespaces/default/configmaps/b").await;
    api.yes("POST", CONFIGMAPS, "metadata: {name: b}").await;
    api.yes("DELETE", &format!("{CONFIGMAPS}/a"), "").await;
    let event = whole.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&"ADDED".into(), &"b".into()));
    let event = whole.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&"DELETED".into(), &"a".into()));
    assert_eq!(one.next().await.unwrap()["object"]["metadata"]["name"], "b");
    let mut short = api.watch(&format!("{CONFIGMAPS}?watch=1&resourceVersion={rev}&timeoutSeconds=1&labelSelector=none")).await;
    assert_eq!(short.next().await, None, "a watch ends at its timeout");
}

/// A watch from before what is remembered begins, and says in the stream that it must list again.
#[tokio::test]
async fn a_watch_from_too_long_ago() {
    let api = support::server_remembering(orch::server::store::Limits { events: 4, bytes: 1 << 20 }).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let first = api.yes("POST", maps, "metadata: {name: first}").await;
    for number in 0..8 {
        api.yes("POST", maps, &format!("metadata: {{name: m{number}}}")).await;
    }
    let from = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut events = api.watch(&format!("{maps}?watch=1&resourceVersion={from}")).await;
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["kind"]), (&"ERROR".into(), &"Status".into()), "{event}");
    assert_eq!((&event["object"]["code"], &event["object"]["reason"]), (&410.into(), &"Expired".into()), "{event}");
    let message = event["object"]["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("too old resource version: {from} (")), "{message}");
    assert!(events.next().await.is_none(), "the error ends the stream");
    // Who may not watch is still refused.
    assert_eq!(api.ask("nobody", "GET", &format!("{maps}?watch=1&resourceVersion={from}"), &[], "").await.code, 403);
}

#[tokio::test]
async fn what_is_refused() {
    let api = server().await;
    let large = format!("data: {{k: {}}}", "x".repeat(4 << 20));
    assert_eq!(api.ask("admin", "POST", CONFIGMAPS, &[], &large).await.code, 413);
    assert_eq!(api.ask("admin", "GET", CONFIGMAPS, &[("accept", "image/png")], "").await.code, 406);
    api.no(404, "GET", "/apis/example.org/v1/things", "").await;
    api.no(405, "POST", "/api/v1/configmaps", "metadata: {name: a}").await;
    api.no(400, "GET", &format!("{CONFIGMAPS}?limit=many"), "").await;
    for path in ["/api", "/apis", "/api/v1/pods", "/metrics", "/openapi/v2"] {
        assert_eq!(api.ask("", "GET", path, &[], "").await.code, 401, "{path}");
    }
    for path in ["/healthz", "/livez", "/readyz?verbose", "/version"] {
        assert_eq!(api.ask("", "GET", path, &[], "").await.code, 200, "{path}");
    }
}

#[tokio::test]
async fn roles_decide() {
    let api = server().await;
    let denied = api.ask("ann", "GET", CONFIGMAPS, &[], "").await;
    let want = r#"configmaps is forbidden: User "ann" cannot list resource "configmaps" in API group "" in the namespace "default""#;
    assert_eq!((denied.code, denied.message()), (403, want));
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = "{metadata: {name: r}, rules: [{apiGroups: [''], resources: [configmaps], verbs: [list]}]}";
    api.yes("POST", &format!("{rbac}/roles"), role).await;
    let binding = "{metadata: {name: b}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r},
        subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: ann}]}";
    api.yes("POST", &format!("{rbac}/rolebindings"), binding).await;
    assert_eq!(api.ask("ann", "GET", CONFIGMAPS, &[], "").await.code, 200);
    assert_eq!(api.ask("ann", "GET", "/api/v1/configmaps", &[], "").await.code, 403);
    let review = "{spec: {user: ann, resourceAttributes: {verb: list, resource: configmaps, namespace: default}}}";
    let review = api.yes("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review).await;
    assert_eq!(review["status"]["allowed"], true);
}

#[tokio::test]
async fn tokens_live_as_long_as_their_account() {
    let api = server().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    api.yes("POST", accounts, "metadata: {name: web}").await;
    let request = "{kind: TokenRequest, apiVersion: authentication.k8s.io/v1, spec: {audiences: []}}";
    let made = api.yes("POST", &format!("{accounts}/web/token"), request).await;
    let bearer = format!("Bearer {}", made["status"]["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let who = api.ask("", "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &headers, "{}").await;
    assert_eq!(who.code, 403, "roles are not applied here, yet the user is known: {}", who.body);
    assert!(who.message().contains("system:serviceaccount:default:web"));
    api.yes("DELETE", &format!("{accounts}/web"), "").await;
    assert_eq!(api.ask("", "GET", CONFIGMAPS, &headers, "").await.code, 401);
}

#[tokio::test]
async fn pods_are_bound_once() {
    let api = server().await;
    let pods = "/api/v1/namespaces/default/pods";
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
    api.yes("POST", pods, "{metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}").await;
    let binding = "{metadata: {name: p}, target: {kind: Node, name: n1}}";
    api.yes("POST", &format!("{pods}/p/binding"), binding).await;
    let pod = api.yes("GET", &format!("{pods}/p"), "").await;
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert!(pod["status"]["conditions"].to_string().contains("PodScheduled"), "{}", pod["status"]);
    assert!(api.no(409, "POST", &format!("{pods}/p/binding"), binding).await.contains("already assigned to node \"n1\""));
    assert!(api.no(400, "GET", &format!("{pods}/p/log?container=z"), "").await.contains("container z is not valid for pod p"));
}

/// Every row of the table is discoverable in both forms, and every kind that is stored can be listed, as a Table too.
#[tokio::test]
async fn every_kind_is_served() {
    let api = server().await;
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let mut known = String::new();
    for root in ["/api", "/apis"] {
        let answer = api.ask("admin", "GET", root, &[("accept", aggregated)], "").await;
        assert_eq!(answer.body["kind"], "APIGroupDiscoveryList");
        let etag = answer.headers["etag"].to_str().unwrap();
        let again = api.ask("admin", "GET", root, &[("accept", aggregated), ("if-none-match", etag)], "").await;
        assert_eq!(again.code, 304);
        known += &answer.body.to_string();
    }
    for kind in KINDS.iter() {
        let root = if kind.group().is_empty() { "/api/v1".into() } else { format!("/apis/{}/{}", kind.group(), kind.version()) };
        let resources = api.yes("GET", &root, "").await;
        let found = resources["resources"].as_array().unwrap().iter().any(|r| r["name"] == kind.resource() && r["kind"] == kind.kind());
        assert!(found && known.contains(&format!("\"resource\":\"{}\"", kind.resource())), "{}", kind.resource());
        let path = format!("{root}/{}", kind.resource());
        if kind.info.virtual_only {
            api.no(405, "GET", &path, "").await;
            continue;
        }
        let list = api.yes("GET", &path, "").await;
        assert_eq!(list["kind"], format!("{}List", kind.kind()));
        assert_eq!(api.ask("admin", "GET", &path, &[("accept", TABLE)], "").await.body["kind"], "Table", "{path}");
    }
}

#[tokio::test]
async fn evictions_respect_budgets() {
    let api = server().await;
    let pods = "/api/v1/namespaces/default/pods";
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
    for name in ["p", "q"] {
        api.yes("POST", pods, &format!("{{metadata: {{name: {name}, labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}"))
            .await;
        let running = [("content-type", "application/merge-patch+json")];
        let patched = api.ask("admin", "PATCH", &format!("{pods}/{name}/status"), &running, r#"{"status":{"phase":"Running"}}"#).await;
        assert_eq!(patched.code, 200, "{}", patched.body);
    }
    api.yes("POST", budgets, "{metadata: {name: b}, spec: {minAvailable: 1, selector: {matchLabels: {a: b}}}}").await;
    let merge = [("content-type", "application/merge-patch+json")];
    let status = r#"{"status":{"disruptionsAllowed":1,"observedGeneration":1,"currentHealthy":2,"desiredHealthy":1,"expectedPods":2}}"#;
    assert_eq!(api.ask("admin", "PATCH", &format!("{budgets}/b/status"), &merge, status).await.code, 200);
    let eviction = |name: &str| format!("{{metadata: {{name: {name}}}}}");
    api.yes("POST", &format!("{pods}/p/eviction"), &eviction("p")).await;
    assert_eq!(api.yes("GET", &format!("{budgets}/b"), "").await["status"]["disruptionsAllowed"], 0);
    let refused = api.no(429, "POST", &format!("{pods}/q/eviction"), &eviction("q")).await;
    assert_eq!(refused, "Cannot evict pod as it would violate the pod's disruption budget.");
}

#[tokio::test]
async fn scale_and_finalize() {
    let api = server().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let spec = "{replicas: 1, selector: {matchLabels: {a: b}},
        template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}";
    api.yes("POST", deployments, &format!("{{metadata: {{name: d}}, spec: {spec}}}")).await;
    let scale = format!("{deployments}/d/scale");
    assert_eq!(api.yes("GET", &scale, "").await["kind"], "Scale");
    let merge = [("content-type", "application/merge-patch+json")];
    let patched = api.ask("admin", "PATCH", &scale, &merge, r#"{"spec":{"replicas":3}}"#).await;
    assert_eq!((patched.code, &patched.body["spec"]["replicas"]), (200, &3.into()), "{}", patched.body);
    assert_eq!(api.yes("GET", &format!("{deployments}/d"), "").await["spec"]["replicas"], 3);

    api.yes("POST", "/api/v1/namespaces", "metadata: {name: gone}").await;
    api.yes("DELETE", "/api/v1/namespaces/gone", "").await;
    assert_eq!(api.yes("GET", "/api/v1/namespaces/gone", "").await["status"]["phase"], "Terminating");
    api.yes("PUT", "/api/v1/namespaces/gone/finalize", "{metadata: {name: gone}, spec: {finalizers: []}}").await;
    api.no(404, "GET", "/api/v1/namespaces/gone", "").await;
}
