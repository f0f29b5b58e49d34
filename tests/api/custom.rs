//! Custom resources over HTTP: what upstream's conformance tests of `apimachinery/{custom_resource_definition,crd_publish_openapi,
//! crd_conversion_webhook,field_validation,crd_selectable_fields,crd_watch}` ask of a server, and some of the integration tests'.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::peer::https;
use crate::support::{Server, whole_server};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const FOOS: &str = "/apis/example.com/v1/namespaces/default/foos";

/// A definition of `foos` with one version that has this besides its name.
fn foo(version: &str) -> String {
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: foos.example.com}}
spec:
  group: example.com
  scope: Namespaced
  names: {{plural: foos, kind: Foo, shortNames: [fo], categories: [all]}}
  versions: [{{name: v1, served: true, storage: true, {version}}}]"
    )
}

const OPEN: &str = "schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}";

/// Creates a definition and waits until it is established.
pub(super) async fn define(server: &Server, yaml: &str) -> Value {
    let made = server.yes("POST", CRDS, yaml).await;
    let name = made["metadata"]["name"].as_str().unwrap().to_owned();
    until(server, &format!("{CRDS}/{name}"), |crd| condition(crd, "Established") == "True").await
}

fn condition(crd: &Value, kind: &str) -> String {
    let all = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|condition| condition["type"] == kind).map(|condition| condition["status"].clone());
    found.and_then(|status| status.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Waits for a state of an object, by watching its collection.
async fn until(server: &Server, uri: &str, good: impl Fn(&Value) -> bool) -> Value {
    let (collection, name) = uri.rsplit_once('/').unwrap();
    let mut events = server.watch(&format!("{collection}?watch=1&fieldSelector=metadata.name%3D{name}")).await;
    loop {
        let event = events.next().await.expect("the watch goes on");
        if good(&event["object"]) {
            return event["object"].clone();
        }
    }
}

async fn gone(server: &Server, uri: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while server.ask("admin", "GET", uri, &[], "").await.code != 404 {
        assert!(tokio::time::Instant::now() < deadline, "{uri} is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn definitions_come_and_go() {
    let server = whole_server().await;
    assert_eq!(server.ask("admin", "GET", FOOS, &[], "").await.code, 404);
    let crd = define(&server, &foo(&format!("{OPEN}, subresources: {{status: {{}}}}"))).await;
    assert_eq!(
        crd["status"]["acceptedNames"],
        json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList", "shortNames": ["fo"], "categories": ["all"]})
    );
    assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(crd["spec"]["conversion"], json!({"strategy": "None"}));

    let made = server.yes("POST", FOOS, "{apiVersion: example.com/v1, kind: Foo, metadata: {name: a}, spec: {x: 1}, status: {y: 2}}").await;
    assert_eq!((&made["spec"], &made["status"], &made["metadata"]["generation"]), (&json!({"x": 1}), &Value::Null, &json!(1)));
    let uri = format!("{FOOS}/a");
    let status = server
        .ask(
            "admin",
            "PATCH",
            &format!("{uri}/status"),
            &[("content-type", "application/merge-patch+json")],
            r#"{"status":{"y":2},"spec":{"x":9}}"#,
        )
        .await;
    assert_eq!(
        (&status.body["spec"]["x"], &status.body["status"]["y"], &status.body["metadata"]["generation"]),
        (&json!(1), &json!(2), &json!(1))
    );
    let patched = server
        .ask("admin", "PATCH", &uri, &[("content-type", "application/merge-patch+json")], r#"{"status":{"y":7},"spec":{"x":9}}"#)
        .await;
    assert_eq!(
        (&patched.body["spec"]["x"], &patched.body["status"]["y"], &patched.body["metadata"]["generation"]),
        (&json!(9), &json!(2), &json!(2))
    );
    let patched = server
        .ask("admin", "PATCH", &uri, &[("content-type", "application/json-patch+json")], r#"[{"op":"add","path":"/spec/z","value":[1]}]"#)
        .await;
    assert_eq!(patched.body["spec"], json!({"x": 9, "z": [1]}));
    let refused = server.ask("admin", "PATCH", &uri, &[("content-type", "application/strategic-merge-patch+json")], "{}").await;
    assert_eq!(refused.code, 415, "{}", refused.body);

    let list = server.yes("GET", FOOS, "").await;
    assert_eq!(
        (&list["kind"], &list["apiVersion"], list["items"].as_array().unwrap().len()),
        (&json!("FooList"), &json!("example.com/v1"), 1)
    );
    let mut events =
        server.watch(&format!("{FOOS}?watch=1&resourceVersion={}", list["metadata"]["resourceVersion"].as_str().unwrap())).await;

    server.yes("DELETE", &format!("{CRDS}/foos.example.com"), "").await;
    assert_eq!(events.next().await.expect("the instance's end")["type"], "DELETED");
    assert!(events.next().await.is_none(), "the watch ends with its kind");
    gone(&server, &format!("{CRDS}/foos.example.com")).await;
    assert_eq!(server.ask("admin", "GET", FOOS, &[], "").await.code, 404);
    define(&server, &foo(OPEN)).await;
    assert_eq!(server.yes("GET", FOOS, "").await["items"], json!([]));
}

#[tokio::test]
async fn the_definitions_own_subresource_and_lists() {
    let server = whole_server().await;
    let crd = define(&server, &foo(OPEN)).await;
    let uri = format!("{CRDS}/foos.example.com");
    let mut status = server.yes("GET", &format!("{uri}/status"), "").await;
    assert_eq!(status["metadata"]["uid"], crd["metadata"]["uid"]);
    status["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}));
    let updated = server.yes("PUT", &format!("{uri}/status"), &status.to_string()).await;
    assert_eq!(condition(&updated, "StatusUpdate"), "True");
    let patched = server
        .ask(
            "admin",
            "PATCH",
            &format!("{uri}/status"),
            &[("content-type", "application/json-patch+json")],
            r#"[{"op":"add","path":"/status/conditions","value":[{"type":"StatusPatched","status":"True"}]}]"#,
        )
        .await;
    assert_eq!(condition(&patched.body, "StatusPatched"), "True", "{}", patched.body);
    let listed = server.yes("GET", CRDS, "").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(server.yes("GET", &format!("{CRDS}?labelSelector=a%3Db"), "").await["items"], json!([]));
    let answer = server.ask("admin", "DELETE", CRDS, &[], "").await;
    assert_eq!(answer.code, 200, "{}", answer.body);
    gone(&server, &uri).await;
}

const SHAPE: &str = "schema: {openAPIV3Schema: {type: object, required: [spec], properties: {spec: {type: object, required: [size], properties: {size: {type: integer, minimum: 1, maximum: 9}, \
    color: {type: string, enum: [red, blue], default: red}, name: {type: string, pattern: '^a', maxLength: 3}, list: {type: array, items: {type: object, properties: {a: {type: string}}}}}}}}}";

#[tokio::test]
async fn values_are_pruned_defaulted_and_validated() {
    let server = whole_server().await;
    define(&server, &foo(SHAPE)).await;
    let object = |name: &str, spec: &str| format!("{{apiVersion: example.com/v1, kind: Foo, metadata: {{name: {name}}}, spec: {spec}}}");
    let made =
        server.yes("POST", &format!("{FOOS}?fieldValidation=Ignore"), &object("a", "{size: 3, extra: 1, list: [{a: x, b: 'y'}]}")).await;
    assert_eq!(made["spec"], json!({"size": 3, "color": "red", "list": [{"a": "x"}]}));
    let strict = server
        .no(400, "POST", &format!("{FOOS}?fieldValidation=Strict"), &object("b", "{size: 3, extra: 1, list: [{a: x, b: 'y'}]}"))
        .await;
    assert!(strict.ends_with("strict decoding error: unknown field \"spec.extra\", unknown field \"spec.list[0].b\""), "{strict}");
    let warned =
        server.ask("admin", "POST", &format!("{FOOS}?fieldValidation=Warn&dryRun=All"), &[], &object("b", "{size: 3, extra: 1}")).await;
    assert_eq!((warned.code, warned.headers["warning"].to_str().unwrap()), (201, "299 - \"unknown field \\\"spec.extra\\\"\""));
    let meta = "{apiVersion: example.com/v1, kind: Foo, metadata: {name: b, unknownMeta: x}, spec: {size: 1}}";
    let strict = server.no(400, "POST", &format!("{FOOS}?fieldValidation=Strict"), meta).await;
    assert!(strict.contains("unknown field \"metadata.unknownMeta\""), "{strict}");
    let doubled = "apiVersion: example.com/v1\nkind: Foo\nmetadata: {name: b}\nspec: {size: 1, size: 2}";
    let strict = server.no(400, "POST", &format!("{FOOS}?fieldValidation=Strict"), doubled).await;
    assert!(strict.ends_with("line 4: key \"size\" already set in map"), "{strict}");
    for (spec, wanted) in [
        (
            "{size: x}",
            "Foo.example.com \"b\" is invalid: spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        ("{}", "Foo.example.com \"b\" is invalid: spec.size: Required value"),
        (
            "{size: 0}",
            "Foo.example.com \"b\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            "{size: 1, color: green}",
            "Foo.example.com \"b\" is invalid: spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
        ),
        ("{size: 1, name: b}", "Foo.example.com \"b\" is invalid: spec.name: Invalid value: \"b\": spec.name in body should match '^a'"),
        ("{size: 1, name: abcd}", "Foo.example.com \"b\" is invalid: spec.name: Too long: may not be more than 3 bytes"),
    ] {
        assert_eq!(server.no(422, "POST", FOOS, &object("b", spec)).await, wanted);
    }
    server.no(422, "POST", FOOS, "{apiVersion: example.com/v1, kind: Foo, metadata: {name: b}}").await;

    // The schema is tightened: what the update leaves alone is excused, and new defaults are there at once.
    let mut crd = server.yes("GET", &format!("{CRDS}/foos.example.com"), "").await;
    let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
    schema["size"]["minimum"] = json!(5);
    schema["fresh"] = json!({"type": "string", "default": "new"});
    server.yes("PUT", &format!("{CRDS}/foos.example.com"), &crd.to_string()).await;
    let uri = format!("{FOOS}/a");
    assert_eq!(server.yes("GET", &uri, "").await["spec"]["fresh"], "new");
    let merge = &[("content-type", "application/merge-patch+json")];
    let kept = server.ask("admin", "PATCH", &uri, merge, r#"{"spec":{"name":"ab"}}"#).await;
    assert_eq!(kept.code, 200, "{}", kept.body);
    assert_eq!(server.ask("admin", "PATCH", &uri, merge, r#"{"spec":{"size":4}}"#).await.code, 422);
}

#[tokio::test]
async fn embedded_resources_and_preserved_fields() {
    let server = whole_server().await;
    let shape = "schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {free: {type: object, x-kubernetes-preserve-unknown-fields: true}, \
        template: {type: object, x-kubernetes-embedded-resource: true, properties: {spec: {type: object, properties: {'n': {x-kubernetes-int-or-string: true}}}}}}}}}}";
    define(&server, &foo(shape)).await;
    let object = "{apiVersion: example.com/v1, kind: Foo, metadata: {name: a}, spec: {free: {any: [1, {x: 'y'}]}, template: {apiVersion: v1, kind: Sub, metadata: {name: s, unknownSubMeta: 1}, spec: {'n': 80%, m: 1}}}}";
    let strict = server.no(400, "POST", &format!("{FOOS}?fieldValidation=Strict"), object).await;
    for field in ["spec.template.metadata.unknownSubMeta", "spec.template.spec.m"] {
        assert!(strict.contains(&format!("unknown field \"{field}\"")), "{strict}");
    }
    let made = server.yes("POST", &format!("{FOOS}?fieldValidation=Ignore"), object).await;
    assert_eq!(made["spec"]["free"], json!({"any": [1, {"x": "y"}]}));
    assert_eq!(made["spec"]["template"], json!({"apiVersion": "v1", "kind": "Sub", "metadata": {"name": "s"}, "spec": {"n": "80%"}}));
    let bad = "{apiVersion: example.com/v1, kind: Foo, metadata: {name: b}, spec: {template: {kind: Sub, metadata: {name: s}}}}";
    assert_eq!(server.no(422, "POST", FOOS, bad).await, "Foo.example.com \"b\" is invalid: spec.template.apiVersion: Required value");
}

#[tokio::test]
async fn scale_columns_and_selectable_fields() {
    let server = whole_server().await;
    let version = "schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {replicas: {type: integer}, color: {type: string}, live: {type: boolean}, since: {type: string}}}, \
        status: {type: object, properties: {replicas: {type: integer}, selector: {type: string}}}}}}, \
        subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}}, \
        selectableFields: [{jsonPath: .spec.color}, {jsonPath: .spec.live}], \
        additionalPrinterColumns: [{name: Color, type: string, jsonPath: .spec.color}, {name: Replicas, type: integer, jsonPath: .spec.replicas, priority: 1}, {name: Live, type: boolean, jsonPath: .spec.live}, {name: Since, type: date, jsonPath: .spec.since}]";
    define(&server, &foo(version)).await;
    server
        .yes(
            "POST",
            FOOS,
            "{apiVersion: example.com/v1, kind: Foo, metadata: {name: a}, spec: {replicas: 2, color: red, live: true, since: nonsense}}",
        )
        .await;
    server.yes("POST", FOOS, "{apiVersion: example.com/v1, kind: Foo, metadata: {name: b}, spec: {color: blue}}").await;

    let scale = server.yes("GET", &format!("{FOOS}/a/scale"), "").await;
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    let scaled = server
        .ask(
            "admin",
            "PATCH",
            &format!("{FOOS}/a/scale"),
            &[("content-type", "application/merge-patch+json")],
            r#"{"spec":{"replicas":5}}"#,
        )
        .await;
    assert_eq!(scaled.body["spec"]["replicas"], 5, "{}", scaled.body);
    let read = server.yes("GET", &format!("{FOOS}/a"), "").await;
    assert_eq!((&read["spec"]["replicas"], &read["metadata"]["generation"]), (&json!(5), &json!(2)));

    let names = |list: &Value| {
        list["items"].as_array().unwrap().iter().map(|one| one["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&server.yes("GET", &format!("{FOOS}?fieldSelector=spec.color%3Dblue"), "").await), ["b"]);
    assert_eq!(names(&server.yes("GET", &format!("{FOOS}?fieldSelector=spec.live%3Dtrue"), "").await), ["a"]);
    assert_eq!(names(&server.yes("GET", &format!("{FOOS}?fieldSelector=spec.color%21%3Dred"), "").await), ["b"]);
    assert_eq!(server.no(400, "GET", &format!("{FOOS}?fieldSelector=spec.since%3Dx"), "").await, "field label not supported: spec.since");
    let mut events = server.watch(&format!("{FOOS}?watch=1&fieldSelector=spec.color%3Dgreen")).await;
    let merge = &[("content-type", "application/merge-patch+json")];
    for color in ["green", "red"] {
        server.ask("admin", "PATCH", &format!("{FOOS}/b"), merge, &json!({"spec": {"color": color}}).to_string()).await;
    }
    assert_eq!(events.next().await.unwrap()["type"], "ADDED");
    assert_eq!(events.next().await.unwrap()["type"], "DELETED");

    let table = server.ask("admin", "GET", FOOS, &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")], "").await.body;
    let headings: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(headings, ["Name", "Color", "Replicas", "Live", "Since"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", "red", 5, true, "<invalid>"]));
    assert_eq!(table["rows"][1]["cells"], json!(["b", "red", null, null, null]));
}

#[tokio::test]
async fn discovery_and_openapi_follow() {
    let server = whole_server().await;
    assert_eq!(server.ask("admin", "GET", "/apis/example.com", &[], "").await.code, 404);
    let shape = "schema: {openAPIV3Schema: {description: Foo of the tests, type: object, properties: {spec: {type: object, description: What is wanted, properties: {a: {type: string, nullable: true}, b: {type: integer, anyOf: [{minimum: 3}]}}}}}}, \
        selectableFields: [{jsonPath: .spec.a}]";
    define(&server, &foo(&format!("{shape}, subresources: {{status: {{}}}}"))).await;
    let group = server.yes("GET", "/apis/example.com", "").await;
    assert_eq!(group["preferredVersion"]["groupVersion"], "example.com/v1");
    let resources = server.yes("GET", "/apis/example.com/v1", "").await;
    let foos = &resources["resources"][0];
    assert_eq!(
        (&foos["name"], &foos["singularName"], &foos["kind"], &foos["shortNames"], &foos["categories"], &foos["namespaced"]),
        (&json!("foos"), &json!("foo"), &json!("Foo"), &json!(["fo"]), &json!(["all"]), &json!(true))
    );
    assert_eq!(foos["verbs"], json!(["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]));
    assert!(foos["storageVersionHash"].is_string());
    assert_eq!(resources["resources"][1]["name"], "foos/status");
    let aggregated = server
        .ask("admin", "GET", "/apis", &[("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")], "")
        .await
        .body;
    assert!(aggregated["items"].as_array().unwrap().iter().any(|group| group["metadata"]["name"] == "example.com"));

    let index = server.yes("GET", "/openapi/v3", "").await;
    let before = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = server.yes("GET", "/openapi/v3/apis/example.com/v1", "").await;
    let schema = &document["components"]["schemas"]["com.example.v1.Foo"];
    assert_eq!(
        (&schema["description"], &schema["properties"]["spec"]["description"]),
        (&json!("Foo of the tests"), &json!("What is wanted"))
    );
    assert_eq!(schema["properties"]["spec"]["properties"]["a"], json!({"type": "string", "nullable": true}));
    assert_eq!(
        schema["properties"]["metadata"]["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}])
    );
    assert_eq!(schema["x-kubernetes-group-version-kind"], json!([{"group": "example.com", "kind": "Foo", "version": "v1"}]));
    assert_eq!(schema["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.a"}]));
    assert!(document["components"]["schemas"]["com.example.v1.FooList"].is_object());
    assert!(document["paths"]["/apis/example.com/v1/namespaces/{namespace}/foos/{name}/status"].is_object());
    let swagger = server.yes("GET", "/openapi/v2", "").await;
    let spec = &swagger["definitions"]["com.example.v1.Foo"]["properties"]["spec"];
    assert_eq!(spec["properties"], json!({"a": {}, "b": {"type": "integer"}}));

    let mut crd = server.yes("GET", &format!("{CRDS}/foos.example.com"), "").await;
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["description"] = json!("Something else");
    server.yes("PUT", &format!("{CRDS}/foos.example.com"), &crd.to_string()).await;
    let after =
        server.yes("GET", "/openapi/v3", "").await["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    assert_ne!(before, after);
    let swagger = server.yes("GET", "/openapi/v2", "").await;
    assert_eq!(swagger["definitions"]["com.example.v1.Foo"]["properties"]["spec"]["description"], "Something else");
    crd = server.yes("GET", &format!("{CRDS}/foos.example.com"), "").await;
    crd["spec"]["versions"][0]["served"] = json!(false);
    server.yes("PUT", &format!("{CRDS}/foos.example.com"), &crd.to_string()).await;
    assert_eq!(server.ask("admin", "GET", "/openapi/v3/apis/example.com/v1", &[], "").await.code, 404);
    assert!(server.yes("GET", "/openapi/v2", "").await["definitions"]["com.example.v1.Foo"].is_null());
    assert_eq!(server.ask("admin", "GET", FOOS, &[], "").await.code, 404);
}

/// A definition of `foos` in v1 (stored) and v2, converted so.
fn two_versions(conversion: &str) -> String {
    let version = |name: &str, storage: bool, field: &str, more: &str| {
        format!(
            "{{name: {name}, served: true, storage: {storage}, schema: {{openAPIV3Schema: {{type: object, properties: {{{field}: {{type: string}}, both: {{type: string}}}}}}}}{more}}}"
        )
    };
    format!(
        "{{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {{name: foos.example.com}}, spec: {{group: example.com, scope: Namespaced, names: {{plural: foos, kind: Foo}}, \
         conversion: {conversion}, versions: [{}, {}]}}}}",
        version("v1", true, "one", ""),
        version("v2", false, "two", ", deprecated: true")
    )
}

const FOOS2: &str = "/apis/example.com/v2/namespaces/default/foos";

#[tokio::test]
async fn versions_without_conversion() {
    let server = whole_server().await;
    define(&server, &two_versions("{strategy: None}")).await;
    let made =
        server.ask("admin", "POST", FOOS2, &[], "{apiVersion: example.com/v2, kind: Foo, metadata: {name: a}, both: x, two: 'y'}").await;
    assert_eq!((made.code, &made.body["apiVersion"]), (201, &json!("example.com/v2")), "{}", made.body);
    assert_eq!(made.headers["warning"].to_str().unwrap(), "299 - \"example.com/v2 Foo is deprecated\"");
    let one = server.yes("GET", &format!("{FOOS}/a"), "").await;
    assert_eq!((&one["apiVersion"], &one["both"], &one["two"]), (&json!("example.com/v1"), &json!("x"), &Value::Null));
    let list = server.yes("GET", FOOS2, "").await;
    assert_eq!(list["items"][0]["apiVersion"], "example.com/v2");
    // Storage moves on; what is stored is still read.
    let crd = server.yes("GET", &format!("{CRDS}/foos.example.com"), "").await;
    let mut moved = crd.clone();
    moved["spec"]["versions"][0]["storage"] = json!(false);
    moved["spec"]["versions"][1]["storage"] = json!(true);
    let moved = server.yes("PUT", &format!("{CRDS}/foos.example.com"), &moved.to_string()).await;
    assert_eq!(moved["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(server.yes("GET", &format!("{FOOS2}/a"), "").await["both"], "x");
}

#[tokio::test]
async fn versions_by_webhook() {
    let hook = https(&["127.0.0.1"], |request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let review: Value = serde_json::from_slice(&body).unwrap();
        let (uid, desired) = (review["request"]["uid"].clone(), review["request"]["desiredAPIVersion"].clone());
        let fails = body.windows(6).any(|window| window == b"\"fail\"");
        let convert = |object: &Value| {
            let mut object = object.clone();
            let map = object.as_object_mut().unwrap();
            let (from, to) = if desired == "example.com/v2" { ("one", "two") } else { ("two", "one") };
            if let Some(value) = map.remove(from) {
                map.insert(to.into(), value);
            }
            map.insert("apiVersion".into(), desired.clone());
            object
        };
        let objects: Vec<Value> = review["request"]["objects"].as_array().unwrap().iter().map(convert).collect();
        let response = match fails {
            true => json!({"uid": uid, "result": {"status": "Failed", "message": "it does not want to"}}),
            false => json!({"uid": uid, "result": {"status": "Success"}, "convertedObjects": objects}),
        };
        let answer = json!({"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": response});
        http::Response::new(Body::from(answer.to_string()))
    })
    .await;
    use base64::Engine;
    let bundle = base64::engine::general_purpose::STANDARD.encode(&hook.ca_pem);
    let conversion = format!(
        "{{strategy: Webhook, webhook: {{conversionReviewVersions: [v1, v1beta1], clientConfig: {{caBundle: {bundle}, url: 'https://{}/convert'}}}}}}",
        hook.address
    );
    let server = whole_server().await;
    define(&server, &two_versions(&conversion)).await;
    server.yes("POST", FOOS2, "{apiVersion: example.com/v2, kind: Foo, metadata: {name: a}, two: 'y'}").await;
    server.yes("POST", FOOS, "{apiVersion: example.com/v1, kind: Foo, metadata: {name: b}, one: z}").await;
    assert_eq!(server.yes("GET", &format!("{FOOS}/a"), "").await["one"], "y");
    let list = server.yes("GET", FOOS2, "").await;
    let twos: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|object| &object["two"]).collect();
    assert_eq!(twos, ["y", "z"]);
    let patched =
        server.ask("admin", "PATCH", &format!("{FOOS2}/b"), &[("content-type", "application/merge-patch+json")], r#"{"two":"q"}"#).await;
    assert_eq!((&patched.body["two"], &patched.body["metadata"]["generation"]), (&json!("q"), &json!(2)), "{}", patched.body);
    server.yes("POST", FOOS, "{apiVersion: example.com/v1, kind: Foo, metadata: {name: c}, one: fail}").await;
    let why = server.no(500, "GET", &format!("{FOOS2}/c"), "").await;
    assert_eq!(why, "conversion webhook for example.com/v1, Kind=Foo failed: it does not want to");
    // A watch in the other version sees converted objects.
    let mut events = server.watch(&format!("{FOOS2}?watch=1&fieldSelector=metadata.name%3Da")).await;
    let event = events.next().await.unwrap();
    assert_eq!((&event["object"]["apiVersion"], &event["object"]["two"]), (&json!("example.com/v2"), &json!("y")));
}

#[tokio::test]
async fn names_conflict_and_are_freed() {
    let server = whole_server().await;
    define(&server, &foo(OPEN)).await;
    let other = foo(OPEN).replace("foos", "bars").replace("kind: Foo", "kind: Bar");
    server.yes("POST", CRDS, &other).await;
    let bars = format!("{CRDS}/bars.example.com");
    let refused = until(&server, &bars, |crd| condition(crd, "NamesAccepted") == "False").await;
    let all = refused["status"]["conditions"].to_string();
    assert!(all.contains("ShortNamesConflict") && all.contains("\\\"fo\\\" is already in use"), "{all}");
    assert_eq!(server.ask("admin", "GET", &FOOS.replace("foos", "bars"), &[], "").await.code, 404);
    server.yes("DELETE", &format!("{CRDS}/foos.example.com"), "").await;
    until(&server, &bars, |crd| condition(crd, "Established") == "True").await;
    assert_eq!(server.yes("GET", &FOOS.replace("foos", "bars"), "").await["kind"], "BarList");
}

#[tokio::test]
async fn namespaces_and_owners_take_instances_along() {
    let server = whole_server().await;
    define(&server, &foo(OPEN)).await;
    server.yes("POST", "/api/v1/namespaces", "metadata: {name: 'n'}").await;
    let there = FOOS.replace("default", "n");
    server.yes("POST", &there, "{apiVersion: example.com/v1, kind: Foo, metadata: {name: a}}").await;
    let owner = server.yes("POST", FOOS, "{apiVersion: example.com/v1, kind: Foo, metadata: {name: owner}}").await;
    let uid = owner["metadata"]["uid"].as_str().unwrap();
    let owned =
        format!("{{metadata: {{name: owned, ownerReferences: [{{apiVersion: example.com/v1, kind: Foo, name: owner, uid: {uid}}}]}}}}");
    server.yes("POST", "/api/v1/namespaces/default/configmaps", &owned).await;
    server.yes("DELETE", &format!("{FOOS}/owner"), "").await;
    gone(&server, "/api/v1/namespaces/default/configmaps/owned").await;
    server.yes("DELETE", "/api/v1/namespaces/n", "").await;
    gone(&server, "/api/v1/namespaces/n").await;
    define(&server, &foo(OPEN).replace("foos", "cars").replace("Foo", "Car").replace("fo]", "ca]").replace("Namespaced", "Cluster")).await;
    let cars = "/apis/example.com/v1/cars";
    server.yes("POST", cars, "{apiVersion: example.com/v1, kind: Car, metadata: {name: a}}").await;
    assert_eq!(server.yes("GET", &format!("{cars}/a"), "").await["metadata"]["name"], "a");
    assert_eq!(server.ask("admin", "GET", "/apis/example.com/v1/namespaces/default/cars", &[], "").await.code, 404);
}
