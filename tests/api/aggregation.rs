//! Aggregated APIs: an extension server behind an APIService, reached through this one.

use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::peer::{Https, https};
use crate::support::{Server, server};

const APISERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const THINGS: &str = "/apis/things.example.org/v1/namespaces/default/things";

/// A server that serves `things.example.org/v1`, and tells whom it was asked by.
async fn extension() -> Https {
    https(&["ext.default.svc"], |request: Request<Incoming>| async move {
        let json =
            |value: Value| Response::builder().header("content-type", "application/json").body(Body::from(value.to_string())).unwrap();
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/apis/things.example.org/v1" => json(json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "things.example.org/v1",
                "resources": [{"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"]}],
            })),
            "/openapi/v3" => json(json!({"paths": {"apis/things.example.org/v1": {
                "serverRelativeURL": "/openapi/v3/apis/things.example.org/v1?hash=A",
            }}})),
            "/openapi/v2" => json(json!({
                "swagger": "2.0",
                "paths": {
                    "/apis/things.example.org/v1/things": {"get": {
                        "parameters": [{"$ref": "#/parameters/pretty"}],
                        "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/org.example.things.v1.Thing"}}},
                    }},
                    "/apis/apps/v1/deployments": {"get": {"description": "not theirs"}},
                },
                "parameters": {"pretty": {"name": "pretty", "in": "query", "type": "string"}},
                "definitions": {
                    "org.example.things.v1.Thing": {"type": "object", "properties": {
                        "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
                        "size": {"type": "integer", "minimum": 3},
                    }},
                    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"description": "as they see it"},
                    "org.example.Unused": {},
                },
            })),
            "/openapi/v3/apis/things.example.org/v1" => json(json!({"openapi": "3.0.0"})),
            THINGS => {
                let headers: Vec<String> = request
                    .headers()
                    .iter()
                    .filter(|(name, _)| name.as_str().starts_with("x-remote-") || *name == "authorization")
                    .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                    .collect();
                let (method, query) = (request.method().to_string(), request.uri().query().map(str::to_owned));
                let body = request.into_body().collect().await.unwrap().to_bytes();
                json(json!({"method": method, "query": query, "headers": headers, "body": String::from_utf8_lossy(&body)}))
            }
            _ => Response::builder().status(404).body(Body::from("404 page not found")).unwrap(),
        }
    })
    .await
}

/// Waits until the condition `Available` of the APIService has this reason.
async fn until(api: &Server, reason: &str) {
    let wanted = async {
        let mut events = api.watch(&format!("{APISERVICES}?watch=1&fieldSelector=metadata.name%3Dv1.things.example.org")).await;
        while let Some(event) = events.next().await {
            if event["object"]["status"]["conditions"][0]["reason"] == reason {
                return event["object"]["status"]["conditions"][0].clone();
            }
        }
        Value::Null
    };
    let condition = tokio::time::timeout(Duration::from_secs(30), wanted).await.expect("the condition comes in time");
    assert_eq!(condition["reason"], reason);
}

fn apiservice(ca_bundle: &str) -> String {
    format!(
        "{{metadata: {{name: v1.things.example.org}}, spec: {{group: things.example.org, version: v1, groupPriorityMinimum: 2000,
          versionPriority: 10, service: {{namespace: default, name: ext}}, caBundle: {ca_bundle}}}}}"
    )
}

async fn served(api: &Server, extension: &Https) {
    api.aggregate();
    api.yes("POST", APISERVICES, &apiservice(&extension.ca_bundle())).await;
    until(api, "ServiceNotFound").await;
    let services = "/api/v1/namespaces/default/services";
    api.yes("POST", services, "{metadata: {name: ext}, spec: {ports: [{port: 443}], clusterIP: 10.43.0.77}}").await;
    until(api, "EndpointsNotFound").await;
    let slice = format!(
        "{{metadata: {{namespace: default, name: ext-1, labels: {{kubernetes.io/service-name: ext}}}}, addressType: IPv4,
          endpoints: [{{addresses: [127.0.0.1]}}], ports: [{{port: {}}}]}}",
        extension.address.port()
    );
    // Endpoints on the loopback are refused by validation, as upstream; the store takes what the registry's owner writes.
    api.put_unchecked::<EndpointSlice>(&slice).await;
    until(api, "Passed").await;
}

#[tokio::test]
async fn an_extension_server_is_reached() {
    let (api, extension) = (server().await, extension().await);
    let missing = api.ask("admin", "GET", THINGS, &[], "").await;
    assert_eq!(missing.code, 404);
    served(&api, &extension).await;
    let forged = [("x-remote-user", "root"), ("x-remote-group", "system:masters"), ("content-type", "text/plain")];
    let answer = api.ask("admin", "POST", &format!("{THINGS}?a=b"), &forged, "hello").await;
    assert_eq!(answer.code, 200, "{}", answer.body);
    assert_eq!((&answer.body["method"], &answer.body["query"], &answer.body["body"]), (&json!("POST"), &json!("a=b"), &json!("hello")));
    assert_eq!(answer.body["headers"], json!(["x-remote-user: admin", "x-remote-group: system:masters"]));
    let denied = api.ask("ann", "GET", THINGS, &[], "").await;
    assert_eq!(denied.code, 403, "this server's authorizer is asked first");
    let list = api.ask("admin", "GET", "/apis/things.example.org/v1", &[], "").await;
    assert_eq!(list.body["resources"][0]["name"], "things");
    // Gone again: 503, and the discovery says that it is old.
    api.yes("DELETE", "/api/v1/namespaces/default/services/ext", "").await;
    until(&api, "ServiceNotFound").await;
    let gone = api.ask("admin", "GET", THINGS, &[], "").await;
    assert_eq!((gone.code, gone.body.as_str()), (503, Some("service unavailable\n")));
    let aggregated = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let groups = api.ask("admin", "GET", "/apis", &aggregated, "").await.body;
    let group = groups["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "things.example.org").unwrap().clone();
    assert_eq!(
        (&group["versions"][0]["freshness"], &group["versions"][0]["resources"][0]["resource"]),
        (&json!("Stale"), &json!("things"))
    );
    api.yes("DELETE", &format!("{APISERVICES}/v1.things.example.org"), "").await;
    api.no(404, "GET", THINGS, "").await;
}

#[tokio::test]
async fn remote_groups_are_discovered() {
    let (api, extension) = (server().await, extension().await);
    served(&api, &extension).await;
    let groups = api.yes("GET", "/apis", "").await;
    let group = groups["groups"].as_array().unwrap().iter().find(|group| group["name"] == "things.example.org").unwrap().clone();
    assert_eq!(group["preferredVersion"]["groupVersion"], "things.example.org/v1");
    assert_eq!(api.yes("GET", "/apis/things.example.org", "").await["kind"], "APIGroup");
    let aggregated = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let groups = api.ask("admin", "GET", "/apis", &aggregated, "").await.body;
    let group = groups["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "things.example.org").unwrap().clone();
    assert_eq!(
        (&group["versions"][0]["freshness"], &group["versions"][0]["resources"][0]["scope"]),
        (&json!("Current"), &json!("Namespaced"))
    );
    let index = api.yes("GET", "/openapi/v3", "").await;
    let url = index["paths"]["apis/things.example.org/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    assert_eq!(api.yes("GET", &url, "").await["openapi"], "3.0.0");
    // Version 2 is one document: theirs is a part of it, under names of its own where they mean something else.
    let document = api.yes("GET", "/openapi/v2", "").await;
    let get = &document["paths"]["/apis/things.example.org/v1/things"]["get"];
    assert_eq!(get["parameters"], json!([{"name": "pretty", "in": "query", "type": "string"}]));
    assert_ne!(document["paths"]["/apis/apps/v1/deployments"]["get"]["description"], "not theirs");
    let definitions = &document["definitions"];
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert_eq!(definitions[format!("{meta}_v2")], json!({"description": "as they see it"}));
    assert_eq!(definitions["org.example.things.v1.Thing"]["properties"]["metadata"], json!({"$ref": format!("#/definitions/{meta}_v2")}));
    assert!(definitions["org.example.Unused"].is_null() && definitions[meta]["type"] == "object");
    let gnostic = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let bytes = api.send("admin", "GET", "/openapi/v2", &gnostic, "").await.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.windows(27).any(|window| window == b"org.example.things.v1.Thing"));
    api.yes("DELETE", &format!("{APISERVICES}/v1.things.example.org"), "").await;
    let document = api.yes("GET", "/openapi/v2", "").await;
    assert!(document["paths"]["/apis/things.example.org/v1/things"].is_null());
}

#[tokio::test]
async fn local_groups_have_apiservices() {
    let api = server().await;
    api.aggregate();
    let mut events = api.watch(&format!("{APISERVICES}?watch=1&fieldSelector=metadata.name%3Dv1.apps")).await;
    loop {
        let object = events.next().await.expect("an event")["object"].clone();
        assert_eq!(object["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
        assert_eq!((&object["spec"]["groupPriorityMinimum"], &object["spec"]["versionPriority"]), (&json!(17800), &json!(15)));
        if object["status"]["conditions"][0]["reason"] == "Local" {
            assert_eq!(object["status"]["conditions"][0]["message"], "Local APIServices are always available");
            break;
        }
    }
}

/// What an APIService is, once this holds of it.
async fn once(api: &Server, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let wanted = async {
        let mut events = api.watch(&format!("{APISERVICES}?watch=1&fieldSelector=metadata.name%3D{name}")).await;
        loop {
            let object = events.next().await.expect("an event")["object"].clone();
            if holds(&object) {
                return object;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wanted).await.unwrap_or_else(|_| panic!("{name} is not as expected in time"))
}

#[tokio::test]
async fn a_metrics_server_of_ones_own_stays() {
    const METRICS: &str = "v1beta1.metrics.k8s.io";
    let reason = |wanted: &'static str| move |object: &Value| object["status"]["conditions"][0]["reason"] == wanted;
    let merge = [("content-type", "application/merge-patch+json")];
    let api = server().await;
    api.aggregate();
    let own = once(&api, METRICS, reason("Local")).await;
    assert_eq!((&own["spec"]["groupPriorityMinimum"], &own["spec"]["versionPriority"]), (&json!(100), &json!(100)));
    // In all of these the group is where its priority puts it, and answers, in every form.
    assert!(api.yes("GET", "/openapi/v3", "").await["paths"]["apis/metrics.k8s.io/v1beta1"].is_object());
    let groups = api.yes("GET", "/apis", "").await["groups"].as_array().unwrap().clone();
    assert_eq!((&groups[0]["name"], &groups[groups.len() - 1]["name"]), (&json!("apiregistration.k8s.io"), &json!("metrics.k8s.io")));
    let nodes = "/apis/metrics.k8s.io/v1beta1/nodes";
    for (accept, want) in [
        ("application/json", "application/json"),
        ("application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"),
        ("application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "application/vnd.kubernetes.protobuf"),
    ] {
        let answer = api.send("admin", "GET", nodes, &[("accept", accept)], "").await;
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, want));
    }
    assert_eq!(api.no(404, "GET", &format!("{nodes}/none"), "").await, "nodes \"none\" not found");
    // As `kubectl apply` of their manifest has it: what is not in the manifest stays, the label too.
    let theirs = r#"{"spec":{"insecureSkipTLSVerify":true,"service":{"name":"metrics-server","namespace":"kube-system"}}}"#;
    assert_eq!(api.ask("admin", "PATCH", &format!("{APISERVICES}/{METRICS}"), &merge, theirs).await.code, 200);
    once(&api, METRICS, reason("ServiceNotFound")).await;
    let document = api.yes("GET", "/openapi/v2", "").await;
    assert!(document["paths"][nodes].is_null(), "what is served elsewhere is not described as ours");
    assert!(api.yes("GET", "/openapi/v3", "").await["paths"]["apis/metrics.k8s.io/v1beta1"].is_null());
    assert_eq!(api.ask("admin", "GET", nodes, &[], "").await.code, 503);
    // The next start mends what it may: this one comes after that of the metrics.
    let spoilt = r#"{"spec":{"versionPriority":1}}"#;
    assert_eq!(api.ask("admin", "PATCH", &format!("{APISERVICES}/v2.autoscaling"), &merge, spoilt).await.code, 200);
    api.aggregate();
    once(&api, "v2.autoscaling", |object| object["spec"]["versionPriority"] == 30).await;
    let kept = api.yes("GET", &format!("{APISERVICES}/{METRICS}"), "").await;
    assert_eq!(kept["spec"]["service"]["name"], "metrics-server", "{kept}");
    api.yes("DELETE", &format!("{APISERVICES}/{METRICS}"), "").await;
    assert_eq!(api.yes("GET", nodes, "").await["kind"], "NodeMetricsList");
}

#[tokio::test]
async fn broken_apiservices_are_refused() {
    let api = server().await;
    let spec = "group: things.example.org, version: v1, groupPriorityMinimum: 2000, versionPriority: 10";
    for (name, more, want) in [
        ("v1.other", "", "must be `spec.version+\".\"+spec.group`: \"v1.things.example.org\""),
        ("v1.things.example.org", ", insecureSkipTLSVerify: true", "local APIServices may not have insecureSkipTLSVerify"),
        ("v1.things.example.org", ", caBundle: YQ==", "local APIServices may not have a caBundle"),
        ("v1.things.example.org", ", service: {namespace: a, name: b, port: 99999}", "port is not valid"),
        (
            "v1.things.example.org",
            ", service: {namespace: a, name: b}, caBundle: YQ==, insecureSkipTLSVerify: true",
            "may not be true if caBundle is present",
        ),
    ] {
        let why = api.no(422, "POST", APISERVICES, &format!("{{metadata: {{name: {name}}}, spec: {{{spec}{more}}}}}")).await;
        assert!(why.contains(want), "{why}");
    }
}
