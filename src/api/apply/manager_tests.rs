//! The chain: what is stripped, reset, tracked from the first apply on, and taken over from client-side apply.

use serde_json::json;

use super::*;
use crate::api::apply::compile::built_in;
use crate::api::apply::{Filter, Schema};

struct Deployments(Schema);

impl Versions for Deployments {
    fn schema(&self, version: &str) -> Option<&Schema> {
        (version == "apps/v1").then_some(&self.0)
    }
    fn convert(&self, _: &Value, _: &str, _: &str) -> Result<Value, String> {
        Err("there is one version".into())
    }
    fn filter(&self, _: &str) -> Filter {
        Filter::Except(&[&["status"]])
    }
}

fn versions() -> Deployments {
    Deployments(built_in(|generator| generator.subschema_for::<k8s_openapi::api::apps::v1::Deployment>()))
}

fn now() -> Time {
    Time("2026-01-02T03:04:05Z".parse().unwrap())
}

fn writer<'a>(manager: &'a str, now: &'a Time) -> Writer<'a> {
    Writer { manager, version: "apps/v1", subresource: "", now }
}

fn deployment(spec: &str) -> Value {
    let spec: Value = serde_yaml::from_str(spec).unwrap();
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
}

fn shown(entries: Option<&[ManagedFieldsEntry]>) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let one = |e: &ManagedFieldsEntry| {
        let fields = e.fields_v1.as_ref().map(|fields| fields.0.to_string()).unwrap_or_default();
        format!("{} {} {fields}", text(&e.manager), text(&e.operation))
    };
    entries.unwrap_or_default().iter().map(one).collect()
}

#[test]
fn creation_and_reset() {
    let (versions, now, zero) = (versions(), now(), json!({"metadata": {}, "spec": {"strategy": {}}, "status": {}}));
    let live = || Live { value: &zero, entries: None, is_new: true };
    let new = deployment("{replicas: 1, strategy: {type: Recreate}}");
    let entries = update(live(), &new, None, writer("", &now), &versions).unwrap();
    let want = r#"unknown Update {"f:spec":{"f:replicas":{},"f:strategy":{"f:type":{}}}}"#;
    assert_eq!(shown(entries.as_deref()), [want]);
    assert_eq!(entries.as_ref().unwrap()[0].time, Some(now.clone()));
    // An update of what nobody tracks starts no tracking, and a reset stops it.
    let stored = |entries| Live { value: &new, entries, is_new: false };
    let changed = deployment("{replicas: 2, strategy: {type: Recreate}}");
    assert_eq!(update(stored(None), &changed, None, writer("m", &now), &versions).unwrap(), None);
    assert_eq!(update(stored(entries.clone()), &changed, Some(vec![]), writer("m", &now), &versions).unwrap(), None);
    // What a client sends counts, unless it is nonsense.
    let nonsense = Some(vec![ManagedFieldsEntry { operation: Some("Eat".into()), ..Default::default() }]);
    let after = update(stored(entries.clone()), &changed, nonsense, writer("m", &now), &versions).unwrap();
    assert_eq!(
        shown(after.as_deref()),
        [r#"m Update {"f:spec":{"f:replicas":{}}}"#, r#"unknown Update {"f:spec":{"f:strategy":{"f:type":{}}}}"#]
    );
    // Removing is no taking: the time stays.
    let fewer = deployment("{strategy: {type: Recreate}}");
    let later = Time("2027-01-02T03:04:05Z".parse().unwrap());
    let after = update(stored(entries), &fewer, None, writer("", &later), &versions).unwrap();
    assert_eq!(shown(after.as_deref()), [r#"unknown Update {"f:spec":{"f:strategy":{"f:type":{}}}}"#]);
    assert_eq!(after.unwrap()[0].time, Some(now));
}

#[test]
fn the_first_apply_and_conflicts() {
    let (versions, now, zero) = (versions(), now(), json!({"metadata": {}, "spec": {}, "status": {}}));
    let live = deployment("{replicas: 1, paused: true}");
    let config = deployment("{replicas: 3, paused: false}");
    let applied = |force| Applied { config: &config, kind: "Deployment", force, zero: &zero };
    let stored = || Live { value: &live, entries: None, is_new: false };
    let error = apply(stored(), applied(false), writer("me", &now), &versions).unwrap_err();
    let message = "Apply failed with 2 conflicts: conflicts with \"before-first-apply\" using apps/v1:\n- .spec.paused\n- .spec.replicas";
    let status = Status::from(error);
    assert_eq!((status.code, &*status.reason, status.message.as_str()), (409, "Conflict", message));
    let causes = status.details.unwrap().causes;
    assert_eq!(causes[0].message, "conflict with \"before-first-apply\" using apps/v1");
    assert_eq!((causes[1].reason.as_str(), causes[1].field.as_str()), ("FieldManagerConflict", ".spec.replicas"));
    let (merged, entries) = apply(stored(), applied(true), writer("me", &now), &versions).unwrap();
    assert_eq!(merged["spec"], json!({"replicas": 3, "paused": false}));
    assert_eq!(shown(entries.as_deref()), [r#"me Apply {"f:spec":{"f:paused":{},"f:replicas":{}}}"#]);
}

#[test]
fn client_side_apply_is_taken_over_by_kubectl() {
    let (versions, now, zero) = (versions(), now(), json!({"metadata": {}, "spec": {}, "status": {}}));
    let mut live = deployment("{replicas: 1, paused: true}");
    let record = deployment("{replicas: 1, paused: false}").to_string();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: record});
    let apply_as = |manager: &str, spec: &str| {
        let config = deployment(spec);
        let applied = Applied { config: &config, kind: "Deployment", force: false, zero: &zero };
        apply(Live { value: &live, entries: None, is_new: false }, applied, writer(manager, &now), &versions)
    };
    let message = |result: Result<_, ApplyError>| result.map(|_: (Value, _)| ()).unwrap_err().to_string();
    assert!(message(apply_as("me", "{replicas: 2}")).contains(".spec.replicas"));
    // Somebody else set `paused` since.
    assert_eq!(
        message(apply_as("kubectl", "{paused: false, replicas: 2}")),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.paused"
    );
    let (merged, _) = apply_as("kubectl", "{replicas: 2}").unwrap();
    assert_eq!(merged["spec"]["replicas"], 2);
    assert_eq!(merged["metadata"]["annotations"][LAST_APPLIED], format!("{}\n", deployment("{replicas: 2}")));
}

#[test]
fn wrong_configurations() {
    let (versions, now, zero) = (versions(), now(), json!({}));
    let try_it = |config: Value| {
        let applied = Applied { config: &config, kind: "Deployment", force: false, zero: &zero };
        let status =
            Status::from(apply(Live { value: &zero, entries: None, is_new: true }, applied, writer("m", &now), &versions).unwrap_err());
        (status.code, status.message)
    };
    let wrong = |field: &str, value: Value| {
        let mut config = deployment("{}");
        *config.pointer_mut(field).unwrap() = value;
        try_it(config)
    };
    assert_eq!(wrong("/kind", json!("Pod")), (400, "invalid object type: apps/v1, Kind=Pod".into()));
    assert_eq!(wrong("/apiVersion", json!("v1")), (400, "invalid object type: /v1, Kind=Deployment".into()));
    assert_eq!(wrong("/metadata", json!({"managedFields": []})), (400, "metadata.managedFields must be nil".into()));
    let (code, message) = wrong("/spec", json!({"replica": 1}));
    assert_eq!(code, 400);
    assert_eq!(message, "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema");
}
