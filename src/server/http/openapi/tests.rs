//! The documents as clients read them: kinds, references, and the facts that kubectl looks for.

use super::*;
use k8s_openapi::api::{apps, authentication, autoscaling, core};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use schemars::JsonSchema;
use serde_json::{Value, json};

fn kind<T: k8s_openapi::Resource + JsonSchema>(namespaced: bool, subresources: &'static [Subresource]) -> KindDoc {
    KindDoc {
        list_kind: format!("{}List", T::KIND).into(),
        group: T::GROUP.into(),
        version: T::VERSION.into(),
        kind: T::KIND.into(),
        resource: T::URL_PATH_SEGMENT.into(),
        namespaced,
        virtual_only: T::KIND.ends_with("Review"),
        computed: T::KIND == "ComponentStatus",
        subresources: subresources.to_vec(),
        schema: Arc::new(|generator| generator.subschema_for::<T>()),
    }
}

fn documents() -> Documents {
    const STATUS: &[Subresource] = &[Subresource::Status];
    const SCALE: &[Subresource] = &[Subresource::Status, Subresource::Scale];
    Documents::of(vec![
        kind::<core::v1::Pod>(true, STATUS),
        kind::<core::v1::Namespace>(false, STATUS),
        kind::<core::v1::Secret>(true, &[]),
        kind::<core::v1::Service>(true, STATUS),
        kind::<apps::v1::Deployment>(true, SCALE),
        kind::<autoscaling::v2::HorizontalPodAutoscaler>(true, STATUS),
        kind::<authentication::v1::TokenReview>(false, &[]),
        kind::<apiextensions::v1::CustomResourceDefinition>(false, STATUS),
    ])
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn v3(path: &str) -> Value {
    parsed(&documents().v3(path).unwrap())
}

/// Every `$ref` names a schema that is there.
fn check_references(value: &Value, prefix: &str, schemas: &Value, is_properties: bool) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match inner.as_str() {
                    Some(target) if key == "$ref" && !is_properties => {
                        let name = target.strip_prefix(prefix).unwrap_or_else(|| panic!("{target}"));
                        assert!(schemas.get(name).is_some(), "{target} leads nowhere");
                    }
                    _ => check_references(inner, prefix, schemas, key == "properties"),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(item, prefix, schemas, false)),
        _ => {}
    }
}

#[test]
fn the_index_lists_each_document_with_its_hash() {
    let documents = documents();
    let index = parsed(&documents.v3_index());
    let paths = index["paths"].as_object().unwrap();
    let expect = ["api/v1", "apis/apiextensions.k8s.io/v1", "apis/apps/v1", "apis/authentication.k8s.io/v1", "apis/autoscaling/v2"];
    assert_eq!(paths.keys().collect::<Vec<_>>(), expect);
    for (path, entry) in paths {
        let hash = documents.document(&Name::V3(path.clone())).unwrap().hash;
        assert_eq!(entry["serverRelativeURL"], format!("/openapi/v3/{path}?hash={hash}"));
    }
    assert!(documents.v3("apis/apps/v1beta1").is_none() && documents.v3("").is_none());
}

#[test]
fn references_resolve() {
    let documents = documents();
    for path in ["api/v1", "apis/apps/v1", "apis/autoscaling/v2", "apis/apiextensions.k8s.io/v1", "apis/authentication.k8s.io/v1"] {
        let document = v3(path);
        check_references(&document, "#/components/schemas/", &document["components"]["schemas"], false);
    }
    let document = parsed(&documents.v2_json());
    check_references(&document, "#/definitions/", &document["definitions"], false);
}

#[test]
fn schemas_are_published_as_upstream() {
    let core = v3("api/v1");
    let apps = v3("apis/apps/v1");
    let schema = |document: &Value, pointer: &str| document["components"]["schemas"].pointer(pointer).unwrap().clone();
    for (document, pointer, expect) in [
        (&core, "/io.k8s.api.core.v1.Pod/x-kubernetes-group-version-kind", json!([{"group": "", "kind": "Pod", "version": "v1"}])),
        (&core, "/io.k8s.api.core.v1.Container/properties/ports/x-kubernetes-list-type", json!("map")),
        (&core, "/io.k8s.api.core.v1.Container/properties/ports/x-kubernetes-list-map-keys", json!(["containerPort", "protocol"])),
        (&core, "/io.k8s.api.core.v1.Container/properties/ports/x-kubernetes-patch-merge-key", json!("containerPort")),
        (&core, "/io.k8s.api.core.v1.Container/properties/ports/x-kubernetes-patch-strategy", json!("merge")),
        (&core, "/io.k8s.api.core.v1.Container/properties/args/x-kubernetes-list-type", json!("atomic")),
        (&core, "/io.k8s.api.core.v1.Container/properties/args/items", json!({"type": "string"})),
        (&core, "/io.k8s.api.core.v1.PodSpec/properties/nodeSelector/x-kubernetes-map-type", json!("atomic")),
        (&core, "/io.k8s.api.core.v1.PodSpec/required", json!(["containers"])),
        (&core, "/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta/properties/finalizers/x-kubernetes-list-type", json!("set")),
        (&core, "/io.k8s.api.core.v1.SecretKeySelector/x-kubernetes-map-type", json!("atomic")),
        (&core, "/io.k8s.apimachinery.pkg.util.intstr.IntOrString/oneOf", json!([{"type": "integer"}, {"type": "string"}])),
        (&core, "/io.k8s.apimachinery.pkg.util.intstr.IntOrString/format", json!("int-or-string")),
        (&core, "/io.k8s.apimachinery.pkg.api.resource.Quantity/oneOf", json!([{"type": "string"}, {"type": "number"}])),
        (&core, "/io.k8s.apimachinery.pkg.apis.meta.v1.Time/format", json!("date-time")),
        (&core, "/io.k8s.api.core.v1.Secret/properties/data/additionalProperties/format", json!("byte")),
        (&core, "/io.k8s.api.core.v1.PodList/x-kubernetes-group-version-kind/0/kind", json!("PodList")),
        (&core, "/io.k8s.api.core.v1.Pod/properties/spec/allOf/0/$ref", json!("#/components/schemas/io.k8s.api.core.v1.PodSpec")),
        (&apps, "/io.k8s.api.apps.v1.DeploymentSpec/properties/strategy/x-kubernetes-patch-strategy", json!("retainKeys")),
        (&apps, "/io.k8s.api.autoscaling.v1.Scale/x-kubernetes-group-version-kind/0/group", json!("autoscaling")),
    ] {
        assert_eq!(schema(document, pointer), expect, "{pointer}");
    }
    let pod = schema(&core, "/io.k8s.api.core.v1.Pod");
    assert!(pod.get("required").is_none() && pod["description"].as_str().unwrap().starts_with("Pod is a collection"));
    let versions = schema(&core, "/io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions/x-kubernetes-group-version-kind");
    assert_eq!(versions, json!([{"group": "", "kind": "DeleteOptions", "version": "v1"}]));
    let definitions = v3("apis/apiextensions.k8s.io/v1");
    let any = schema(&definitions, "/io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray");
    assert_eq!(any.as_object().unwrap().keys().collect::<Vec<_>>(), ["description"]);
}

#[test]
fn operations() {
    let (core, apps, reviews) = (v3("api/v1"), v3("apis/apps/v1"), v3("apis/authentication.k8s.io/v1"));
    let methods = |document: &Value, path: &str| {
        let item = document["paths"].get(path).unwrap_or_else(|| panic!("no {path}"));
        item.as_object().unwrap().keys().filter(|key| *key != "parameters").cloned().collect::<Vec<_>>().join(" ")
    };
    for (document, path, expect) in [
        (&core, "/api/v1/pods", "get"),
        (&core, "/api/v1/namespaces/{namespace}/pods", "delete get post"),
        (&core, "/api/v1/namespaces/{namespace}/pods/{name}", "delete get patch put"),
        (&core, "/api/v1/namespaces/{namespace}/pods/{name}/status", "get patch put"),
        (&core, "/api/v1/namespaces", "delete get post"),
        (&core, "/api/v1/namespaces/{name}", "delete get patch put"),
        (&apps, "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale", "get patch put"),
        (&reviews, "/apis/authentication.k8s.io/v1/tokenreviews", "post"),
    ] {
        assert_eq!(methods(document, path), expect, "{path}");
    }
    assert!(core["paths"].get("/api/v1/namespaces/{namespace}/secrets/{name}/status").is_none());
    let item = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    let patch = &item["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "apps", "kind": "Deployment", "version": "v1"}));
    assert_eq!((&patch["x-kubernetes-action"], &patch["operationId"]), (&json!("patch"), &json!("patchAppsV1NamespacedDeployment")));
    let names = |value: &Value| value.as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&patch["parameters"]), ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(names(&item["parameters"]), ["name", "namespace", "pretty"]);
    let all = &apps["paths"]["/apis/apps/v1/deployments"]["get"];
    assert_eq!((&all["operationId"], &all["x-kubernetes-action"]), (&json!("listAppsV1DeploymentForAllNamespaces"), &json!("list")));
    let collection = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["delete"];
    assert_eq!(collection["operationId"], "deleteAppsV1CollectionNamespacedDeployment");
    let mut ids = std::collections::HashSet::new();
    let document = parsed(&documents().v2_json());
    for item in document["paths"].as_object().unwrap().values().filter_map(Value::as_object) {
        for operation in item.iter().filter(|(key, _)| *key != "parameters").map(|(_, operation)| operation) {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
        }
    }
}

#[test]
fn version_two_as_json_and_protobuf() {
    let documents = documents();
    let document = parsed(&documents.v2_json());
    for (pointer, expect) in [
        ("/swagger", json!("2.0")),
        ("/definitions/io.k8s.apimachinery.pkg.util.intstr.IntOrString/type", json!("string")),
        ("/definitions/io.k8s.apimachinery.pkg.util.intstr.IntOrString/format", json!("int-or-string")),
        ("/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity/type", json!("string")),
        ("/definitions/io.k8s.api.core.v1.Pod/properties/spec/$ref", json!("#/definitions/io.k8s.api.core.v1.PodSpec")),
        ("/definitions/io.k8s.api.core.v1.PodSpec/properties/containers/items/$ref", json!("#/definitions/io.k8s.api.core.v1.Container")),
        ("/definitions/io.k8s.api.core.v1.PodSpec/properties/containers/x-kubernetes-patch-merge-key", json!("name")),
        ("/definitions/io.k8s.api.core.v1.PodSpec/properties/volumes/x-kubernetes-patch-strategy", json!("merge,retainKeys")),
    ] {
        assert_eq!(document.pointer(pointer), Some(&expect), "{pointer}");
    }
    let text = String::from_utf8(documents.v2_json().to_vec()).unwrap();
    assert!(!text.contains("#/components") && !text.contains("\"allOf\":[{\"$ref"));
    let (definitions, patches) = gnostic::tests::summary(&documents.v2_protobuf());
    assert_eq!(definitions.len(), document["definitions"].as_object().unwrap().len());
    let deployment = definitions.iter().find(|(name, ..)| name == "io.k8s.api.apps.v1.Deployment").unwrap();
    assert_eq!(deployment.1, "object");
    assert_eq!(deployment.2, [r#"x-kubernetes-group-version-kind: [{"group":"apps","kind":"Deployment","version":"v1"}]"#]);
    let patch = patches.iter().find(|(path, _)| path == "/apis/apps/v1/namespaces/{namespace}/deployments/{name}").unwrap();
    assert_eq!(patch.1, ["dryRun", "fieldManager", "fieldValidation", "force"]);
}

#[test]
fn documents_are_kept_small() {
    let documents = documents();
    let compressed = documents.document(&Name::V2Json).unwrap();
    let again = documents.document(&Name::V2Json).unwrap();
    assert_eq!((&compressed.hash, compressed.gzip.as_ptr()), (&again.hash, again.gzip.as_ptr()));
    let plain = documents.v2_json();
    assert!(compressed.gzip.len() * 5 < plain.len(), "{} of {}", compressed.gzip.len(), plain.len());
    assert_eq!(compressed.hash, hash(&plain));
}

/// A schema that is not behind a reference is named after its group, as upstream names those of custom resources.
#[test]
fn inline_schemas() {
    let mut kind = kind::<core::v1::Secret>(true, &[]);
    (kind.group, kind.kind, kind.resource) = ("stable.example.com".into(), "CronTab".into(), "crontabs".into());
    kind.schema = Arc::new(|_| schemars::json_schema!({"type": "object", "properties": {"spec": {"type": "object"}}}));
    let document = parsed(&Documents::of(vec![kind]).v3("apis/stable.example.com/v1").unwrap());
    assert_eq!(document["components"]["schemas"]["com.example.stable.v1.CronTab"]["properties"]["spec"]["type"], "object");
}

/// What is measured is in the documents too, under upstream's names, though it is no row of the table.
#[test]
fn measured_kinds() {
    let documents = Documents::new(&[]);
    let document = parsed(&documents.v3("apis/metrics.k8s.io/v1beta1").unwrap());
    for (pointer, expect) in [
        (
            "/PodMetrics/properties/containers/items/allOf/0/$ref",
            json!("#/components/schemas/io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics"),
        ),
        ("/PodMetrics/properties/containers/x-kubernetes-list-type", json!("atomic")),
        ("/PodMetrics/properties/window/allOf/0/$ref", json!("#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Duration")),
        ("/PodMetrics/required", json!(["timestamp", "window", "containers"])),
        ("/NodeMetrics/required", json!(["timestamp", "window", "usage"])),
        ("/NodeMetrics/x-kubernetes-group-version-kind/0/kind", json!("NodeMetrics")),
        (
            "/NodeMetricsList/properties/items/items/allOf/0/$ref",
            json!("#/components/schemas/io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics"),
        ),
    ] {
        let schemas = "/components/schemas/io.k8s.metrics.pkg.apis.metrics.v1beta1.";
        assert_eq!(document.pointer(&format!("{schemas}{}", &pointer[1..])), Some(&expect), "{pointer}");
    }
    let paths: Vec<&str> =
        document["paths"].as_object().unwrap().keys().map(|path| &path["/apis/metrics.k8s.io/v1beta1/".len()..]).collect();
    assert_eq!(paths, ["namespaces/{namespace}/pods", "namespaces/{namespace}/pods/{name}", "nodes", "nodes/{name}", "pods"]);
    let list = &document["paths"]["/apis/metrics.k8s.io/v1beta1/pods"];
    assert_eq!(list["get"]["operationId"], "listMetricsV1beta1PodMetricsForAllNamespaces");
    assert!(list["get"]["responses"]["200"]["content"]["application/vnd.kubernetes.protobuf"].is_object() && list["post"].is_null());
    let all = parsed(&documents.v2_json());
    assert_eq!(
        all["definitions"]["io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics"]["properties"]["usage"]["additionalProperties"],
        json!({"$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"})
    );
}
