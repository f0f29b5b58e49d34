//! Fairness, limits, the record of requests, keys and numbers, over HTTP.

use std::sync::Arc;
use std::time::Duration;

use orch::server::http::Settings;
use orch::server::http::audit::Audit;
use orch::server::http::audit::log::LogConfig;
use orch::server::http::audit::policy::Policy;
use orch::server::http::fairness::Limits;
use serde_json::Value;

use crate::support::{Server, server, server_with};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

async fn allow(api: &Server, user: &str) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = "{metadata: {name: all}, rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]}";
    api.yes("POST", &format!("{rbac}/clusterroles"), role).await;
    let binding = format!(
        "{{metadata: {{name: all}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: all}},
        subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {user}}}]}}"
    );
    api.yes("POST", &format!("{rbac}/clusterrolebindings"), &binding).await;
}

#[tokio::test]
async fn answers_say_who_classified_them_and_full_levels_refuse() {
    let limits = Limits { seats: 2, wait: Duration::from_millis(50) };
    let api = server_with(Settings { fairness: limits, ..Settings::default() }).await;
    allow(&api, "ann").await;
    let flowcontrol = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let level = "{metadata: {name: small}, spec: {type: Limited, limited: {nominalConcurrencyShares: 5, limitResponse: {type: Reject}}}}";
    let level = api.yes("POST", &format!("{flowcontrol}/prioritylevelconfigurations"), level).await;
    let schema = "{metadata: {name: ann}, spec: {priorityLevelConfiguration: {name: small}, matchingPrecedence: 50, distinguisherMethod: {type: ByUser},
        rules: [{subjects: [{kind: User, user: {name: ann}}], resourceRules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'], clusterScope: true}]}]}}";
    let schema = api.yes("POST", &format!("{flowcontrol}/flowschemas"), schema).await;
    // The keeper of fairness compiles them in its own time.
    let uid = |answer: &http::HeaderMap, name: &str| answer.get(name).map(|value| value.to_str().unwrap().to_owned());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let answer = api.ask("ann", "GET", CONFIGMAPS, &[], "").await;
        assert_eq!(answer.code, 200, "{}", answer.body);
        if uid(&answer.headers, "x-kubernetes-pf-flowschema-uid").as_deref() == schema["metadata"]["uid"].as_str() {
            assert_eq!(uid(&answer.headers, "x-kubernetes-pf-prioritylevel-uid").as_deref(), level["metadata"]["uid"].as_str());
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the schema is compiled in time");
        tokio::task::yield_now().await;
    }
    // A body that never ends holds the level's only seat.
    let (sender, chunks) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let pending = tokio::spawn(api.streaming("ann", "POST", CONFIGMAPS, chunks));
    sender.send(Ok("{\"metadata\":".into())).await.unwrap();
    sender.send(Ok("{\"name\":\"slow\"}}".into())).await.unwrap();
    // Its first piece was taken, so the request holds its seat.
    let refused = api.ask("ann", "GET", CONFIGMAPS, &[], "").await;
    assert_eq!((refused.code, refused.body["reason"].as_str()), (429, Some("TooManyRequests")), "{}", refused.body);
    assert_eq!((refused.message(), refused.headers["retry-after"].to_str().unwrap()), ("Too many requests, please try again later.", "1"));
    assert_eq!(uid(&refused.headers, "x-kubernetes-pf-flowschema-uid").as_deref(), schema["metadata"]["uid"].as_str());
    assert_eq!(api.ask("admin", "GET", CONFIGMAPS, &[], "").await.code, 200, "the administrator is exempt");
    drop(sender);
    assert_eq!(pending.await.unwrap().status(), 201);
    assert_eq!(api.ask("ann", "GET", CONFIGMAPS, &[], "").await.code, 200, "the seat is free again");
    // A watch holds its seat only while it begins.
    let watch = api.send("ann", "GET", &format!("{CONFIGMAPS}?watch=1"), &[], "").await;
    assert_eq!(api.ask("ann", "GET", CONFIGMAPS, &[], "").await.code, 200);
    let metrics = api.text("/metrics").await;
    for line in [
        "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"ann\",priority_level=\"small\",reason=\"concurrency-limit\"} 1",
        "apiserver_flowcontrol_current_executing_requests{flow_schema=\"ann\",priority_level=\"small\"} 0",
        "apiserver_dropped_requests_total{request_kind=\"readOnly\"} 1",
        "apiserver_longrunning_requests{component=\"apiserver\",group=\"\",resource=\"configmaps\",scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"} 1",
        "apiserver_storage_objects{resource=\"configmaps\"} 1",
        "apiserver_storage_objects{resource=\"flowschemas.flowcontrol.apiserver.k8s.io\"} 1",
        "kubernetes_build_info{",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    drop(watch);
    assert!(api.text("/debug/api_priority_and_fairness/dump_priority_levels").await.contains("\nsmall, "));
}

#[tokio::test]
async fn requests_end_in_time() {
    let api = server_with(Settings { request_timeout: Duration::from_secs(20), ..Settings::default() }).await;
    assert_eq!(
        api.no(400, "GET", &format!("{CONFIGMAPS}?timeout=soon"), "").await,
        "invalid timeout specified in the request URL - time: invalid duration \"soon\""
    );
    api.yes("GET", &format!("{CONFIGMAPS}?timeout=5s"), "").await;
    let (sender, chunks) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let answer = api.streaming("admin", "POST", &format!("{CONFIGMAPS}?timeout=100ms"), chunks).await;
    let body = Server::body(answer).await;
    assert_eq!((body["code"].as_u64(), body["reason"].as_str()), (Some(504), Some("Timeout")));
    assert_eq!(body["message"], "Timeout: request did not complete within requested timeout - context deadline exceeded");
    drop(sender);
}

#[tokio::test]
async fn health_has_parts() {
    let api = server().await;
    assert_eq!(api.text("/readyz").await, "ok");
    assert_eq!(api.text("/livez/ping").await, "ok");
    assert_eq!(api.text("/livez?verbose").await, "[+]ping ok\n[+]log ok\n[+]etcd ok\nlivez check passed\n");
    assert!(api.text("/readyz?verbose&exclude=etcd").await.contains("[+]etcd excluded: ok\n"));
    assert_eq!(api.ask("", "GET", "/livez/no-such-check", &[], "").await.code, 404);
    assert!(api.text("/metrics/slis").await.contains("kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 1"));
    api.no(404, "GET", "/debug/pprof", "").await;
    api.no(404, "GET", "/orch/v1/secrets-encrypt", "").await;
}

/// Requests of all kinds, and the log they leave.
async fn recorded(policy: &str) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let log = LogConfig { path: path.clone(), max_bytes: 0, max_age: None, max_backups: 0, compress: false };
    let policy = Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{policy}")).unwrap();
    let audit = Arc::new(Audit::open(policy, log).unwrap());
    let api = server_with(Settings { audit: Some(audit.clone()), ..Settings::default() }).await;
    let secret = "{metadata: {name: s}, stringData: {password: hunter2}}";
    let headers = [("audit-id", "my-number"), ("user-agent", "me/1"), ("x-forwarded-for", "198.51.100.7")];
    assert_eq!(api.ask("admin", "POST", SECRETS, &headers, secret).await.headers["audit-id"], "my-number");
    api.yes("GET", &format!("{SECRETS}/s"), "").await;
    api.no(404, "GET", &format!("{SECRETS}/none"), "").await;
    api.ask("ann", "GET", SECRETS, &[], "").await;
    api.ask("", "GET", SECRETS, &[("authorization", "Bearer x")], "").await;
    let merge = [("content-type", "application/merge-patch+json")];
    api.ask("admin", "PATCH", &format!("{SECRETS}/s"), &merge, r#"{"metadata":{"labels":{"a":"b"}}}"#).await;
    let mut watch = api.watch(&format!("{SECRETS}?watch=1&resourceVersion=0&timeoutSeconds=1")).await;
    while watch.next().await.is_some() {}
    drop(watch);
    drop(api);
    // The server's tasks let go of the log when they run once more; its last handle waits for its thread.
    while Arc::strong_count(&audit) > 1 {
        tokio::task::yield_now().await;
    }
    drop(audit);
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn find<'a>(events: &'a [Value], stage: &str, verb: &str, code: u64) -> &'a Value {
    let found =
        events.iter().find(|e| e["stage"] == stage && e["verb"] == verb && e["responseStatus"]["code"].as_u64().unwrap_or(0) == code);
    found.unwrap_or_else(|| panic!("{stage} {verb} {code} in {events:#?}"))
}

#[tokio::test]
async fn metadata_is_recorded_without_content() {
    let events = recorded("rules: [{level: None, users: [admin], resources: [{resources: [namespaces]}]}, {level: Metadata}]").await;
    let text = serde_json::to_string(&events).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg") && !text.contains("Object\":{"), "{text}");
    assert!(!events.iter().any(|event| event["objectRef"]["resource"] == "namespaces"));
    let received = find(&events, "RequestReceived", "create", 0);
    assert_eq!(
        (&received["auditID"], &received["kind"], &received["apiVersion"]),
        (&"my-number".into(), &"Event".into(), &"audit.k8s.io/v1".into())
    );
    let made = find(&events, "ResponseComplete", "create", 201);
    assert_eq!(made["requestURI"], SECRETS);
    assert_eq!(made["user"], serde_json::json!({"username": "admin", "groups": ["system:masters"]}));
    assert_eq!(made["sourceIPs"], serde_json::json!(["198.51.100.7", "192.0.2.2"]));
    assert_eq!((&made["userAgent"], &made["level"]), (&"me/1".into(), &"Metadata".into()));
    assert_eq!(made["objectRef"], serde_json::json!({"resource": "secrets", "namespace": "default", "name": "s", "apiVersion": "v1"}));
    assert_eq!(made["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(made["requestReceivedTimestamp"].as_str().map(str::len), Some("2006-01-02T15:04:05.000000Z".len()));
    let missing = find(&events, "ResponseComplete", "get", 404);
    assert_eq!(missing["responseStatus"]["reason"], "NotFound");
    assert_eq!(missing["responseStatus"]["message"], "secrets \"none\" not found");
    let forbidden = find(&events, "ResponseComplete", "list", 403);
    assert_eq!(
        (&forbidden["user"]["username"], &forbidden["annotations"]["authorization.k8s.io/decision"]),
        (&"ann".into(), &"forbid".into())
    );
    let unknown = find(&events, "ResponseStarted", "list", 401);
    assert_eq!(unknown["responseStatus"]["message"], "Authentication failed, attempted: bearer");
    find(&events, "ResponseStarted", "watch", 200);
    find(&events, "ResponseComplete", "watch", 200);
    // Each request that was recognised has exactly one end.
    for id in events.iter().filter(|e| e["stage"] == "RequestReceived").map(|e| &e["auditID"]) {
        let ends = events.iter().filter(|e| e["auditID"] == *id && e["stage"] == "ResponseComplete").count();
        assert!(ends == 1 || unknown["auditID"] == *id, "{id}");
    }
}

#[tokio::test]
async fn bodies_are_recorded_where_the_policy_wants_them() {
    let events = recorded("omitStages: [RequestReceived]\nomitManagedFields: true\nrules: [{level: RequestResponse, verbs: [create, patch]}, {level: Request}]").await;
    assert!(!events.iter().any(|event| event["stage"] == "RequestReceived"));
    let made = find(&events, "ResponseComplete", "create", 201);
    assert!(events.iter().any(|e| e["requestObject"]["stringData"]["password"] == "hunter2"), "{events:#?}");
    assert!(made["responseObject"]["metadata"]["uid"].is_string() || made["objectRef"]["resource"] == "namespaces", "{made:#}");
    assert!(!serde_json::to_string(&events).unwrap().contains("managedFields"));
    let patched = find(&events, "ResponseComplete", "patch", 200);
    assert_eq!(patched["requestObject"], serde_json::json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(patched["responseObject"]["metadata"]["labels"]["a"], "b");
    let read = find(&events, "ResponseComplete", "get", 200);
    assert!(read.get("responseObject").is_none(), "{read:#}");
}

/// Connections and subresources that store nothing of their own are admitted, and what policies note of them is recorded.
#[tokio::test]
async fn notes_of_what_is_not_stored_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let log = LogConfig { path: path.clone(), max_bytes: 0, max_age: None, max_backups: 0, compress: false };
    let policy = Policy::parse("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]").unwrap();
    let audit = Arc::new(Audit::open(policy, log).unwrap());
    let api = server_with(Settings { audit: Some(audit), ..Settings::default() }).await;
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
    let registration = "/apis/admissionregistration.k8s.io/v1";
    let noting = "{metadata: {name: noting}, spec: {auditAnnotations: [{key: sub, valueExpression: 'request.subResource'}],
        matchConstraints: {resourceRules: [{operations: [CREATE, CONNECT], apiGroups: [''], apiVersions: [v1],
        resources: [pods/eviction, pods/binding, pods/exec, serviceaccounts/token]}]}}}";
    api.yes("POST", &format!("{registration}/validatingadmissionpolicies"), noting).await;
    let binding = "{metadata: {name: noting}, spec: {policyName: noting, validationActions: [Audit]}}";
    api.yes("POST", &format!("{registration}/validatingadmissionpolicybindings"), binding).await;
    let pods = "/api/v1/namespaces/default/pods";
    api.yes("POST", pods, "{metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}").await;
    api.yes("POST", &format!("{pods}/p/binding"), "{metadata: {name: p}, target: {kind: Node, name: 'n'}}").await;
    api.ask("admin", "POST", &format!("{pods}/p/exec?command=x"), &[], "").await;
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", "spec: {}").await;
    api.yes("POST", &format!("{pods}/p/eviction"), "{apiVersion: policy/v1, kind: Eviction, metadata: {name: p}}").await;
    drop(api);
    let text = std::fs::read_to_string(&path).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for sub in ["binding", "exec", "token", "eviction"] {
        let event = events.iter().rfind(|event| event["objectRef"]["subresource"] == sub);
        let event = event.unwrap_or_else(|| panic!("{sub} is recorded: {text}"));
        assert_eq!(event["annotations"]["noting/sub"], sub, "{event}");
    }
}
