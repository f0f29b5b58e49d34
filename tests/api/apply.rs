//! Server-side apply as data: histories of one object by several managers, in `apply.yaml` and `apply_custom.yaml`, each run over HTTP.
//!
//! A case has steps; each names a verb (`apply`, `create`, `update`, `merge`, `json`, `strategic`, `delete`), who does it, and what is to
//! come of it: a code, a part of the message, the conflicts. At its end stands what the object `has` and `lacks` at JSON pointers, and
//! who `owns` which fields, completely.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use serde_json::Value;

use crate::support::{Answer, Server, server, whole_server};

/// Read when the test runs, so that a case is added without compiling.
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/apply.yaml");
/// Those of custom resources.
const CUSTOM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/apply_custom.yaml");

/// One kind with every way of merging, in two versions.
fn things() -> String {
    let version = |name: &str, storage: bool| {
        format!(
            "
  - name: {name}
    served: true
    storage: {storage}
    subresources: {{status: {{}}}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              text: {{type: string}}
              size: {{type: integer, default: 1, maximum: 100}}
              either: {{x-kubernetes-int-or-string: true}}
              ports:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [port, protocol]
                items:
                  type: object
                  required: [port]
                  properties: {{port: {{type: integer}}, protocol: {{type: string, default: TCP}}, name: {{type: string}}}}
              tags: {{type: array, x-kubernetes-list-type: set, items: {{type: string}}}}
              args: {{type: array, items: {{type: string}}}}
              steps: {{type: array, items: {{type: object, properties: {{name: {{type: string}}, run: {{type: string}}}}}}}}
              limits: {{type: object, x-kubernetes-map-type: atomic, additionalProperties: {{type: integer}}}}
              notes: {{type: object, additionalProperties: {{type: string}}}}
              open: {{type: object, x-kubernetes-preserve-unknown-fields: true}}
          status:
            type: object
            properties:
              phase: {{type: string}}
              conditions:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [type]
                items: {{type: object, required: [type], properties: {{type: {{type: string}}, state: {{type: string}}}}}}"
        )
    };
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: things.example.com}}
spec:
  group: example.com
  scope: Namespaced
  names: {{plural: things, kind: Thing}}
  versions:{}{}",
        version("v1", true),
        version("v2", false)
    )
}

/// Kind and version, and where its objects are.
const PATHS: &[(&str, &str, &str)] = &[
    ("v1", "ConfigMap", "/api/v1/namespaces/default/configmaps"),
    ("v1", "Secret", "/api/v1/namespaces/default/secrets"),
    ("v1", "Service", "/api/v1/namespaces/default/services"),
    ("v1", "ServiceAccount", "/api/v1/namespaces/default/serviceaccounts"),
    ("v1", "Pod", "/api/v1/namespaces/default/pods"),
    ("apps/v1", "Deployment", "/apis/apps/v1/namespaces/default/deployments"),
    ("autoscaling/v1", "Scale", "/apis/apps/v1/namespaces/default/deployments"),
    ("autoscaling/v1", "HorizontalPodAutoscaler", "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"),
    ("example.com/v1", "Thing", "/apis/example.com/v1/namespaces/default/things"),
    ("example.com/v2", "Thing", "/apis/example.com/v2/namespaces/default/things"),
    ("networking.k8s.io/v1", "NetworkPolicy", "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"),
];

fn text<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    of.get(name).and_then(Value::as_str)
}

/// Fields that any step may leave out, taken from the case.
fn whole(body: &Value, case: &Value) -> Value {
    let mut whole = body.clone();
    if let (Some(map), Some(of)) = (whole.as_object_mut(), case.get("of").and_then(Value::as_object)) {
        for (name, value) in of {
            map.entry(name).or_insert_with(|| value.clone());
        }
        let metadata = map.entry("metadata").or_insert_with(|| serde_json::json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.entry("name").or_insert_with(|| "x".into());
        }
    }
    whole
}

fn place(of: &Value) -> &'static str {
    let (version, kind) = (text(of, "apiVersion").unwrap_or_default(), text(of, "kind").unwrap_or_default());
    let found = PATHS.iter().find(|(v, k, _)| *v == version && *k == kind);
    found.unwrap_or_else(|| panic!("no path for {version} {kind}")).2
}

const VERBS: &[(&str, &str, &str)] = &[
    ("apply", "PATCH", "application/apply-patch+yaml"),
    ("create", "POST", "application/json"),
    ("update", "PUT", "application/json"),
    ("merge", "PATCH", "application/merge-patch+json"),
    ("json", "PATCH", "application/json-patch+json"),
    ("strategic", "PATCH", "application/strategic-merge-patch+json"),
];

async fn step(api: &Server, case: &Value, step: &Value) -> Answer {
    let (verb, method, content_type) = *VERBS.iter().find(|(verb, ..)| step.get(verb).is_some()).expect("a verb");
    let given = &step[verb];
    // What is in the step stands; patches are sent as they are.
    let body = if ["apply", "create", "update"].contains(&verb) { whole(given, case) } else { given.clone() };
    let of = if step.get("of").is_some() { whole(&step["of"], case) } else { whole(&serde_json::json!({}), case) };
    let mut path = match text(step, "path") {
        Some(path) => path.to_owned(),
        None if verb == "create" => place(&of).to_owned(),
        None => format!("{}/x", place(&of)),
    };
    if let Some(subresource) = text(step, "at") {
        path = format!("{path}/{subresource}");
    }
    let mut query = Vec::new();
    if let Some(manager) = text(step, "by") {
        query.push(format!("fieldManager={manager}"));
    }
    if step["force"] == true {
        query.push("force=true".into());
    }
    query.extend(text(step, "query").map(str::to_owned));
    let uri = format!("{path}?{}", query.join("&"));
    let agent = text(step, "agent").unwrap_or("test/1");
    api.ask("admin", method, &uri, &[("content-type", content_type), ("user-agent", agent)], &body.to_string()).await
}

/// Owners as `MANAGER OPERATION` or `MANAGER OPERATION SUBRESOURCE`, with their fields.
fn owners(object: &Value) -> serde_json::Map<String, Value> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| {
        let parts = ["manager", "operation", "subresource"].map(|part| text(entry, part).unwrap_or_default().to_owned());
        parts.join(" ").trim_end().to_owned()
    };
    entries.iter().map(|entry| (name(entry), entry["fieldsV1"].clone())).collect()
}

fn check(case: &str, object: &Value, want: &Value) {
    for (pointer, value) in want["has"].as_object().into_iter().flatten() {
        assert_eq!(object.pointer(pointer), Some(value), "{case}: {pointer} of {object}");
    }
    for pointer in want["lacks"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert_eq!(object.pointer(pointer), None, "{case}: {pointer} of {object}");
    }
    let Some(owns) = want.get("owns").and_then(Value::as_object) else { return };
    let found = owners(object);
    let names = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(owns), "{case}: owners of {object}");
    for (name, fields) in owns.iter().filter(|(_, fields)| *fields != "any") {
        assert_eq!(&found[name], fields, "{case}: what {name} owns");
    }
}

async fn run(api: &Server, case: &Value) {
    let name = text(case, "name").expect("a case has a name");
    let mut used: Vec<String> = Vec::new();
    let mut last = Value::Null;
    for (index, one) in case["steps"].as_array().expect("steps").iter().enumerate() {
        let at = format!("{name}, step {}", index + 1);
        let before = last.clone();
        let repeat = one["times"].as_u64().unwrap_or(1);
        let mut answer = None;
        for time in 0..repeat {
            let one: Value = serde_json::from_str(&one.to_string().replace("TIME", &time.to_string())).unwrap();
            answer = Some(step(api, case, &one).await);
        }
        let answer = answer.expect("sent");
        let code = one["code"].as_u64().or_else(|| one.get("conflicts").map(|_| 409));
        let fits = code.map_or((200..300).contains(&answer.code), |code| code == u64::from(answer.code));
        assert!(fits, "{at}: {} {}", answer.code, answer.body);
        if let Some(message) = text(one, "message") {
            assert!(answer.message().contains(message), "{at}: {}", answer.message());
        }
        if let Some(conflicts) = one["conflicts"].as_array() {
            let causes = answer.body["details"]["causes"].as_array().cloned().unwrap_or_default();
            let shown = |cause: &Value| {
                assert_eq!(cause["reason"], "FieldManagerConflict", "{at}");
                Value::from(format!("{}: {}", text(cause, "message").unwrap_or_default(), text(cause, "field").unwrap_or_default()))
            };
            assert_eq!(&causes.iter().map(shown).collect::<Vec<_>>(), conflicts, "{at}");
            assert_eq!((&answer.body["reason"], answer.code), (&Value::from("Conflict"), 409), "{at}");
        }
        check(&at, &answer.body, one);
        if answer.code < 300 {
            let of = if one.get("of").is_some() { whole(&one["of"], case) } else { whole(&serde_json::json!({}), case) };
            let path = format!("{}/x", place(&of));
            last = if text(one, "at") == Some("scale") { api.yes("GET", &path, "").await } else { answer.body };
            if one["unchanged"] == true {
                assert_eq!(last["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"], "{at}");
            }
            if !used.contains(&path) {
                used.push(path);
            }
        }
    }
    if !used.is_empty() {
        let path = format!("{}/x", place(&whole(&serde_json::json!({}), case)));
        let stored = api.ask("admin", "GET", &path, &[], "").await;
        if stored.code == 200 {
            check(name, &stored.body, case);
            api.ask("admin", "DELETE", &format!("{path}?gracePeriodSeconds=0"), &[], "").await;
        }
    }
}

#[tokio::test]
async fn histories() {
    let api = server().await;
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
    run_all(&api, CASES, 60).await;
}

#[tokio::test]
async fn histories_of_custom_resources() {
    let api = whole_server().await;
    super::custom::define(&api, &things()).await;
    run_all(&api, CUSTOM, 20).await;
}

async fn run_all(api: &Server, file: &str, least: usize) {
    let cases: Vec<Value> = serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).expect("the file is well written");
    assert!(cases.len() >= least, "{}", cases.len());
    let mut failed = Vec::new();
    for case in &cases {
        // All that fail are told at once.
        if AssertUnwindSafe(run(api, case)).catch_unwind().await.is_err() {
            failed.push(text(case, "name").unwrap_or_default());
            for (_, _, path) in PATHS {
                api.ask("admin", "DELETE", &format!("{path}/x?gracePeriodSeconds=0"), &[], "").await;
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
