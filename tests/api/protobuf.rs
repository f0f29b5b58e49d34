//! Protobuf: the forms of all kinds, and what a client that speaks it meets.

use futures::StreamExt;
use http_body_util::BodyExt;
use k8s_pb::apimachinery::pkg::runtime::{TypeMeta, Unknown};
use orch::api::protobuf;
use orch::server::kinds::KINDS;
use prost::Message;
use serde_json::{Value, json};

use super::samples;
use super::support::{Server, server};

/// Paths at which two trees differ.
pub(super) fn differences(left: &Value, right: &Value, at: &str, out: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for name in names {
                differences(a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null), &format!("{at}.{name}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(a, b)| differences(a, b, &format!("{at}[]"), out));
        }
        _ if left != right => out.push(format!("{at}: {left} / {right}")),
        _ => {}
    }
}

/// What protobuf can't say, and why.
const KNOWN_GAPS: &[(&str, &str)] = &[
    (".spec.volumeClaimTemplates[].apiVersion", "objects within objects have no apiVersion and kind as messages, upstream's neither"),
    (".spec.volumeClaimTemplates[].kind", "as above"),
];

/// Whether a difference is one of those.
pub(super) fn is_known_gap(difference: &str) -> bool {
    KNOWN_GAPS.iter().any(|(gap, _)| difference.split(':').next().is_some_and(|path| path.ends_with(gap)))
}

/// Every field that the schema of any served kind has survives the way into protobuf and back.
#[test]
fn every_field_of_every_kind_goes_both_ways() {
    let mut lost = Vec::new();
    for kind in KINDS.iter() {
        assert!(protobuf::knows(&kind.api_version(), kind.kind()), "{kind:?}");
        let object = samples::full(kind);
        let document = protobuf::encode(object.to_string().as_bytes()).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        let back = protobuf::decode(&document, None).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        differences(&object, &back, &format!("{kind:?}"), &mut lost);
        if kind.info.virtual_only {
            continue;
        }
        let list = kind.list_kind();
        let bytes = object.to_string();
        let document = protobuf::List::new(&kind.api_version(), list, br#"{"resourceVersion":"5"}"#).unwrap();
        let mut written = document.head(document.measure(bytes.as_bytes(), &mut Vec::new()).unwrap());
        document.item(bytes.as_bytes(), &mut written).unwrap();
        written.extend_from_slice(document.tail());
        let back = protobuf::decode(&written, None).unwrap();
        let item = bare(object);
        let want = json!({"apiVersion": kind.api_version(), "kind": list, "metadata": {"resourceVersion": "5"}, "items": [item]});
        differences(&want, &back, list, &mut lost);
    }
    lost.retain(|path| !is_known_gap(path));
    assert!(lost.is_empty(), "{} lost:\n{}", lost.len(), lost.join("\n"));
}

/// Fields that the peer, of an older version, does not know.
const NEWER_THAN_THE_PEER: &[&str] = &[
    "user",
    "defaultUser",
    "mode",
    "protocol",
    "podPreemptionPolicy",
    "runningInUserNamespace",
    "schedulingGroup",
    "evictionResponders",
    "nodeAllocatableResourceClaimStatuses",
    "volumeHealth",
    "message",
    "bindMountOptions",
    "volumeStatus",
    "scheduling",
];

/// Another implementation reads what we write, and we read what it writes.
fn through_the_peer<T: Message + Default>(api_version: &str, kind: &str) -> T {
    let def = KINDS.iter().find(|k| k.api_version() == api_version && k.kind() == kind).unwrap();
    let object = samples::full(def);
    let document = protobuf::encode(object.to_string().as_bytes()).unwrap();
    let unknown = Unknown::decode(document.strip_prefix(b"k8s\0").unwrap()).unwrap();
    let meta = unknown.type_meta.clone().unwrap();
    assert_eq!((meta.api_version(), meta.kind()), (api_version, kind));
    assert_eq!((unknown.content_type.as_deref(), unknown.content_encoding.as_deref()), (Some(""), Some("")));
    let peer = T::decode(unknown.raw()).unwrap();
    let theirs = Unknown { type_meta: Some(TypeMeta { ..meta }), raw: Some(peer.encode_to_vec()), ..Unknown::default() };
    let back = protobuf::decode(&[b"k8s\0", theirs.encode_to_vec().as_slice()].concat(), None).unwrap();
    let mut lost = Vec::new();
    differences(&object, &back, "", &mut lost);
    lost.retain(|path| !NEWER_THAN_THE_PEER.iter().any(|new| path.split(':').next().unwrap().ends_with(&format!(".{new}"))));
    assert!(lost.is_empty(), "{kind}: {}", lost.join("\n"));
    peer
}

#[test]
fn another_implementation_understands_us() {
    use k8s_pb::api::{admissionregistration, apps, batch, core, networking, storage};
    let pod: core::v1::Pod = through_the_peer("v1", "Pod");
    let spec = pod.spec.unwrap();
    assert_eq!(spec.containers[0].resources.as_ref().unwrap().limits["key"].string(), "1500m");
    assert_eq!(spec.volumes[0].volume_source.as_ref().unwrap().config_map.as_ref().unwrap().default_mode, Some(7));
    assert_eq!(pod.metadata.unwrap().creation_timestamp.unwrap().seconds, Some(1_709_209_859));
    let node: core::v1::Node = through_the_peer("v1", "Node");
    assert_eq!(node.status.unwrap().images[0].size_bytes, Some(7));
    let deployment: apps::v1::Deployment = through_the_peer("apps/v1", "Deployment");
    let surge = deployment.spec.unwrap().strategy.unwrap().rolling_update.unwrap().max_surge.unwrap();
    assert_eq!((surge.r#type, surge.str_val()), (Some(1), "50%"));
    let crd: k8s_pb::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
        through_the_peer("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    assert_eq!(crd.spec.unwrap().versions[0].schema.as_ref().unwrap().open_apiv3_schema.as_ref().unwrap().maximum, Some(1.5));
    through_the_peer::<core::v1::Secret>("v1", "Secret");
    through_the_peer::<core::v1::Service>("v1", "Service");
    through_the_peer::<core::v1::PersistentVolume>("v1", "PersistentVolume");
    through_the_peer::<apps::v1::ControllerRevision>("apps/v1", "ControllerRevision");
    through_the_peer::<networking::v1::Ingress>("networking.k8s.io/v1", "Ingress");
    through_the_peer::<storage::v1::StorageClass>("storage.k8s.io/v1", "StorageClass");
    through_the_peer::<batch::v1::CronJob>("batch/v1", "CronJob");
    through_the_peer::<admissionregistration::v1::ValidatingWebhookConfiguration>(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
    );
}

pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A client that speaks nothing but protobuf.
pub(super) struct Client(pub(super) Server);

impl Client {
    /// Sends an object, if there is one; answers with the code and what came back, which must be a document.
    pub(super) async fn ask(&self, method: &str, uri: &str, body: Option<&Value>) -> (u16, Value) {
        let document = body.map(|body| protobuf::encode(body.to_string().as_bytes()).unwrap()).unwrap_or_default();
        self.raw(method, uri, &document).await
    }

    async fn raw(&self, method: &str, uri: &str, body: &[u8]) -> (u16, Value) {
        let headers = [("accept", PROTOBUF), ("content-type", PROTOBUF)];
        let response = self.0.send_bytes("admin", method, uri, &headers, body).await;
        let (code, media) = (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap().to_owned());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(media, PROTOBUF, "{method} {uri}: {code} {}", String::from_utf8_lossy(&bytes));
        (code, protobuf::decode(&bytes, None).unwrap())
    }

    /// The same, and it must succeed.
    pub(super) async fn yes(&self, method: &str, uri: &str, body: Option<&Value>) -> Value {
        let (code, answer) = self.ask(method, uri, body).await;
        assert!(code < 300, "{method} {uri}: {code} {answer}");
        answer
    }

    /// The frames of a watch, until there are `count`.
    pub(super) async fn watch(&self, uri: &str, count: usize) -> Vec<(String, Value)> {
        let response = self.0.send("admin", "GET", uri, &[("accept", PROTOBUF)], "").await;
        assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
        let mut chunks = response.into_body().into_data_stream();
        let (mut buffer, mut events) = (Vec::new(), Vec::new());
        while events.len() < count {
            let chunk = tokio::time::timeout(std::time::Duration::from_secs(30), chunks.next()).await.expect("an event in time");
            buffer.extend_from_slice(&chunk.expect("the watch goes on").unwrap());
            while let Some(length) = buffer.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)
                && buffer.len() >= length + 4
            {
                let event = k8s_pb::apimachinery::pkg::apis::meta::v1::WatchEvent::decode(&buffer[4..length + 4]).unwrap();
                let object = event.object.as_ref().unwrap().raw();
                events.push((event.r#type().to_owned(), protobuf::decode(object, None).unwrap()));
                buffer.drain(..length + 4);
            }
        }
        events
    }
}

pub(super) async fn client() -> Client {
    let server = server().await;
    server.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
    Client(server)
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// Items of a JSON list name their kind, those of a message do not.
pub(super) fn bare(mut object: Value) -> Value {
    object.as_object_mut().unwrap().retain(|name, _| name != "apiVersion" && name != "kind");
    object
}

const POD: &str = "{containers: [{name: c, image: i, ports: [{containerPort: 80}], resources: {limits: {cpu: 500m}},
    livenessProbe: {httpGet: {port: http}}, env: [{name: A, valueFrom: {configMapKeyRef: {name: m, key: k}}}]}],
    volumes: [{name: v, emptyDir: {}}, {name: s, secret: {secretName: x, optional: false}}], terminationGracePeriodSeconds: 0}";

/// Where it is created, and an object.
fn objects() -> Vec<(&'static str, Value)> {
    let template = format!("{{metadata: {{labels: {{a: b}}}}, spec: {POD}}}");
    let no_grace = template.replace(", terminationGracePeriodSeconds: 0", "");
    let apps = format!("{{selector: {{matchLabels: {{a: b}}}}, replicas: 0, template: {no_grace}}}");
    let rules = "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]";
    [
        ("/api/v1/namespaces", "{apiVersion: v1, kind: Namespace, metadata: {name: x}}".to_owned()),
        ("/api/v1/namespaces/default/pods", format!("{{apiVersion: v1, kind: Pod, metadata: {{name: x, labels: {{a: b}}}}, spec: {POD}}}")),
        ("/api/v1/nodes", "{apiVersion: v1, kind: Node, metadata: {name: x}, spec: {taints: [{key: k, effect: NoSchedule}]}}".into()),
        ("/api/v1/namespaces/default/configmaps", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {k: '', l: v}, binaryData: {b: AAH/}}".into()),
        ("/api/v1/namespaces/default/secrets", "{apiVersion: v1, kind: Secret, metadata: {name: x}, data: {k: AAH/}, type: Opaque}".into()),
        ("/api/v1/namespaces/default/services", "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: 80, targetPort: web}], clusterIP: None}}".into()),
        ("/api/v1/namespaces/default/serviceaccounts", "{apiVersion: v1, kind: ServiceAccount, metadata: {name: x}, automountServiceAccountToken: false}".into()),
        ("/apis/apps/v1/namespaces/default/deployments", format!("{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: x}}, spec: {apps}}}")),
        ("/apis/apps/v1/namespaces/default/daemonsets", format!("{{apiVersion: apps/v1, kind: DaemonSet, metadata: {{name: x}}, spec: {}}}", apps.replace("replicas: 0, ", ""))),
        ("/apis/apps/v1/namespaces/default/controllerrevisions", "{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: x}, revision: 3, data: {a: [1, {b: c}]}}".into()),
        ("/apis/batch/v1/namespaces/default/cronjobs", format!("{{apiVersion: batch/v1, kind: CronJob, metadata: {{name: x}}, spec: {{schedule: '* * * * *', suspend: false, jobTemplate: {{spec: {{template: {}}}}}}}}}", no_grace.replace("spec: {", "spec: {restartPolicy: Never, "))),
        ("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: x}, spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 5}}}]}}".into()),
        ("/apis/policy/v1/namespaces/default/poddisruptionbudgets", "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: x}, spec: {minAvailable: 50%, selector: {matchLabels: {a: b}}}}".into()),
        ("/apis/networking.k8s.io/v1/namespaces/default/networkpolicies", "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x}, spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 5}]}]}}".into()),
        ("/apis/networking.k8s.io/v1/namespaces/default/ingresses", "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: x}, spec: {rules: [{host: a.b, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}}]}}".into()),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", format!("{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {{name: x}}, {rules}}}")),
        ("/apis/storage.k8s.io/v1/storageclasses", "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: x}, provisioner: a/b, parameters: {p: q}}".into()),
        ("/apis/coordination.k8s.io/v1/namespaces/default/leases", "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: x}, spec: {holderIdentity: h, renewTime: '2024-01-01T00:00:00.123456Z', leaseDurationSeconds: 5}}".into()),
        ("/apis/scheduling.k8s.io/v1/priorityclasses", "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: x}, value: 5}".into()),
        ("/apis/events.k8s.io/v1/namespaces/default/events", "{apiVersion: events.k8s.io/v1, kind: Event, metadata: {name: x}, eventTime: '2024-01-01T00:00:00.000001Z', reportingController: a/b, reportingInstance: i, action: act, reason: Why, type: Normal, regarding: {namespace: default}}".into()),
        ("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: x}, webhooks: [{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {url: 'https://a.b/'}, rules: [{operations: [CREATE], apiGroups: [nowhere.example.com], apiVersions: [v1], resources: [pods]}]}]}".into()),
        ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: x}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1], conditions: {ready: false}}], ports: [{name: '', port: 80}]}".into()),
    ]
    .map(|(path, text)| (path, yaml(&text)))
    .to_vec()
}

/// A whole life of one object of many kinds; at each step JSON and protobuf tell the same.
#[tokio::test]
async fn objects_live_in_protobuf_as_in_json() {
    let client = client().await;
    for (path, object) in objects() {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let made = client.yes("POST", path, Some(&object)).await;
        let one = format!("{path}/x");
        let json = client.0.yes("GET", &one, "").await;
        let mut lost = Vec::new();
        let read = client.yes("GET", &one, None).await;
        differences(&json, &read, "", &mut lost);
        differences(&json, &made, "", &mut lost);
        let list = client.yes("GET", path, None).await;
        let mut want = client.0.yes("GET", path, "").await;
        want["items"].as_array_mut().unwrap().iter_mut().for_each(|item| *item = bare(item.take()));
        differences(&want, &list, "", &mut lost);
        // Counts of a status are no pointers in Go: as messages, zero is as good as none.
        lost.retain(|path| !(path.contains(".status.") && path.ends_with(": 0 / null")));
        // What a client wrote is what is there; defaults come on top.
        differences(&merged(&json, &object), &json, "", &mut lost);
        assert!(lost.is_empty(), "{kind}: {}", lost.join("\n"));
        let mut changed = read.clone();
        changed["metadata"]["annotations"] = json!({"seen": "yes"});
        let updated = client.yes("PUT", &one, Some(&changed)).await;
        assert_eq!(updated["metadata"]["annotations"]["seen"], "yes");
        let deletion = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Background",
            "preconditions": {"uid": made["metadata"]["uid"]}});
        client.yes("DELETE", &one, Some(&deletion)).await;
        let from = made["metadata"]["resourceVersion"].as_str().unwrap();
        let events = client.watch(&format!("{path}?watch=1&resourceVersion={from}&fieldSelector=metadata.name%3Dx"), 2).await;
        assert_eq!(events[0], ("MODIFIED".to_owned(), updated), "{kind}");
        assert_eq!(events[1].1["kind"], kind.as_str());
    }
}

/// `base` with the values of `over`.
fn merged(base: &Value, over: &Value) -> Value {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            let mut all = base.clone();
            for (name, value) in over {
                let merged = merged(all.get(name).unwrap_or(&Value::Null), value);
                all.insert(name.clone(), merged);
            }
            all.into()
        }
        (Value::Array(a), Value::Array(b)) if a.len() >= b.len() => {
            a.iter().enumerate().map(|(index, a)| b.get(index).map_or_else(|| a.clone(), |b| merged(a, b))).collect()
        }
        _ => over.clone(),
    }
}

#[tokio::test]
async fn subresources_and_reviews_in_protobuf() {
    let client = client().await;
    let pods = "/api/v1/namespaces/default/pods";
    for name in ["p", "q"] {
        let pod =
            yaml(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: i}}]}}}}"));
        client.yes("POST", pods, Some(&pod)).await;
    }
    let binding = yaml("{apiVersion: v1, kind: Binding, metadata: {name: p}, target: {kind: Node, name: n}}");
    assert_eq!(client.yes("POST", &format!("{pods}/p/binding"), Some(&binding)).await["status"], "Success");
    assert_eq!(client.yes("GET", &format!("{pods}/p"), None).await["spec"]["nodeName"], "n");
    let eviction = yaml("{apiVersion: policy/v1, kind: Eviction, metadata: {name: q}, deleteOptions: {gracePeriodSeconds: 0}}");
    assert_eq!(client.yes("POST", &format!("{pods}/q/eviction"), Some(&eviction)).await["status"], "Success");
    assert_eq!(client.ask("GET", &format!("{pods}/q"), None).await.0, 404);

    let (deployments, deployment) = objects().into_iter().find(|(_, object)| object["kind"] == "Deployment").unwrap();
    client.yes("POST", deployments, Some(&deployment)).await;
    let scale = format!("{deployments}/x/scale");
    let mut wanted = client.yes("GET", &scale, None).await;
    wanted["spec"]["replicas"] = 3.into();
    assert_eq!(client.yes("PUT", &scale, Some(&wanted)).await["spec"]["replicas"], 3);
    let mut none = client.yes("GET", &scale, None).await;
    none["spec"]["replicas"] = 0.into();
    client.yes("PUT", &scale, Some(&none)).await;
    assert_eq!(client.yes("GET", &format!("{deployments}/x"), None).await["spec"]["replicas"], 0);

    let request =
        yaml("{apiVersion: authentication.k8s.io/v1, kind: TokenRequest, metadata: {}, spec: {audiences: [a], expirationSeconds: 700}}");
    let token = client.yes("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", Some(&request)).await;
    assert!(token["status"]["token"].as_str().is_some_and(|token| token.len() > 20), "{token}");
    assert_eq!((&token["kind"], &token["spec"]["expirationSeconds"]), (&"TokenRequest".into(), &700.into()));
    let review = yaml(
        "{apiVersion: authorization.k8s.io/v1, kind: SelfSubjectAccessReview, spec: {resourceAttributes: {verb: get, resource: pods}}}",
    );
    let answer = client.yes("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Some(&review)).await;
    assert_eq!(answer["status"]["allowed"], true);
    let review = yaml("{apiVersion: authentication.k8s.io/v1, kind: SelfSubjectReview}");
    let answer = client.yes("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", Some(&review)).await;
    assert_eq!(answer["status"]["userInfo"], json!({"username": "admin", "groups": ["system:masters"]}));
}

#[tokio::test]
async fn errors_come_as_the_client_accepts_them() {
    let client = client().await;
    let one = "/api/v1/namespaces/default/configmaps/none";
    let (code, status) = client.ask("GET", one, None).await;
    assert_eq!((code, &status["kind"], &status["apiVersion"]), (404, &"Status".into(), &"v1".into()));
    assert_eq!((&status["message"], &status["code"]), (&"configmaps \"none\" not found".into(), &404.into()));
    assert_eq!(status["details"], json!({"name": "none", "kind": "configmaps"}));
    let invalid = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not a name"}});
    let (code, status) = client.ask("POST", "/api/v1/namespaces/default/configmaps", Some(&invalid)).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &"metadata.name".into()));
    for (accept, media) in [
        ("application/vnd.kubernetes.protobuf,application/json", PROTOBUF),
        ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/yaml", "application/yaml"),
        ("application/json", "application/json"),
        ("image/png", "application/json"),
        ("", "application/json"),
    ] {
        let answer = client.0.send("admin", "GET", one, &[("accept", accept)], "").await;
        // What is accepted is asked before what is there.
        let code = if accept == "image/png" { 406 } else { 404 };
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (code, media), "{accept}");
    }
    let nobody = client.0.send("", "GET", one, &[("accept", PROTOBUF)], "").await;
    assert_eq!((nobody.status().as_u16(), nobody.headers()["content-type"].to_str().unwrap()), (401, PROTOBUF));
}

#[tokio::test]
async fn bodies_that_are_not_what_they_say() {
    let client = client().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let pod = protobuf::encode(br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#).unwrap();
    let unknown = [b"k8s\0\x0a\x14\x0a\x0bexample/v1\x21\x12\x05Thing\x12\0".as_slice()].concat();
    let cut = protobuf::encode(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"abc"}}"#).unwrap();
    let damaged: Vec<u8> = cut.iter().map(|byte| if *byte == b'b' { 0xff } else { *byte }).collect();
    for (body, want) in [
        (b"".as_slice(), "the object provided is unrecognized (must be of type ConfigMap): empty data (<empty>)"),
        (
            b"{}",
            "the object provided is unrecognized (must be of type ConfigMap): provided data does not appear to be a protobuf message, \
            expected prefix [107 56 115 0] ({})",
        ),
        (b"k8s\0", "the object provided is unrecognized (must be of type ConfigMap): empty body (6b387300)"),
        (&pod, "Pod in version \"v1\" cannot be handled as a ConfigMap"),
        (
            &unknown,
            "Thing in version \"v1!\" cannot be handled as a ConfigMap: no kind \"Thing\" is registered for version \"example/v1!\"",
        ),
        (&damaged, "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: proto: field name contains invalid UTF-8"),
        (&cut[..cut.len() - 6], "the object provided is unrecognized (must be of type ConfigMap): unexpected EOF (6b3873000a0f"),
    ] {
        let (code, status) = client.raw("POST", path, body).await;
        let message = status["message"].as_str().unwrap();
        assert!(code == 400 && message.starts_with(want), "{code} {message}");
    }
    // Patches are JSON and YAML.
    let (code, _) = client.raw("PATCH", &format!("{path}/a"), &pod).await;
    assert_eq!(code, 415);
}

#[tokio::test]
async fn metadata_tables_and_bookmarks() {
    let client = client().await;
    let path = "/api/v1/namespaces/default/configmaps";
    client.yes("POST", path, Some(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}))).await;
    let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let answer = client.0.send("admin", "GET", path, &[("accept", metadata)], "").await;
    let list = protobuf::decode(&answer.into_body().collect().await.unwrap().to_bytes(), None).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&"PartialObjectMetadataList".into(), &"a".into()));
    assert_eq!(list["items"][0].as_object().unwrap().len(), 1);
    let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
    assert_eq!(client.0.ask("admin", "GET", path, &[("accept", table)], "").await.code, 406);
    let both = format!("{table},application/json;as=Table;g=meta.k8s.io;v=v1");
    assert_eq!(client.0.ask("admin", "GET", path, &[("accept", &both)], "").await.body["kind"], "Table");
    let initial = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let events = client.watch(&format!("{path}?watch=1&{initial}"), 2).await;
    assert_eq!(events.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["ADDED", "BOOKMARK"]);
    assert_eq!(events[1].1["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let yaml = client.0.ask("admin", "GET", &format!("{path}?watch=1"), &[("accept", "application/yaml")], "").await;
    let refusal =
        "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    // The refusal itself comes as the client accepts it.
    let status: Value = serde_yaml::from_str(yaml.body.as_str().unwrap()).unwrap();
    assert_eq!((yaml.code, status["message"].as_str()), (406, Some(refusal)));
}

/// A list of many frames says its size first, and it holds; also when the items were measured before.
#[tokio::test]
async fn long_lists_are_whole() {
    let client = client().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let map = |index: usize| {
        let metadata = json!({"name": format!("m{index:02}"), "labels": {"n": index.to_string()}});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": "v".repeat(7000 + index)}})
    };
    for index in 0..40 {
        client.yes("POST", path, Some(&map(index))).await;
    }
    let part = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    for accept in [PROTOBUF, PROTOBUF, part] {
        let answer = client.0.send("admin", "GET", path, &[("accept", accept)], "").await;
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), length);
        let list = protobuf::decode(&bytes, None).unwrap();
        let items = list["items"].as_array().unwrap();
        assert_eq!(items.len(), 40);
        for (index, item) in items.iter().enumerate() {
            assert_eq!(item["metadata"]["labels"]["n"], index.to_string());
            let data = if accept == part { Value::Null } else { map(index)["data"].clone() };
            assert_eq!(item.get("data").cloned().unwrap_or_default(), data);
        }
    }
}

#[tokio::test]
async fn discovery_in_protobuf() {
    let client = client().await;
    for (path, kind) in
        [("/api", "APIVersions"), ("/apis", "APIGroupList"), ("/apis/apps", "APIGroup"), ("/apis/apps/v1", "APIResourceList")]
    {
        let json = client.0.yes("GET", path, "").await;
        let answer = client.yes("GET", path, None).await;
        assert_eq!(answer["kind"], kind);
        let mut lost = Vec::new();
        differences(&without_zeros(json), &bare(answer), "", &mut lost);
        lost.retain(|path| !path.starts_with(".kind") && !path.starts_with(".apiVersion"));
        assert!(lost.is_empty(), "{path}: {}", lost.join("\n"));
    }
    let aggregated = "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for path in ["/api", "/apis"] {
        let answer = client.0.send("admin", "GET", path, &[("accept", aggregated)], "").await;
        assert_eq!(answer.headers()["content-type"], aggregated);
        let list = protobuf::decode(&answer.into_body().collect().await.unwrap().to_bytes(), None).unwrap();
        let json =
            client.0.ask("admin", "GET", path, &[("accept", aggregated.replace("vnd.kubernetes.protobuf", "json").as_str())], "").await;
        let mut lost = Vec::new();
        differences(&without_zeros(json.body), &list, "", &mut lost);
        assert!(lost.is_empty(), "{path}: {}", lost.join("\n"));
    }
}

/// A tree without empty texts and falsehoods, which messages leave out.
fn without_zeros(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| *value != json!("") && *value != json!(false));
            Value::Object(kept.map(|(name, value)| (name, without_zeros(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_zeros).collect(),
        other => other,
    }
}
