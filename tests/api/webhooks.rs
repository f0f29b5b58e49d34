//! Admission webhooks over HTTP: which requests they are asked about, what they see, and what their answers do.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine;
use http::Response;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::peer::{Https, https};
use crate::support::{Server, server};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";

/// A webhook server that remembers what it was asked.
struct Hooks {
    https: Https,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Hooks {
    /// What was asked so far, by path; forgets it.
    fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.asked.lock())
    }

    /// The only question since the last look.
    fn only(&self) -> Value {
        let mut asked = self.take();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0).1
    }
}

/// Answers by path: `/allow`, `/deny`, `/label` (adds the label `seen`), `/count` (counts in an annotation), `/wrong` (another's uid),
/// `/broken`, `/slow`, `/warn`.
fn answer(path: &str, request: &Value) -> Option<Value> {
    let patch = |patch: Value| {
        let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
        json!({"uid": request["uid"], "allowed": true, "patch": patch, "patchType": "JSONPatch"})
    };
    Some(match path {
        "/allow" => json!({"uid": request["uid"], "allowed": true}),
        "/deny" => {
            json!({"uid": request["uid"], "allowed": false, "status": {"message": "not so", "code": 403, "reason": "Mine"}})
        }
        "/warn" => {
            json!({"uid": request["uid"], "allowed": true, "warnings": ["mind the gap"], "auditAnnotations": {"k": "v"}})
        }
        "/label" => {
            let labels = &request["object"]["metadata"]["labels"];
            let mut wanted = labels.as_object().cloned().unwrap_or_default();
            wanted.insert("seen".into(), "yes".into());
            patch(json!([{"op": "add", "path": "/metadata/labels", "value": wanted}]))
        }
        "/count" => {
            let count = request["object"]["data"]["count"].as_str().map_or(0, |count| count.parse::<u32>().unwrap());
            let data = json!({"count": (count + 1).to_string()});
            patch(json!([{"op": "add", "path": "/data", "value": data}]))
        }
        "/scale" => patch(json!([{"op": "replace", "path": "/spec/replicas", "value": 7}])),
        "/wrong" => json!({"uid": "somebody else", "allowed": true}),
        _ => return None,
    })
}

async fn hooks() -> Hooks {
    let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let log = asked.clone();
    let https = https(&["127.0.0.1"], move |request| {
        let log = log.clone();
        async move {
            let path = request.uri().path().to_owned();
            let review: Value = serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
            log.lock().push((path.clone(), review["request"].clone()));
            match (path.as_str(), answer(&path, &review["request"])) {
                ("/slow", _) => std::future::pending().await,
                (_, Some(response)) => {
                    let body = json!({"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response});
                    Response::new(Body::from(body.to_string()))
                }
                _ => Response::builder().status(500).body(Body::from("broken")).unwrap(),
            }
        }
    })
    .await;
    Hooks { https, asked }
}

/// Registers one webhook at `path`; `rule` and `more` are fields of the rule and of the webhook.
async fn register(api: &Server, hooks: &Hooks, kind: &str, name: &str, path: &str, rule: &str, more: &str) {
    let client = hooks.https.client_config(path);
    let resource = format!("{}webhookconfigurations", kind.to_lowercase());
    let body = format!(
        "{{metadata: {{name: {name}}}, webhooks: [{{name: {name}.example.org, clientConfig: {client}, admissionReviewVersions: [v1],
          sideEffects: None, rules: [{{{rule}}}] {more}}}]}}"
    );
    api.yes("POST", &format!("{REGISTRATION}/{resource}"), &body).await;
}

fn rule(operations: &str, group: &str, resources: &str) -> String {
    format!("operations: [{operations}], apiGroups: ['{group}'], apiVersions: [v1], resources: [{resources}]")
}

#[tokio::test]
async fn a_validating_webhook_sees_each_operation() {
    let (api, hooks) = (server().await, hooks().await);
    register(&api, &hooks, "Validating", "a", "/allow", &rule("'*'", "", "configmaps"), "").await;
    let made = api.yes("POST", &format!("{CONFIGMAPS}?fieldManager=me"), "{metadata: {name: a}, data: {k: v}}").await;
    let asked = hooks.only();
    assert_eq!(asked["operation"], "CREATE");
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(asked["requestResource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&asked["name"], &asked["namespace"]), (&json!("a"), &json!("default")));
    assert_eq!(asked["userInfo"], json!({"username": "admin", "groups": ["system:masters"]}));
    assert_eq!(asked["object"]["metadata"]["uid"], made["metadata"]["uid"], "the object is complete when it is validated");
    assert_eq!((&asked["oldObject"], &asked["dryRun"]), (&Value::Null, &json!(false)));
    assert_eq!((&asked["options"]["kind"], &asked["options"]["fieldManager"]), (&json!("CreateOptions"), &json!("me")));
    let merge = [("content-type", "application/merge-patch+json")];
    api.ask("admin", "PATCH", &format!("{CONFIGMAPS}/a"), &merge, r#"{"data":{"k":"w"}}"#).await;
    let asked = hooks.only();
    assert_eq!(
        (&asked["operation"], &asked["oldObject"]["data"]["k"], &asked["object"]["data"]["k"]),
        (&json!("UPDATE"), &json!("v"), &json!("w"))
    );
    assert_eq!(asked["options"]["kind"], "UpdateOptions");
    api.yes("DELETE", &format!("{CONFIGMAPS}/a?gracePeriodSeconds=0"), "").await;
    let asked = hooks.only();
    assert_eq!((&asked["operation"], &asked["object"], &asked["oldObject"]["data"]["k"]), (&json!("DELETE"), &Value::Null, &json!("w")));
    assert_eq!(asked["options"], json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 0}));
    for name in ["b", "c"] {
        api.yes("POST", CONFIGMAPS, &format!("metadata: {{name: {name}}}")).await;
    }
    hooks.take();
    api.yes("DELETE", CONFIGMAPS, "").await;
    assert_eq!(hooks.take().len(), 2, "each object of a deleted collection is asked about");
}

#[tokio::test]
async fn refusals_reach_the_client() {
    let (api, hooks) = (server().await, hooks().await);
    register(&api, &hooks, "Validating", "a", "/deny", &rule("CREATE, DELETE", "", "configmaps, pods/attach, pods/eviction"), "").await;
    let denied = api.ask("admin", "POST", CONFIGMAPS, &[], "metadata: {name: a}").await;
    assert_eq!((denied.code, denied.message()), (403, "admission webhook \"a.example.org\" denied the request: not so"));
    assert_eq!(denied.body["reason"], "Mine");
    api.no(404, "GET", &format!("{CONFIGMAPS}/a"), "").await;
    hooks.take();
    let eviction = "{apiVersion: policy/v1, kind: Eviction, metadata: {name: p}}";
    assert!(api.no(403, "POST", &format!("{PODS}/p/eviction"), eviction).await.contains("denied the request"));
    let asked = hooks.only();
    assert_eq!(
        (&asked["subResource"], &asked["kind"]["kind"], &asked["operation"]),
        (&json!("eviction"), &json!("Eviction"), &json!("CREATE"))
    );
    assert_eq!(asked["resource"]["resource"], "pods");
}

#[tokio::test]
async fn connections_are_admitted() {
    let (api, hooks) = (server().await, hooks().await);
    register(&api, &hooks, "Validating", "a", "/deny", &rule("CONNECT", "", "pods/attach, pods/exec"), "").await;
    let why = api.no(403, "POST", &format!("{PODS}/p/exec?command=sh&command=-c&stdin=true&container=c"), "").await;
    assert!(why.contains("denied the request: not so"), "{why}");
    let asked = hooks.only();
    let options = json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "container": "c", "command": ["sh", "-c"]});
    assert_eq!((&asked["object"], &asked["options"]), (&options, &Value::Null));
    assert_eq!((&asked["name"], &asked["namespace"], &asked["operation"]), (&json!("p"), &json!("default"), &json!("CONNECT")));
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "PodExecOptions"}));
}

#[tokio::test]
async fn mutating_webhooks_change_the_object() {
    let (api, hooks) = (server().await, hooks().await);
    register(&api, &hooks, "Mutating", "b", "/label", &rule("CREATE", "", "configmaps"), "").await;
    register(&api, &hooks, "Mutating", "a", "/warn", &rule("CREATE", "", "configmaps"), "").await;
    let made = api.ask("admin", "POST", CONFIGMAPS, &[], "metadata: {generateName: x-, labels: {mine: 'yes'}}").await;
    assert_eq!(made.body["metadata"]["labels"], json!({"mine": "yes", "seen": "yes"}));
    assert_eq!(made.headers["warning"], "299 - \"mind the gap\"");
    let asked = hooks.take();
    assert_eq!(asked.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["/warn", "/label"], "by name");
    assert_eq!(asked[0].1.get("name"), None, "there is no name yet");
}

#[tokio::test]
async fn hooks_before_a_change_are_asked_again_where_they_want_to() {
    let (api, hooks) = (server().await, hooks().await);
    let rule = rule("CREATE", "", "configmaps");
    register(&api, &hooks, "Mutating", "a", "/count", &rule, ", reinvocationPolicy: IfNeeded").await;
    register(&api, &hooks, "Mutating", "b", "/label", &rule, "").await;
    let made = api.yes("POST", CONFIGMAPS, "metadata: {name: a}").await;
    assert_eq!(made["data"]["count"], "2");
    let asked = hooks.take();
    assert_eq!(asked.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["/count", "/label", "/count"]);
}

#[tokio::test]
async fn failures_are_decided_by_policy() {
    let (api, hooks) = (server().await, hooks().await);
    let create = rule("CREATE", "", "configmaps");
    for (path, more, want) in [
        ("/broken", "", Err("failed to call webhook: an error on the server (\"broken\") has prevented the request from succeeding")),
        ("/broken", ", failurePolicy: Ignore", Ok(())),
        ("/wrong", "", Err("received invalid webhook response: expected response.uid=")),
        ("/wrong", ", failurePolicy: Ignore", Ok(())),
        ("/slow", ", timeoutSeconds: 1", Err("context deadline exceeded")),
        ("/slow", ", timeoutSeconds: 1, failurePolicy: Ignore", Ok(())),
        ("/deny", ", failurePolicy: Ignore", Err("denied the request: not so")),
    ] {
        for kind in ["Validating", "Mutating"] {
            register(&api, &hooks, kind, "f", path, &create, more).await;
            let made = api.ask("admin", "POST", CONFIGMAPS, &[], "metadata: {generateName: x-}").await;
            match want {
                Ok(()) => assert_eq!(made.code, 201, "{path} {more}: {}", made.body),
                Err(why) => assert!(made.message().contains(why), "{path} {more}: {}", made.body),
            }
            if path == "/broken" && want.is_err() {
                let head = "Internal error occurred: failed calling webhook \"f.example.org\": failed to call webhook: ";
                assert!(made.code == 500 && made.message().starts_with(head), "{}", made.body);
            }
            api.yes("DELETE", &format!("{REGISTRATION}/{}webhookconfigurations/f", kind.to_lowercase()), "").await;
        }
    }
}

#[tokio::test]
async fn dry_runs_reach_only_hooks_without_side_effects() {
    let (api, hooks) = (server().await, hooks().await);
    let client = hooks.https.client_config("/allow");
    let body = |effects: &str| {
        format!(
            "{{metadata: {{name: a}}, webhooks: [{{name: a.example.org, clientConfig: {client}, admissionReviewVersions: [v1beta1, v1],
              sideEffects: {effects}, rules: [{{{}}}]}}]}}",
            rule("CREATE", "", "configmaps")
        )
    };
    let why = api.no(422, "POST", &format!("{REGISTRATION}/validatingwebhookconfigurations"), &body("Some")).await;
    assert!(why.contains("sideEffects"), "{why}");
    api.yes("POST", &format!("{REGISTRATION}/validatingwebhookconfigurations"), &body("NoneOnDryRun")).await;
    api.yes("POST", &format!("{CONFIGMAPS}?dryRun=All"), "metadata: {name: a}").await;
    let asked = hooks.only();
    assert_eq!((&asked["dryRun"], &asked["options"]["dryRun"]), (&json!(true), &json!(["All"])));
    api.no(404, "GET", &format!("{CONFIGMAPS}/a"), "").await;
}

#[tokio::test]
async fn selectors_and_scopes_decide() {
    let (api, hooks) = (server().await, hooks().await);
    api.yes("POST", "/api/v1/namespaces", "metadata: {name: quiet, labels: {hooks: 'off'}}").await;
    let more = ", namespaceSelector: {matchExpressions: [{key: hooks, operator: NotIn, values: ['off']}]},
        objectSelector: {matchLabels: {look: here}}";
    register(&api, &hooks, "Validating", "a", "/allow", &rule("CREATE, UPDATE", "", "'*'"), more).await;
    api.yes("POST", CONFIGMAPS, "metadata: {name: a}").await;
    api.yes("POST", "/api/v1/namespaces/quiet/configmaps", "metadata: {name: a, labels: {look: here}}").await;
    assert!(hooks.take().is_empty());
    api.yes("POST", CONFIGMAPS, "metadata: {name: b, labels: {look: here}}").await;
    hooks.only();
    // The old object's labels count as well.
    api.yes("PUT", &format!("{CONFIGMAPS}/b"), "metadata: {name: b}").await;
    hooks.only();
    // A namespace's own labels are those of the object that is being written.
    api.yes("POST", "/api/v1/namespaces", "metadata: {name: other, labels: {look: here, hooks: 'off'}}").await;
    assert!(hooks.take().is_empty());
    api.yes("POST", "/api/v1/namespaces", "metadata: {name: another, labels: {look: here}}").await;
    let asked = hooks.only();
    assert_eq!((&asked["namespace"], &asked["name"]), (&json!("another"), &json!("another")));
}

#[tokio::test]
async fn equivalent_versions_are_converted() {
    let (api, hooks) = (server().await, hooks().await);
    let v1 = "operations: [CREATE], apiGroups: [autoscaling], apiVersions: [v1], resources: [horizontalpodautoscalers]";
    register(&api, &hooks, "Mutating", "a", "/label", v1, "").await;
    register(&api, &hooks, "Mutating", "b", "/deny", v1, ", matchPolicy: Exact").await;
    let target = "scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}, maxReplicas: 3";
    let cpu = "metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]";
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let made = api.yes("POST", path, &format!("{{metadata: {{name: h}}, spec: {{{target}, {cpu}}}}}")).await;
    assert_eq!(made["apiVersion"], "autoscaling/v2");
    assert_eq!(made["metadata"]["labels"]["seen"], "yes");
    assert_eq!(made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    let asked = hooks.only();
    assert_eq!((&asked["kind"]["version"], &asked["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
    assert_eq!(
        (&asked["object"]["apiVersion"], &asked["object"]["spec"]["targetCPUUtilizationPercentage"]),
        (&json!("autoscaling/v1"), &json!(50))
    );
}

#[tokio::test]
async fn subresources_show_what_they_speak() {
    let (api, hooks) = (server().await, hooks().await);
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = "{metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}";
    api.yes(
        "POST",
        deployments,
        &format!("{{metadata: {{name: d}}, spec: {{selector: {{matchLabels: {{a: b}}}}, template: {template}}}}}"),
    )
    .await;
    register(&api, &hooks, "Validating", "v", "/allow", &rule("'*'", "apps", "deployments, deployments/scale, deployments/status"), "")
        .await;
    register(&api, &hooks, "Mutating", "m", "/scale", &rule("UPDATE", "apps", "deployments/scale"), "").await;
    let scale = "{metadata: {name: d}, spec: {replicas: 3}}";
    assert_eq!(api.yes("PUT", &format!("{deployments}/d/scale"), scale).await["spec"]["replicas"], 7);
    assert_eq!(api.yes("GET", &format!("{deployments}/d"), "").await["spec"]["replicas"], 7);
    let asked = hooks.take();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let (first, last) = (&asked[0].1, &asked[1].1);
    assert_eq!(first["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!((&first["oldObject"]["spec"]["replicas"], &first["object"]["spec"]["replicas"]), (&json!(1), &json!(3)));
    assert_eq!((&last["object"]["spec"]["replicas"], &last["subResource"]), (&json!(7), &json!("scale")));
    let status = "{metadata: {name: d}, status: {replicas: 2}}";
    let merge = [("content-type", "application/merge-patch+json")];
    api.ask("admin", "PATCH", &format!("{deployments}/d/status"), &merge, r#"{"status":{"replicas":2}}"#).await;
    assert_eq!(hooks.only()["subResource"], "status", "{status}");
}

#[tokio::test]
async fn hooks_are_not_asked_about_hooks() {
    let (api, hooks) = (server().await, hooks().await);
    let all = "operations: ['*'], apiGroups: ['*'], apiVersions: ['*'], resources: ['*/*']";
    register(&api, &hooks, "Mutating", "m", "/deny", all, "").await;
    register(&api, &hooks, "Validating", "v", "/deny", all, "").await;
    api.no(403, "POST", CONFIGMAPS, "metadata: {name: a}").await;
    api.yes("DELETE", &format!("{REGISTRATION}/mutatingwebhookconfigurations/m"), "").await;
    api.yes("DELETE", &format!("{REGISTRATION}/validatingwebhookconfigurations/v"), "").await;
    api.yes("POST", CONFIGMAPS, "metadata: {name: a}").await;
}

#[tokio::test]
async fn match_conditions_decide_before_the_hook() {
    let (api, hooks) = (server().await, hooks().await);
    let create = rule("CREATE", "", "configmaps");
    let conditions = |list: &str| format!(", matchConditions: [{list}]");
    let skip = conditions(
        "{name: op, expression: \"request.operation == 'CREATE'\"}, {name: skip, expression: \"object.metadata.name != 'skip-me'\"}",
    );
    for kind in ["Validating", "Mutating"] {
        register(&api, &hooks, kind, "c", "/deny", &create, &skip).await;
        api.yes("POST", CONFIGMAPS, "metadata: {name: skip-me}").await;
        assert!(hooks.take().is_empty());
        api.no(403, "POST", CONFIGMAPS, "metadata: {name: ask-me}").await;
        hooks.only();
        api.yes("DELETE", &format!("{REGISTRATION}/{}webhookconfigurations/c", kind.to_lowercase()), "").await;
        api.yes("DELETE", &format!("{CONFIGMAPS}/skip-me"), "").await;
    }
    // What can't be evaluated is decided by the failure policy.
    let fails = conditions("{name: f, expression: \"object.data.missing == 'x'\"}");
    register(&api, &hooks, "Validating", "f", "/allow", &create, &fails).await;
    let why = api.no(403, "POST", CONFIGMAPS, "{metadata: {name: a}, data: {k: v}}").await;
    assert!(why.contains("no such key: missing"), "{why}");
    api.yes("DELETE", &format!("{REGISTRATION}/validatingwebhookconfigurations/f"), "").await;
    register(&api, &hooks, "Validating", "f", "/deny", &create, &format!("{fails}, failurePolicy: Ignore")).await;
    api.yes("POST", CONFIGMAPS, "{metadata: {name: a}, data: {k: v}}").await;
    assert!(hooks.take().is_empty());
    let client = hooks.https.client_config("/allow");
    let broken = format!(
        "{{metadata: {{name: b}}, webhooks: [{{name: b.example.org, clientConfig: {client}, admissionReviewVersions: [v1], sideEffects: None,
          matchConditions: [{{name: broken, expression: '... [] bad expression'}}]}}]}}"
    );
    let why = api.no(422, "POST", &format!("{REGISTRATION}/validatingwebhookconfigurations"), &broken).await;
    assert!(why.contains("webhooks[0].matchConditions[0].expression") && why.contains("compilation failed"), "{why}");
}
