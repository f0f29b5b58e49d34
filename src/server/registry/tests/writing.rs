//! Create, update, patch, scale, delete.
use serde_json::json;

use super::*;

#[tokio::test]
async fn create_fills_in_and_refuses() {
    let fixture = Fixture::new().await;
    let written = fixture.create("deployments", "{metadata: {generateName: web-, uid: mine, generation: 9}}").await.expect("created");
    let meta = written.entry.meta();
    assert!(written.created && meta.name.as_ref().expect("named").starts_with("web-") && meta.uid.as_deref() != Some("mine"));
    assert_eq!((meta.generation, meta.namespace.as_deref()), (Some(1), Some("default")));
    assert_eq!(meta.creation_timestamp.as_ref().expect("dated").0.subsec_nanosecond(), 0);
    assert_eq!(json(&written.entry)["spec"]["replicas"], 1);

    fixture.create("configmaps", "{metadata: {name: a}}").await.expect("created");
    let cases: &[(&str, &str, u16, &str)] = &[
        ("configmaps", "{metadata: {name: a}}", 409, "configmaps \"a\" already exists"),
        ("configmaps", "{metadata: {name: b, resourceVersion: '1'}}", 400, "resourceVersion should not be set on objects to be created"),
        ("configmaps", "{metadata: {name: b, namespace: x}}", 400, "the namespace of the provided object does not match"),
        ("configmaps", "{metadata: {}}", 422, "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"),
        ("configmaps", "{metadata: {name: A_}}", 422, "metadata.name: Invalid value"),
        ("configmaps", "{apiVersion: v2, metadata: {name: b}}", 400, "the API version in the data (v2) does not match the expected"),
        ("configmaps", "{kind: Pod, metadata: {name: b}}", 400, "cannot be handled as a ConfigMap"),
        ("configmaps", "{metadata: {name: b}, data: {x: [1]}}", 400, "data.x: invalid type: sequence, expected a string"),
        ("deployments", "{metadata: {name: b}, spec: {replicas: many}}", 400, "spec.replicas: invalid type: string \"many\""),
        ("deployments", "{metadata: {name: b}, spec: {replicas: 101}}", 422, "spec.replicas: Invalid value: 101: too many"),
        ("configmaps", "", 400, "the body is empty"),
        ("configmaps", "{", 400, "ConfigMap in version \"v1\" cannot be handled as a ConfigMap"),
    ];
    for (resource, yaml, code, message) in cases {
        let found = refusal(fixture.create(resource, yaml).await);
        assert!(found.0 == *code && found.1.contains(message), "{yaml}: {found:?}");
    }
    let options = WriteOptions::default();
    let impossible = fixture.registry.create(fixture.kind("configmaps"), "x/y", body("{metadata: {name: a}}"), &options).await;
    assert_eq!(refusal(impossible).0, 404);
    assert_eq!(refusal(fixture.registry.get(fixture.kind("configmaps"), "default", "a/b").await).0, 404);
    assert_eq!(refusal(fixture.create("localsubjectaccessreviews", "{metadata: {name: a}}").await).0, 405);
    let missing = fixture.registry.create(fixture.kind("configmaps"), "none", body("{metadata: {name: a}}"), &options).await;
    assert_eq!(refusal(missing), (404, "namespaces \"none\" not found".into()));
}

#[tokio::test]
async fn unknown_and_duplicate_fields() {
    let fixture = Fixture::new().await;
    let text =
        r#"{"metadata":{"name":"a"},"spec":{"foo":1,"replicas":1,"replicas":2,"template":{"spec":{"containers":[{"x":1,"name":"c"}]}}}}"#;
    let problems =
        ["duplicate field \"spec.replicas\"", "unknown field \"spec.foo\"", "unknown field \"spec.template.spec.containers[0].x\""];
    let create = async |field_validation| {
        let options = WriteOptions { field_validation, dry_run: true, ..WriteOptions::default() };
        let body = Body { bytes: Bytes::from_static(text.as_bytes()), format: Format::Json };
        fixture.registry.create(fixture.kind("deployments"), "default", body, &options).await
    };
    let warned = create(FieldValidation::Warn).await.expect("created");
    assert_eq!(warned.warnings, problems);
    assert_eq!(json(&warned.entry)["spec"]["replicas"], 2);
    assert!(create(FieldValidation::Ignore).await.expect("created").warnings.is_empty());
    let (code, message) = refusal(create(FieldValidation::Strict).await);
    let start = "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: ";
    assert_eq!((code, message), (400, format!("{start}{}", problems.join(", "))));
    assert!(fixture.registry.get(fixture.kind("deployments"), "default", "a").await.is_err(), "a dry run writes nothing");
}

#[tokio::test]
async fn update_counts_generations_and_checks_revisions() {
    let fixture = Fixture::new().await;
    let first = fixture.create("deployments", "{metadata: {name: a}}").await.expect("created").entry;
    let change = |yaml: &'static str| fixture.update("deployments", "a", Part::Main, yaml);
    let same = change("{metadata: {name: a}}").await.expect("accepted").entry;
    assert_eq!(same.rev, first.rev, "no change, no write");
    let labelled = change("{metadata: {name: a, labels: {x: 'y'}}}").await.expect("accepted").entry;
    assert!(labelled.rev > first.rev && labelled.meta().generation == Some(1));
    let scaled = change("{metadata: {name: a}, spec: {replicas: 2}, status: {replicas: 7}}").await.expect("accepted").entry;
    assert_eq!((scaled.meta().generation, json(&scaled).get("status")), (Some(2), None));
    assert_eq!(scaled.meta().uid, first.meta().uid);
    let status = fixture.update("deployments", "a", Part::Status, "{metadata: {name: a}, spec: {replicas: 9}, status: {replicas: 7}}");
    let status = status.await.expect("accepted").entry;
    assert_eq!((status.meta().generation, json(&status)["status"]["replicas"].as_i64()), (Some(2), Some(7)));
    assert_eq!(json(&status)["spec"]["replicas"], 2);

    let stale = format!("{{metadata: {{name: a, resourceVersion: '{}'}}}}", first.rev);
    let stale = refusal(fixture.update("deployments", "a", Part::Main, &stale).await);
    let text = "Operation cannot be fulfilled on deployments.apps \"a\": the object has been modified; please apply your changes to the \
                latest version and try again";
    assert_eq!(stale, (409, text.into()));
    let other = refusal(change("{metadata: {name: a, uid: other}}").await);
    assert!(other.0 == 409 && other.1.contains("Precondition failed: UID in precondition: other, UID in object meta: "), "{other:?}");
    assert_eq!(refusal(change("{metadata: {name: b}}").await).0, 400);
    assert_eq!(refusal(fixture.update("deployments", "b", Part::Main, "{metadata: {name: b}}").await).0, 404);
    assert!(fixture.update("configmaps", "new", Part::Main, "{metadata: {name: new}}").await.expect("created").created);
}

#[tokio::test]
async fn patches_of_all_types() {
    let fixture = Fixture::new().await;
    fixture.create("configmaps", "{metadata: {name: a}, data: {x: '1', 'y': '2'}}").await.expect("created");
    let options = WriteOptions::default();
    let patch = async |name: &str, patch: Patch| {
        fixture.registry.patch(fixture.kind("configmaps"), "default", name, Part::Main, patch, &options).await
    };
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    patch("a", Patch::Merge(text(r#"{"data":{"x":null,"z":"3"}}"#))).await.expect("merged");
    assert_eq!(fixture.value("configmaps", "a").await["data"], json!({"y": "2", "z": "3"}));
    patch("a", Patch::Json(text(r#"[{"op":"replace","path":"/data/y","value":"4"}]"#))).await.expect("patched");
    patch("a", Patch::Strategic(text(r#"{"metadata":{"labels":{"l":"m"}}}"#))).await.expect("merged");
    let value = fixture.value("configmaps", "a").await;
    assert_eq!((&value["data"]["y"], &value["metadata"]["labels"]), (&json!("4"), &json!({"l": "m"})));
    let failed = patch("a", Patch::Json(text(r#"[{"op":"test","path":"/data/y","value":"5"}]"#))).await;
    assert_eq!(refusal(failed).0, 422);
    assert_eq!(refusal(patch("a", Patch::Merge(text(r#"{"metadata":{"resourceVersion":"1"}}"#))).await).0, 409);
    assert_eq!(refusal(patch("a", Patch::Merge(text("["))).await).0, 400);
    assert_eq!(refusal(patch("none", Patch::Merge(text("{}"))).await).0, 404);
    let applied = |body: &'static str| Patch::Apply { body: text(body), force: false };
    let created = patch("b", applied("{apiVersion: v1, kind: ConfigMap, metadata: {name: b}, data: {k: v}}")).await.expect("created");
    assert!(created.created);
    let merged = patch("b", applied("{apiVersion: v1, kind: ConfigMap, metadata: {name: b}, data: {l: w}}")).await.expect("merged");
    assert!(!merged.created);
    assert_eq!(json(&merged.entry)["data"], json!({"l": "w"}), "what the applier left out is gone");
}

#[tokio::test]
async fn lost_races_are_decided_again() {
    let fixture = Fixture::new().await;
    fixture.create("configmaps", "{metadata: {name: a}}").await.expect("created");
    let options = WriteOptions::default();
    let add = |index: usize| {
        let (fixture, options) = (&fixture, &options);
        async move {
            let patch = Patch::Merge(Bytes::from(format!(r#"{{"data":{{"k{index}":"v"}}}}"#)));
            fixture.registry.patch(fixture.kind("configmaps"), "default", "a", Part::Main, patch, options).await
        }
    };
    for result in futures::future::join_all((0..4).map(add)).await {
        result.expect("patched");
    }
    assert_eq!(fixture.value("configmaps", "a").await["data"].as_object().expect("data").len(), 4);
}

#[tokio::test]
async fn scale() {
    let fixture = Fixture::new().await;
    fixture.create("deployments", "{metadata: {name: a}}").await.expect("created");
    let kind = fixture.kind("deployments");
    assert_eq!(fixture.registry.get_scale(kind, "default", "a").await.expect("scalable")["spec"]["replicas"], 1);
    let set = async |replicas: i64| {
        let edit = move |mut scale: Value| {
            scale["spec"]["replicas"] = replicas.into();
            Ok(scale)
        };
        fixture.registry.edit_scale(kind, "default", "a", ScaleChange::Edit(&edit), &WriteOptions::default()).await
    };
    let (scaled, _) = set(3).await.expect("scaled");
    assert_eq!((&scaled["spec"]["replicas"], &scaled["status"]["selector"]), (&json!(3), &json!("a=b")));
    assert_eq!(fixture.value("deployments", "a").await["metadata"]["generation"], 2);
    let text = "Scale.autoscaling \"a\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0";
    assert_eq!(refusal(set(-1).await), (422, text.into()));
    assert_eq!(refusal(fixture.registry.get_scale(fixture.kind("configmaps"), "default", "a").await).0, 404);
}

#[tokio::test]
async fn deletion_waits_for_finalizers_and_grace() {
    let fixture = Fixture::new().await;
    fixture.create("configmaps", "{metadata: {name: a, finalizers: [x/y]}}").await.expect("created");
    assert!(matches!(fixture.delete("configmaps", "a", DeleteOptions::default()).await, Ok(Deleted::Pending(_))));
    let adding = "{metadata: {name: a, finalizers: [x/y, x/z]}}";
    assert_eq!(refusal(fixture.update("configmaps", "a", Part::Main, adding).await).0, 422);
    fixture.update("configmaps", "a", Part::Main, "{metadata: {name: a}}").await.expect("accepted");
    assert_eq!(refusal(fixture.registry.get(fixture.kind("configmaps"), "default", "a").await).0, 404);

    let pod = |node: &str| format!("{{metadata: {{name: p}}, spec: {{{node} containers: [{{name: c, image: i}}]}}}}");
    fixture.create("pods", &pod("nodeName: 'n',")).await.expect("created");
    assert!(matches!(fixture.delete("pods", "p", DeleteOptions::default()).await, Ok(Deleted::Pending(_))));
    assert_eq!(fixture.value("pods", "p").await["metadata"]["deletionGracePeriodSeconds"], 30);
    let now = DeleteOptions { grace: Some(0), ..DeleteOptions::default() };
    let wrong = DeleteOptions { uid: Some("other".into()), ..now.clone() };
    assert_eq!(refusal(fixture.delete("pods", "p", wrong).await).0, 409);
    let old = DeleteOptions { rev: Some(crate::api::Rev(1)), ..now.clone() };
    assert_eq!(refusal(fixture.delete("pods", "p", old).await).0, 409);
    assert!(matches!(fixture.delete("pods", "p", now).await, Ok(Deleted::Gone(_))));
    fixture.create("pods", &pod("")).await.expect("created");
    assert!(matches!(fixture.delete("pods", "p", DeleteOptions::default()).await, Ok(Deleted::Gone(_))), "an unscheduled pod goes at once");
    let policy = DeleteOptions { propagation: Some("Sideways".into()), ..DeleteOptions::default() };
    assert_eq!(refusal(fixture.delete("pods", "p", policy).await).0, 422);
}

#[tokio::test]
async fn a_new_namespaces_account_is_waited_for() {
    let fixture = Fixture::new().await;
    let store = fixture.registry.store().clone();
    put::<Namespace>(&store, "", "new", "{apiVersion: v1, kind: Namespace, metadata: {name: new}}").await;
    let (kind, options) = (fixture.kind("pods"), WriteOptions::default());
    // The doubles are not `Pod`s to admission, so the wait is driven with the API type itself.
    let pod: k8s_openapi::api::core::v1::Pod =
        serde_yaml::from_str("{metadata: {name: p, namespace: new}, spec: {containers: [{name: c}]}}").expect("a test pod");
    let (mut pod, mut findings): (Box<dyn Object>, _) = (Box::new(pod), admission::Findings::default());
    let asked = admission::Asked { kind, operation: admission::Operation::Create, old: None, options: &options, deletion: None };
    let refused = fixture.registry.admit(admission::Phase::Mutate, asked, &mut pod, &mut findings).await.expect_err("refused");
    assert_eq!(refused.awaiting, Some(Key::new("", "serviceaccounts", "new", "default")));
    let text = "pods \"p\" is forbidden: error looking up service account new/default: serviceaccount \"default\" not found";
    assert_eq!((refused.status.code, refused.status.message.as_str()), (403, text));
    let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: new}}";
    let (admitted, ()) = tokio::join!(
        fixture.registry.admit_patiently(asked, &mut pod, &mut findings),
        put::<ServiceAccount>(&store, "new", "default", account)
    );
    admitted.expect("admitted once the account was there");
}

#[tokio::test]
async fn trusted_code_writes_objects() {
    use super::doubles::Work;
    let (fixture, options) = (Fixture::new().await, WriteOptions::default());
    let work: Work = serde_yaml::from_str("{metadata: {generateName: w-, namespace: default}}").expect("a test object");
    let created = fixture.registry.create_object(Box::new(work), &options).await.expect("created").entry;
    assert_eq!(json(&created)["spec"]["replicas"], 1, "defaults apply");
    let name = created.key.name();
    let both = |object: &mut dyn Object| {
        let work: &mut Work = object.as_any_mut().downcast_mut().expect("a Work");
        work.0.spec.replicas = Some(5);
        work.0.status.get_or_insert_default().replicas = Some(4);
        Ok(())
    };
    let edited = fixture.registry.edit(fixture.kind("deployments"), "default", name, Part::Main, &both, &options).await;
    let edited = json(&edited.expect("accepted").entry);
    assert_eq!((&edited["spec"]["replicas"], &edited["status"]["replicas"]), (&json!(5), &json!(4)));
    let refuses = |_: &mut dyn Object| Err(Status::bad_request("no"));
    let refused = fixture.registry.edit(fixture.kind("deployments"), "default", name, Part::Main, &refuses, &options).await;
    assert_eq!(refusal(refused), (400, "no".into()));
    let many = |object: &mut dyn Object| {
        object.as_any_mut().downcast_mut::<Work>().expect("a Work").0.spec.replicas = Some(101);
        Ok(())
    };
    let refused = fixture.registry.edit(fixture.kind("deployments"), "default", name, Part::Main, &many, &options).await;
    assert_eq!(refusal(refused).0, 422, "an edit can't bring in errors");

    let stale = created.typed::<Work>().expect("decodes");
    let stale = fixture.registry.update_object(Box::new((*stale).clone()), Part::Status, &options).await;
    assert_eq!(refusal(stale).0, 409, "the revision it was decided on has passed");
}
