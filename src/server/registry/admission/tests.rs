//! Admission of API types over a real store. The rows of the table are the registry tests' own.

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::tests::{Fixture, put};
use super::*;

fn parse<T: DeserializeOwned>(yaml: &str) -> T {
    serde_yaml::from_str(yaml).expect("a test object")
}

impl Fixture {
    /// All phases of admission; what is set aside is held as long as the findings are.
    fn run<T: Object + Clone>(&self, operation: Operation, object: &mut T, old: Option<&dyn Object>) -> Result<Findings, Status> {
        let options = WriteOptions::default();
        let asked = Asked { kind: self.kind("pods"), operation, old, options: &options, deletion: None };
        let (mut admitted, mut findings) = (object.clone_object(), Findings::default());
        for phase in [Phase::Mutate, Phase::Reserve, Phase::Validate] {
            let outcome = self.registry.admit(phase, asked, &mut admitted, &mut findings).now_or_never();
            outcome.expect("nothing here calls out")?;
        }
        *object = admitted.as_any().downcast_ref::<T>().expect("admission keeps the type").clone();
        Ok(findings)
    }

    /// The pod's spec after admission.
    fn pod(&self, spec: &str) -> Result<Value, Status> {
        let mut pod: Pod = parse(&format!("{{metadata: {{name: p, namespace: default}}, spec: {spec}}}"));
        self.run(Operation::Create, &mut pod, None)?;
        Ok(pod.to_value()["spec"].clone())
    }

    fn service(&self, name: &str, spec: &str) -> Result<(Service, Findings), Status> {
        let mut service: Service = parse(&format!("{{metadata: {{name: {name}, namespace: default}}, spec: {spec}}}"));
        let admitted = self.run(Operation::Create, &mut service, None)?;
        Ok((service, admitted))
    }
}

#[tokio::test]
async fn pods_get_an_account() {
    let fixture = Fixture::new().await;
    let spec = fixture.pod("{initContainers: [{name: i}], containers: [{name: c}]}").expect("admitted");
    assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().expect("named");
    assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
    let sources = json!([
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]);
    assert_eq!(volume["projected"], json!({"defaultMode": 420, "sources": sources}));
    let mount = json!([{"name": name, "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    assert_eq!((&spec["containers"][0]["volumeMounts"], &spec["initContainers"][0]["volumeMounts"]), (&mount, &mount));
    let without = fixture.pod("{automountServiceAccountToken: false, containers: [{name: c}]}").expect("admitted");
    assert_eq!((without.get("volumes"), without["containers"][0].get("volumeMounts")), (None, None));
    let missing = fixture.pod("{serviceAccountName: x, containers: [{name: c}]}").expect_err("refused");
    let text = "pods \"p\" is forbidden: error looking up service account default/x: serviceaccount \"x\" not found";
    assert_eq!(missing.message, text);
    let account = "{metadata: {name: y, namespace: default}, automountServiceAccountToken: false, imagePullSecrets: [{name: s}]}";
    put::<ServiceAccount>(fixture.registry.store(), "default", "y", account).await;
    let spec = fixture.pod("{serviceAccountName: y, containers: [{name: c}]}").expect("admitted");
    assert_eq!((spec.get("volumes"), &spec["imagePullSecrets"]), (None, &json!([{"name": "s"}])));
}

#[tokio::test]
async fn tolerations_and_priorities() {
    let fixture = Fixture::new().await;
    let spec = fixture.pod("{containers: [{name: c}]}").expect("admitted");
    let toleration = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    assert_eq!(spec["tolerations"], json!([toleration("not-ready"), toleration("unreachable")]));
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
    let all = fixture.pod("{tolerations: [{operator: Exists}], containers: [{name: c}]}").expect("admitted");
    assert_eq!(all["tolerations"], json!([{"operator": "Exists"}]));
    let system = fixture.pod("{priorityClassName: system-node-critical, containers: [{name: c}]}").expect("admitted");
    assert_eq!(system["priority"], 2_000_001_000);
    let class = "{metadata: {name: high}, value: 7, globalDefault: true, preemptionPolicy: Never}";
    put::<PriorityClass>(fixture.registry.store(), "", "high", class).await;
    let spec = fixture.pod("{containers: [{name: c}]}").expect("admitted");
    let found = (&spec["priority"], &spec["priorityClassName"], &spec["preemptionPolicy"]);
    assert_eq!(found, (&json!(7), &json!("high"), &json!("Never")));
    assert_eq!(fixture.pod("{priority: 8, containers: [{name: c}]}").expect_err("refused").code, 403);
    let missing = fixture.pod("{priorityClassName: none, containers: [{name: c}]}").expect_err("refused");
    assert_eq!(missing.message, "pods \"p\" is forbidden: no PriorityClass with name none was found");
    let mut second: PriorityClass = parse("{metadata: {name: low}, value: 1, globalDefault: true}");
    assert_eq!(fixture.run(Operation::Update, &mut second, None).err().expect("refused").code, 403);
}

#[tokio::test]
async fn namespaces_come_and_go() {
    let fixture = Fixture::new().await;
    let terminating = "{metadata: {name: old}, status: {phase: Terminating}}";
    put::<Namespace>(fixture.registry.store(), "", "old", terminating).await;
    let mut pod: Pod = parse("{metadata: {name: p, namespace: old}, spec: {containers: [{name: c}]}}");
    let status = fixture.run(Operation::Create, &mut pod, None).err().expect("refused");
    let text = "pods \"p\" is forbidden: unable to create new content in namespace old because it is being terminated";
    assert_eq!(status.message, text);
    assert_eq!(status.details.expect("has details").causes[0].reason, "NamespaceTerminating");
    assert!(fixture.run(Operation::Update, &mut pod, None).is_ok(), "updates go on");
    let mut namespace: Namespace = parse("{metadata: {name: kube-system}}");
    let status = fixture.run(Operation::Delete, &mut namespace, None).err().expect("refused");
    assert!(status.code == 403 && status.message.ends_with("this namespace may not be deleted"), "{status}");
}

#[tokio::test]
async fn services_get_addresses_and_ports() {
    let fixture = Fixture::new().await;
    let (service, first) = fixture.service("a", "{type: NodePort, ports: [{port: 80}, {port: 81}]}").expect("admitted");
    let spec = service.spec.as_ref().expect("a spec");
    let address = spec.cluster_ip.clone().expect("allocated");
    let parsed: std::net::IpAddr = address.parse().expect("an address");
    assert!(RegistryConfig::default().service_cidr.contains(&parsed) && parsed > std::net::IpAddr::from([10, 43, 1, 0]));
    assert_eq!(spec.cluster_ips, Some(vec![address.clone()]));
    assert_eq!((spec.ip_families.clone(), spec.ip_family_policy.as_deref()), (Some(vec!["IPv4".into()]), Some("SingleStack")));
    let ports: Vec<_> = spec.ports.iter().flatten().map(|port| port.node_port.expect("allocated")).collect();
    assert!(ports[0] != ports[1] && ports.iter().all(|port| (30086..=32767).contains(port)), "{ports:?}");

    // Reserved by the first write, which is still under way.
    let same = format!("{{clusterIP: {address}, ports: [{{port: 80}}]}}");
    let taken = fixture.service("b", &same).err().expect("refused");
    assert!(taken.code == 422 && taken.message.contains("provided IP is already allocated"), "{taken}");
    let port = format!("{{type: NodePort, ports: [{{port: 80, nodePort: {}}}]}}", ports[0]);
    let taken = fixture.service("b", &port).err().expect("refused");
    assert!(
        taken.message.contains("spec.ports[0].nodePort: Invalid value: ") && taken.message.ends_with("provided port is already allocated")
    );
    drop(first);
    let (_, free) = fixture.service("b", &same).expect("given back");
    drop(free);
    // Taken by what is stored.
    put::<Service>(fixture.registry.store(), "default", "a", &serde_json::to_string(&service).expect("JSON")).await;
    assert_eq!(fixture.service("b", &same).err().expect("refused").code, 422);

    let refused = |spec: &str| fixture.service("c", spec).err().expect("refused").message;
    assert!(refused("{clusterIP: 10.44.0.1}").contains("is not in the valid range. The range of valid IPs is 10.43.0.0/16"));
    assert!(refused("{clusterIP: 10.43.0.0}").contains("not in the valid range"));
    assert!(refused("{clusterIP: x}").contains("must be a valid IP address"));
    assert!(refused("{type: NodePort, ports: [{port: 1, nodePort: 80}]}").contains("The range of valid ports is 30000-32767"));
    let (headless, _) = fixture.service("d", "{clusterIP: None}").expect("admitted");
    assert_eq!(headless.spec.expect("a spec").cluster_ips, Some(vec!["None".into()]));
    let (external, _) = fixture.service("e", "{type: ExternalName, externalName: example.com}").expect("admitted");
    assert_eq!(external.spec.expect("a spec").cluster_ip, None);
}

#[tokio::test]
async fn updates_keep_what_was_allocated() {
    let fixture = Fixture::new().await;
    let (old, _held) = fixture.service("a", "{type: NodePort, ports: [{port: 80, protocol: TCP}]}").expect("admitted");
    let update = |spec: &str| {
        let mut new: Service = parse(&format!("{{metadata: {{name: a, namespace: default}}, spec: {spec}}}"));
        fixture.run(Operation::Update, &mut new, Some(&old)).expect("admitted");
        new.spec.expect("a spec")
    };
    let before = old.spec.clone().expect("a spec");
    let same = update("{type: NodePort, ports: [{port: 80, protocol: TCP}]}");
    assert_eq!((&same.cluster_ip, &same.ports), (&before.cluster_ip, &before.ports));
    let port = before.ports.as_ref().expect("ports")[0].node_port.expect("allocated");
    let more = update(&format!("{{type: NodePort, ports: [{{port: 81, protocol: TCP}}, {{port: 80, protocol: TCP, nodePort: {port}}}]}}"));
    let numbers: Vec<_> = more.ports.iter().flatten().map(|port| port.node_port.expect("allocated")).collect();
    assert!(numbers[0] != port && numbers[1] == port, "{numbers:?}");
    let inner = update(&format!("{{type: ClusterIP, ports: [{{port: 80, protocol: TCP, nodePort: {port}}}]}}"));
    assert_eq!((&inner.cluster_ip, inner.ports.expect("ports")[0].node_port), (&before.cluster_ip, None));
    let address = before.cluster_ip.as_deref().expect("allocated");
    let outer = update(&format!("{{type: ExternalName, externalName: x.y, clusterIP: {address}, clusterIPs: [{address}]}}"));
    assert_eq!((outer.cluster_ip, outer.cluster_ips), (None, None));
    let (mut old, _held) = fixture.service("b", "{type: NodePort, ports: [{port: 80}]}").expect("admitted");
    old.spec.as_mut().expect("a spec").external_traffic_policy = Some("Cluster".into());
    let mut new = old.clone();
    new.spec.as_mut().expect("a spec").type_ = Some("ClusterIP".into());
    fixture.run(Operation::Update, &mut new, Some(&old)).expect("admitted");
    assert_eq!(new.spec.expect("a spec").external_traffic_policy, None);
}
