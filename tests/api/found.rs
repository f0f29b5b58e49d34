//! What the fuzz targets found, each once.

use super::support::server;

/// Such a time could be read and not written, so that the stored object was lost.
#[tokio::test]
async fn years_before_zero_are_refused() {
    let api = server().await;
    let lease =
        |time: &str| format!("{{metadata: {{name: l, annotations: {{note: '-009999-12-31T23:59:59Z'}}}}, spec: {{renewTime: '{time}'}}}}");
    let all = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let why = api.no(400, "POST", all, &lease("-009999-12-31T23:59:59Z")).await;
    assert!(why.contains("spec.renewTime"), "{why}");
    let patch = r#"{"spec":{"renewTime":"-000001-01-01T00:00:00.000000Z"}}"#;
    api.yes("POST", all, &lease("2026-01-01T00:00:00.000000Z")).await;
    let patched = api.ask("admin", "PATCH", &format!("{all}/l"), &[("content-type", "application/merge-patch+json")], patch).await;
    assert_eq!(patched.code, 400, "{}", patched.body);
    let kept = api.yes("GET", &format!("{all}/l"), "").await;
    assert_eq!(kept["spec"]["renewTime"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(kept["metadata"]["annotations"]["note"], "-009999-12-31T23:59:59Z", "a text is a text");
}

/// The last digit of such a number changed each time it was read.
#[tokio::test]
async fn numbers_stay_what_they_are() {
    let api = server().await;
    let number = "1.0000001192096877";
    let body = format!(r#"{{"metadata":{{"name":"r"}},"revision":1,"data":{{"number":{number}}}}}"#);
    let headers = [("content-type", "application/json")];
    let answer = api.send("admin", "POST", "/apis/apps/v1/namespaces/default/controllerrevisions", &headers, &body).await;
    assert_eq!(answer.status(), 201);
    let text = api.text("/apis/apps/v1/namespaces/default/controllerrevisions/r").await;
    assert!(text.contains(&format!("\"number\":{number}")), "{text}");
}
