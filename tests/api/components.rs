//! Component statuses: computed, and read only.

use http::Method;

use crate::support::server;

const ALL: &str = "/api/v1/componentstatuses";

#[tokio::test]
async fn components_tell_of_themselves() {
    let api = server().await;
    let list = api.ask("admin", "GET", ALL, &[], "").await;
    assert_eq!((list.code, &list.body["kind"]), (200, &"ComponentStatusList".into()), "{}", list.body);
    assert!(list.headers["warning"].to_str().unwrap().contains("v1 ComponentStatus is deprecated in v1.19+"));
    let items = list.body["items"].as_array().unwrap();
    let names: Vec<_> = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["controller-manager", "etcd-0", "scheduler"]);
    for item in items {
        let condition = &item["conditions"][0];
        assert_eq!((&condition["type"], &condition["status"], &condition["message"]), (&"Healthy".into(), &"True".into(), &"ok".into()));
        assert_eq!(item["metadata"].get("uid"), None, "it is no stored object");
    }
    let one = api.yes("GET", &format!("{ALL}/etcd-0"), "").await;
    assert_eq!((&one["kind"], &one["metadata"]["name"]), (&"ComponentStatus".into(), &"etcd-0".into()));
    let chosen = api.yes("GET", &format!("{ALL}?fieldSelector=metadata.name%3Dscheduler"), "").await;
    assert_eq!(chosen["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(api.yes("GET", &format!("{ALL}?labelSelector=a"), "").await["items"].as_array().map(Vec::len), Some(0));
    let table = api.ask("admin", "GET", ALL, &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")], "").await;
    assert_eq!((&table.body["rows"][0]["cells"][0], &table.body["rows"][0]["cells"][1]), (&"controller-manager".into(), &"Healthy".into()));
    let message = api.ask("admin", "GET", ALL, &[("accept", "application/vnd.kubernetes.protobuf")], "").await;
    assert_eq!((message.code, &message.headers["content-type"]), (200, &"application/vnd.kubernetes.protobuf".parse().unwrap()));
}

#[tokio::test]
async fn they_are_only_read() {
    let api = server().await;
    assert_eq!(api.no(500, "GET", &format!("{ALL}/nothing"), "").await, "Component not found: nothing");
    let one = format!("{ALL}/scheduler");
    let label = "metadata: {name: scheduler, labels: {a: b}}";
    for (method, uri) in [(Method::POST, ALL), (Method::PUT, one.as_str()), (Method::DELETE, one.as_str()), (Method::DELETE, ALL)] {
        assert_eq!(api.ask("admin", method.as_str(), uri, &[], label).await.code, 405, "{method} {uri}");
    }
    assert_eq!(api.ask("admin", "GET", &format!("{ALL}?watch=1"), &[], "").await.code, 405);
    let resources = api.yes("GET", "/api/v1", "").await;
    let described = resources["resources"].as_array().unwrap().iter().find(|one| one["name"] == "componentstatuses").unwrap();
    assert_eq!(described["verbs"], serde_json::json!(["get", "list"]));
    assert_eq!(described.get("storageVersionHash"), None);
}
