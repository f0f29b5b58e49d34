//! The built-in admission plug-ins, as a client meets them.

use futures::future::join_all;
use serde_json::json;

use crate::support::{Server, server, server_without};

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

/// A server whose pods have an account.
async fn with_account() -> Server {
    let api = server().await;
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
    api
}

fn pod(name: &str, spec: &str) -> String {
    format!("{{metadata: {{name: {name}}}, spec: {spec}}}")
}

const PLAIN: &str = "{containers: [{name: c, image: i}]}";

#[tokio::test]
async fn quotas_hold_when_many_write_at_once() {
    let api = with_account().await;
    api.yes("POST", QUOTAS, "{metadata: {name: q}, spec: {hard: {pods: 10, count/configmaps: 7}}}").await;
    let pods: Vec<String> = (0..50).map(|index| pod(&format!("p{index}"), PLAIN)).collect();
    let answers = join_all(pods.iter().map(|body| api.ask("admin", "POST", PODS, &[], body))).await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    assert_eq!(made, 10, "{:?}", answers.iter().map(|answer| answer.code).collect::<Vec<_>>());
    let refused = answers.iter().find(|answer| answer.code == 403).expect("forty are refused");
    assert!(
        refused.message().ends_with("is forbidden: exceeded quota: q, requested: pods=1, used: pods=10, limited: pods=10"),
        "{}",
        refused.body
    );
    // The same for what is merely counted, under generated names, half of it dry runs that cost nothing.
    let bodies = |dry: bool| format!("{CONFIGMAPS}{}", if dry { "?dryRun=All" } else { "" });
    let answers = join_all((0..50).map(|index| {
        let path = bodies(index % 2 == 0);
        let api = &api;
        async move { (index % 2 == 0, api.ask("admin", "POST", &path, &[], "metadata: {generateName: m-}").await) }
    }))
    .await;
    assert_eq!(answers.iter().filter(|(dry, answer)| !dry && answer.code == 201).count(), 7);
    assert_eq!(api.yes("GET", CONFIGMAPS, "").await["items"].as_array().map(Vec::len), Some(7));
}

#[tokio::test]
async fn quotas_follow_what_is_stored() {
    let api = with_account().await;
    api.yes("POST", QUOTAS, "{metadata: {name: q}, spec: {hard: {pods: 1, requests.cpu: 1}}}").await;
    let sized = |cpu: &str| format!("{{containers: [{{name: c, image: i, resources: {{requests: {{cpu: {cpu}}}}}}}]}}");
    let unsized_pod = api.no(403, "POST", PODS, &pod("a", PLAIN)).await;
    assert_eq!(unsized_pod, "pods \"a\" is forbidden: failed quota: q: must specify requests.cpu for: c");
    let large = api.no(403, "POST", PODS, &pod("a", &sized("2"))).await;
    assert_eq!(
        large,
        "pods \"a\" is forbidden: exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=0, limited: requests.cpu=1"
    );
    api.yes("POST", PODS, &pod("a", &sized("500m"))).await;
    api.no(403, "POST", PODS, &pod("b", &sized("100m"))).await;
    // A name that is taken costs nothing, and neither does a pod that has ended.
    api.no(403, "POST", PODS, &pod("a", &sized("100m"))).await;
    let ended = api.ask("admin", "PATCH", &format!("{PODS}/a/status"), &MERGE, r#"{"status":{"phase":"Succeeded"}}"#).await;
    assert_eq!(ended.code, 200, "{}", ended.body);
    api.yes("POST", PODS, &pod("b", &sized("1"))).await;
    api.yes("DELETE", &format!("{PODS}/b"), "").await;
    api.yes("POST", PODS, &pod("c", &sized("1"))).await;
    // More room is there at once.
    let grown = api.ask("admin", "PATCH", &format!("{QUOTAS}/q"), &MERGE, r#"{"spec":{"hard":{"pods":"2","requests.cpu":"2"}}}"#).await;
    assert_eq!(grown.code, 200, "{}", grown.body);
    api.yes("POST", PODS, &pod("d", &sized("1"))).await;
    api.no(403, "POST", PODS, &pod("e", &sized("1m"))).await;
}

#[tokio::test]
async fn quotas_of_services_and_claims() {
    let api = server().await;
    api.yes("POST", QUOTAS, "{metadata: {name: q}, spec: {hard: {services.nodeports: 1, requests.storage: 3Gi}}}").await;
    let services = "/api/v1/namespaces/default/services";
    api.yes("POST", services, "{metadata: {name: s}, spec: {type: NodePort, ports: [{port: 80}]}}").await;
    let two = r#"{"spec":{"ports":[{"port":80,"name":"a"},{"port":81,"name":"b"}]}}"#;
    let more = api.ask("admin", "PATCH", &format!("{services}/s"), &MERGE, two).await;
    let text = "services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1";
    assert_eq!((more.code, more.message()), (403, text));
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = |name: &str, size: &str| {
        format!("{{metadata: {{name: {name}}}, spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: {size}}}}}}}}}")
    };
    api.yes("POST", claims, &claim("a", "2Gi")).await;
    let over = api.no(403, "POST", claims, &claim("b", "2Gi")).await;
    assert!(
        over.ends_with("exceeded quota: q, requested: requests.storage=2Gi, used: requests.storage=2Gi, limited: requests.storage=3Gi"),
        "{over}"
    );
}

#[tokio::test]
async fn limit_ranges_fill_in_and_bound() {
    let api = with_account().await;
    let range = "{metadata: {name: l}, spec: {limits: [{type: Container, default: {cpu: 500m}, defaultRequest: {cpu: 100m}, max: {cpu: 1}},
        {type: PersistentVolumeClaim, min: {storage: 1Gi}}]}}";
    api.yes("POST", "/api/v1/namespaces/default/limitranges", range).await;
    let made = api.yes("POST", PODS, &pod("a", PLAIN)).await;
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(resources, &json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}));
    let note = "LimitRanger plugin set: cpu request for container c; cpu limit for container c";
    assert_eq!(made["metadata"]["annotations"]["kubernetes.io/limit-ranger"], note);
    assert_eq!(made["status"]["qosClass"], "Burstable", "by what was filled in");
    let large = "{containers: [{name: c, image: i, resources: {limits: {cpu: 2}}}]}";
    let refused = api.no(403, "POST", PODS, &pod("b", large)).await;
    assert_eq!(refused, "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2");
    let small = "{metadata: {name: c}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}";
    let refused = api.no(403, "POST", "/api/v1/namespaces/default/persistentvolumeclaims", small).await;
    assert!(refused.ends_with("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"), "{refused}");
}

fn warnings(answer: &crate::support::Answer) -> Vec<&str> {
    answer.headers.get_all("warning").iter().map(|value| value.to_str().expect("ASCII")).collect()
}

#[tokio::test]
async fn pod_security_refuses_and_warns() {
    let api = with_account().await;
    let label = |labels: &str| format!("{{\"metadata\":{{\"labels\":{{{labels}}}}}}}");
    let namespace = "/api/v1/namespaces/default";
    api.yes("POST", PODS, &pod("a", "{hostNetwork: true, containers: [{name: c, image: i}]}")).await;
    let wrong = api.ask("admin", "PATCH", namespace, &MERGE, &label("\"pod-security.kubernetes.io/enforce\":\"x\"")).await;
    let text = "Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": \
        must be one of privileged, baseline, restricted";
    assert_eq!((wrong.code, wrong.message()), (422, text));
    let baseline = label("\"pod-security.kubernetes.io/enforce\":\"baseline\",\"pod-security.kubernetes.io/warn\":\"restricted\"");
    let stricter = api.ask("admin", "PATCH", namespace, &MERGE, &baseline).await;
    assert_eq!(stricter.code, 200, "{}", stricter.body);
    assert_eq!(
        warnings(&stricter),
        [
            "299 - \"existing pods in namespace \\\"default\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"a: host namespaces\"",
        ]
    );
    let refused = api.no(403, "POST", PODS, &pod("b", "{hostPID: true, containers: [{name: c, image: i}]}")).await;
    assert_eq!(refused, "pods \"b\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)");
    let warned = api.ask("admin", "POST", PODS, &[], &pod("c", PLAIN)).await;
    assert_eq!(warned.code, 201, "{}", warned.body);
    assert!(
        warnings(&warned)[0].contains(
            "would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false (container \\\"c\\\" must set"
        )
    );
    let deployment = "{metadata: {name: d}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}},
        spec: {hostPID: true, containers: [{name: c, image: i}]}}}}";
    let made = api.ask("admin", "POST", "/apis/apps/v1/namespaces/default/deployments", &[], deployment).await;
    assert_eq!(made.code, 201, "what makes pods is only warned of: {}", made.body);
    assert!(warnings(&made)[0].contains("host namespaces (hostPID=true)"), "{:?}", warnings(&made));
}

#[tokio::test]
async fn nodes_keep_to_themselves() {
    let api = with_account().await;
    let node = "system:node:n1";
    let nodes = "/api/v1/nodes";
    let made = api.ask(node, "POST", nodes, &[], "{metadata: {name: n1, labels: {role: x, topology.kubernetes.io/zone: z}}}").await;
    assert_eq!(made.code, 201, "{}", made.body);
    let taint = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
    assert_eq!(made.body["spec"]["taints"], taint, "no pods before it is ready");
    for (name, labels, want) in [
        ("n2", "{}", "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""),
        (
            "n1",
            "{node-restriction.kubernetes.io/x: 'y', a.k8s.io/b: c}",
            "nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the following labels: a.k8s.io/b, node-restriction.kubernetes.io/x",
        ),
    ] {
        let refused = api.ask(node, "POST", nodes, &[], &format!("{{metadata: {{name: {name}, labels: {labels}}}}}")).await;
        assert_eq!((refused.code, refused.message()), (403, want));
    }
    let patch = |body: &'static str| api.ask(node, "PATCH", "/api/v1/nodes/n1", &MERGE, body);
    let refused = patch(r#"{"spec":{"taints":null}}"#).await;
    assert_eq!((refused.code, refused.message()), (403, "nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints"));
    let refused = patch(r#"{"metadata":{"labels":{"node-role.kubernetes.io/x":""}}}"#).await;
    assert_eq!(refused.message(), "nodes \"n1\" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/x");
    // Pods: its own, and their status without their labels.
    api.yes("POST", PODS, &pod("mine", "{nodeName: n1, containers: [{name: c, image: i}]}")).await;
    let status = format!("{PODS}/mine/status");
    let said = api.ask(node, "PATCH", &status, &MERGE, r#"{"status":{"phase":"Running"}}"#).await;
    assert_eq!(said.code, 200, "{}", said.body);
    assert_eq!(said.body["metadata"]["labels"]["topology.kubernetes.io/zone"], "z", "a pod knows its node's zone");
}

#[tokio::test]
async fn classes_and_finalizers() {
    let api = with_account().await;
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    let default = "annotations: {storageclass.kubernetes.io/is-default-class: 'true'}";
    api.yes("POST", classes, &format!("{{metadata: {{name: slow, {default}}}, provisioner: example.com/x}}")).await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = "{metadata: {name: a}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";
    let made = api.yes("POST", claims, claim).await;
    assert_eq!(made["spec"]["storageClassName"], "slow");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let grow = r#"{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}"#;
    let bound = api.ask("admin", "PATCH", &format!("{claims}/a/status"), &MERGE, r#"{"status":{"phase":"Bound"}}"#).await;
    assert_eq!(bound.code, 200, "{}", bound.body);
    let refused = api.ask("admin", "PATCH", &format!("{claims}/a"), &MERGE, grow).await;
    let text = "persistentvolumeclaims \"a\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that \
        provisions the pvc must support resize";
    assert_eq!((refused.code, refused.message()), (403, text));
    let allows = api.ask("admin", "PATCH", &format!("{classes}/slow"), &MERGE, r#"{"allowVolumeExpansion":true}"#).await;
    assert_eq!(allows.code, 200, "{}", allows.body);
    let grown = api.ask("admin", "PATCH", &format!("{claims}/a"), &MERGE, grow).await;
    assert_eq!(grown.code, 200, "{}", grown.body);

    let ingress_class =
        "{metadata: {name: web, annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}}, spec: {controller: example.com/x}}";
    api.yes("POST", "/apis/networking.k8s.io/v1/ingressclasses", ingress_class).await;
    let ingress = "{metadata: {name: i}, spec: {defaultBackend: {service: {name: s, port: {number: 80}}}}}";
    let made = api.yes("POST", "/apis/networking.k8s.io/v1/namespaces/default/ingresses", ingress).await;
    assert_eq!(made["spec"]["ingressClassName"], "web");

    let runtime = "{metadata: {name: vm}, handler: vm, overhead: {podFixed: {memory: 64Mi}}, scheduling: {nodeSelector: {vm: 'yes'}}}";
    api.yes("POST", "/apis/node.k8s.io/v1/runtimeclasses", runtime).await;
    let made = api.yes("POST", PODS, &pod("p", "{runtimeClassName: vm, containers: [{name: c, image: i}]}")).await;
    assert_eq!((&made["spec"]["overhead"]["memory"], &made["spec"]["nodeSelector"]["vm"]), (&json!("64Mi"), &json!("yes")));
    let missing = api.no(403, "POST", PODS, &pod("q", "{runtimeClassName: 'no', containers: [{name: c, image: i}]}")).await;
    assert_eq!(missing, "pods \"q\" is forbidden: pod rejected: RuntimeClass \"no\" not found");
    let unasked = api.no(403, "POST", PODS, &pod("q", "{overhead: {cpu: 1}, containers: [{name: c, image: i}]}")).await;
    assert_eq!(unasked, "pods \"q\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead");
}

#[tokio::test]
async fn accounts_may_insist_on_their_secrets() {
    let api = server().await;
    let account = "{metadata: {name: default, annotations: {kubernetes.io/enforce-mountable-secrets: 'true'}}, secrets: [{name: own}]}";
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    let mounting =
        |secret: &str| format!("{{volumes: [{{name: v, secret: {{secretName: {secret}}}}}], containers: [{{name: c, image: i}}]}}");
    api.yes("POST", PODS, &pod("a", &mounting("own"))).await;
    let refused = api.no(403, "POST", PODS, &pod("b", &mounting("other"))).await;
    let text = "pods \"b\" is forbidden: volume with secret.secretName=\"other\" is not allowed because service account default does not \
        reference that secret";
    assert_eq!(refused, text);
    let env = "{containers: [{name: c, image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: other, key: k}}}]}]}";
    let refused = api.no(403, "POST", PODS, &pod("b", env)).await;
    assert!(refused.contains("container c with envVar A referencing secret.secretName=\"other\" is not allowed"), "{refused}");
}

#[tokio::test]
async fn ephemeral_containers_and_resizes() {
    let api = with_account().await;
    let sized = "{containers: [{name: c, image: i, resources: {requests: {cpu: 1}, limits: {cpu: 2}}}]}";
    let made = api.yes("POST", PODS, &pod("a", sized)).await;
    assert_eq!(made["metadata"]["generation"], 1);
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let debug = r#"{"spec":{"ephemeralContainers":[{"name":"debug","image":"i","targetContainerName":"c"}],"activeDeadlineSeconds":5}}"#;
    let added = api.ask("admin", "PATCH", &format!("{PODS}/a/ephemeralcontainers"), &strategic, debug).await;
    assert_eq!(added.code, 200, "{}", added.body);
    assert_eq!(added.body["spec"]["ephemeralContainers"][0]["name"], "debug");
    assert_eq!((&added.body["spec"]["activeDeadlineSeconds"], &added.body["metadata"]["generation"]), (&json!(null), &json!(2)));
    assert_eq!(api.yes("GET", &format!("{PODS}/a/ephemeralcontainers"), "").await["spec"]["ephemeralContainers"][0]["image"], "i");
    let other = r#"{"spec":{"ephemeralContainers":[{"name":"debug","image":"j"}]}}"#;
    let refused = api.ask("admin", "PATCH", &format!("{PODS}/a/ephemeralcontainers"), &strategic, other).await;
    assert!(
        refused.code == 422 && refused.message().contains("existing ephemeral containers \"debug\" may not be changed"),
        "{}",
        refused.body
    );
    // Other changes of the pod leave them alone.
    let image = api.ask("admin", "PATCH", &format!("{PODS}/a"), &strategic, r#"{"spec":{"containers":[{"name":"c","image":"k"}]}}"#).await;
    assert_eq!(image.code, 200, "{}", image.body);

    let resize = |cpu: &str| format!(r#"{{"spec":{{"containers":[{{"name":"c","resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]}}}}"#);
    let path = format!("{PODS}/a/resize");
    let resized = api.ask("admin", "PATCH", &path, &strategic, &resize("1500m")).await;
    assert_eq!(resized.code, 200, "{}", resized.body);
    assert_eq!(resized.body["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1500m");
    assert!(resized.body["status"].get("resize").is_none(), "nothing is claimed: {}", resized.body["status"]);
    let refused = api.ask("admin", "PATCH", &path, &strategic, &resize("3")).await;
    assert_eq!(refused.code, 422, "a request above its limit: {}", refused.body);
    // What a resize takes is charged too.
    api.yes("POST", QUOTAS, "{metadata: {name: q}, spec: {hard: {requests.cpu: 1600m}}}").await;
    let refused = api.ask("admin", "PATCH", &path, &strategic, &resize("1700m")).await;
    let text =
        "pods \"a\" is forbidden: exceeded quota: q, requested: requests.cpu=200m, used: requests.cpu=1500m, limited: requests.cpu=1600m";
    assert_eq!((refused.code, refused.message()), (403, text));
    let running =
        r#"{"status":{"containerStatuses":[{"name":"c","image":"i","imageID":"","ready":true,"restartCount":0,"state":{"running":{}}}]}}"#;
    assert_eq!(api.ask("admin", "PATCH", &format!("{PODS}/a/status"), &MERGE, running).await.code, 200);
    let refused = api.ask("admin", "PATCH", &path, &strategic, &resize("1600m")).await;
    assert!(refused.code == 422 && refused.message().ends_with("Pod running on node without support for resize"), "{}", refused.body);
}

#[tokio::test]
async fn signers_have_approvers_of_their_own() {
    let api = server().await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let names = rcgen::CertificateParams::new(vec![]).map(|mut params| {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
        params
    });
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = names.expect("parameters").serialize_request(&key).expect("a request").pem().expect("PEM");
    let body = |name: &str, signer: &str| {
        json!({"metadata": {"name": name}, "spec": {"request": base64(&request), "signerName": signer, "usages": ["client auth"]}})
            .to_string()
    };
    let refused = api.no(403, "POST", requests, &body("a", "kubernetes.io/kube-apiserver-client")).await;
    let text = "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with \
        system:masters group is not allowed";
    assert_eq!(refused, text);
    api.yes("POST", requests, &body("b", "example.com/own")).await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let role = "{metadata: {name: approver}, rules: [{apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests,
        certificatesigningrequests/approval], verbs: ['*']}]}";
    api.yes("POST", roles, role).await;
    let binding = "{metadata: {name: ann}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: approver},
        subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: ann}]}";
    api.yes("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    let approve = r#"{"status":{"conditions":[{"type":"Approved","status":"True","reason":"r","message":"m"}]}}"#;
    let path = format!("{requests}/b/approval");
    let refused = api.ask("ann", "PATCH", &path, &MERGE, approve).await;
    let text = "certificatesigningrequests.certificates.k8s.io \"b\" is forbidden: user not permitted to approve requests with signerName \
        \"example.com/own\"";
    assert_eq!((refused.code, refused.message()), (403, text));
    let signers = r#"{"rules":[{"apiGroups":["certificates.k8s.io"],"resources":["certificatesigningrequests","certificatesigningrequests/approval"],"verbs":["*"]},
        {"apiGroups":["certificates.k8s.io"],"resources":["signers"],"resourceNames":["example.com/*"],"verbs":["approve"]}]}"#;
    assert_eq!(api.ask("admin", "PATCH", &format!("{roles}/approver"), &MERGE, signers).await.code, 200);
    let approved = api.ask("ann", "PATCH", &path, &MERGE, approve).await;
    assert_eq!(approved.code, 200, "{}", approved.body);
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn a_plug_in_that_is_disabled_does_nothing() {
    let limits = "{metadata: {name: l}, spec: {limits: [{type: Container, defaultRequest: {cpu: 100m}}]}}";
    for (disabled, request) in [(&[][..], json!("100m")), (&["LimitRanger"][..], json!(null))] {
        let api = server_without(disabled).await;
        api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
        api.yes("POST", "/api/v1/namespaces/default/limitranges", limits).await;
        let made = api.yes("POST", PODS, &pod("p", PLAIN)).await;
        assert_eq!(made["spec"]["containers"][0]["resources"]["requests"]["cpu"], request, "{disabled:?}");
    }
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let check = |enabled: &[&str], disabled: &[&str]| orch::server::registry::plugins_without(&all(enabled), &all(disabled));
    assert_eq!(check(&["NodeRestriction"], &["Priority"]).unwrap().into_iter().collect::<Vec<_>>(), ["Priority"]);
    assert_eq!(check(&["Nothing"], &[]).unwrap_err(), "enable-admission-plugins plugin \"Nothing\" is unknown");
    assert_eq!(check(&[], &[""]).unwrap_err(), "disable-admission-plugins plugin \"\" is unknown");
    let both = "[Priority] in enable-admission-plugins and disable-admission-plugins overlapped";
    assert_eq!(check(&["Priority"], &["Priority"]).unwrap_err(), both);
}
