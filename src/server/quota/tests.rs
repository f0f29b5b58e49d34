//! Measures, scopes and charges as tables.

use serde::de::DeserializeOwned;

use super::*;
use crate::api::amounts::Amounts;

fn parse<T: DeserializeOwned>(yaml: &str) -> T {
    serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"))
}

fn pod(spec: &str) -> Pod {
    parse(&format!("{{metadata: {{name: p}}, spec: {spec}}}"))
}

fn quota(spec: &str) -> ResourceQuota {
    parse(&format!("{{metadata: {{name: q}}, spec: {spec}}}"))
}

fn whole(measure: Measure) -> String {
    let mut amounts = measure.stored;
    amounts.add(&measure.alive);
    amounts.to_string()
}

#[test]
fn measures() {
    let running =
        pod("{containers: [{name: c, resources: {requests: {cpu: 1, hugepages-2Mi: 4Mi, example.com/gpu: 2}, limits: {memory: 1Gi}}}]}");
    assert_eq!(
        whole(measure("", "pods", Item::Pod(&running))),
        "count/pods=1,cpu=1,hugepages-2Mi=4Mi,limits.memory=1Gi,pods=1,requests.cpu=1,requests.example.com/gpu=2,requests.hugepages-2Mi=4Mi"
    );
    let ended: Pod = parse("{metadata: {name: p}, spec: {containers: [{name: c}]}, status: {phase: Failed}}");
    assert_eq!(whole(measure("", "pods", Item::Pod(&ended))), "count/pods=1");
    for (spec, want) in [
        ("{type: ClusterIP, ports: [{port: 1}]}", "services=1,services.loadbalancers=0,services.nodeports=0"),
        ("{type: NodePort, ports: [{port: 1}, {port: 2}]}", "services=1,services.loadbalancers=0,services.nodeports=2"),
        ("{type: LoadBalancer, ports: [{port: 1}, {port: 2}]}", "services=1,services.loadbalancers=1,services.nodeports=2"),
        (
            "{type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 1, nodePort: 30000}, {port: 2}]}",
            "services=1,services.loadbalancers=1,services.nodeports=1",
        ),
    ] {
        let service: Service = parse(&format!("{{metadata: {{name: s}}, spec: {spec}}}"));
        assert_eq!(whole(measure("", "services", Item::Service(&service))), format!("count/services=1,{want}"), "{spec}");
    }
    let claim: PersistentVolumeClaim = parse(
        "{metadata: {name: c}, spec: {storageClassName: gold, resources: {requests: {storage: 1500m}}}, status: {allocatedResources: {storage: 3}}}",
    );
    assert_eq!(
        whole(measure("", "persistentvolumeclaims", Item::Volume(&claim))),
        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
         gold.storageclass.storage.k8s.io/requests.storage=3,persistentvolumeclaims=1,requests.storage=3"
    );
    let devices: ResourceClaim = parse(
        "{metadata: {name: r}, spec: {devices: {requests: [{name: a, exactly: {deviceClassName: x, count: 2}},
          {name: b, exactly: {deviceClassName: x, allocationMode: All}},
          {name: c, firstAvailable: [{name: d, deviceClassName: x, count: 3}, {name: e, deviceClassName: x}, {name: f, deviceClassName: y}]}]}}}",
    );
    assert_eq!(
        whole(measure("resource.k8s.io", "resourceclaims", Item::Devices(&devices))),
        "count/resourceclaims.resource.k8s.io=1,x.deviceclass.resource.k8s.io/devices=37,y.deviceclass.resource.k8s.io/devices=1"
    );
    assert_eq!(whole(measure("", "configmaps", Item::Other)), "configmaps=1,count/configmaps=1");
    assert_eq!(whole(measure("example.org", "things", Item::Other)), "count/things.example.org=1");
}

#[test]
fn names_by_resource() {
    for (group, resource, name, want) in [
        ("", "pods", "pods", true),
        ("", "pods", "count/pods", true),
        ("", "pods", "requests.example.com/gpu", true),
        ("", "pods", "requests.storage", false),
        ("", "pods", "limits.example.com/gpu", false),
        ("", "pods", "hugepages-1Gi", true),
        ("", "pods", "services", false),
        ("", "persistentvolumeclaims", "gold.storageclass.storage.k8s.io/requests.storage", true),
        ("", "persistentvolumeclaims", "gold.storageclass.storage.k8s.io/requests.cpu", false),
        ("", "configmaps", "configmaps", true),
        ("", "serviceaccounts", "serviceaccounts", false),
        ("", "serviceaccounts", "count/serviceaccounts", true),
        ("apps", "deployments", "count/deployments.apps", true),
        ("apps", "deployments", "count/deployments", false),
    ] {
        assert_eq!(tracks(group, resource, name), want, "{group}/{resource} {name}");
    }
}

#[test]
fn scopes() {
    let plain = "{containers: [{name: c}]}";
    let busy = "{containers: [{name: c, resources: {requests: {cpu: 1}}}], activeDeadlineSeconds: 5, priorityClassName: high}";
    let near = "{containers: [{name: c}], affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: k, namespaceSelector: {}}]}}}";
    let selector = |rest: &str| format!("scopeSelector: {{matchExpressions: [{{scopeName: PriorityClass, {rest}}}]}}");
    for (scope, spec, want) in [
        ("scopes: [Terminating]".to_owned(), busy, true),
        ("scopes: [Terminating]".to_owned(), plain, false),
        ("scopes: [NotTerminating, BestEffort]".to_owned(), plain, true),
        ("scopes: [NotTerminating, BestEffort]".to_owned(), busy, false),
        ("scopes: [NotBestEffort]".to_owned(), busy, true),
        ("scopes: [PriorityClass]".to_owned(), busy, true),
        ("scopes: [CrossNamespacePodAffinity]".to_owned(), near, true),
        ("scopes: [CrossNamespacePodAffinity]".to_owned(), plain, false),
        (selector("operator: In, values: [high, low]"), busy, true),
        (selector("operator: In, values: [low]"), busy, false),
        (selector("operator: NotIn, values: [low]"), plain, true),
        (selector("operator: DoesNotExist"), busy, false),
        ("scopes: [VolumeAttributesClass]".to_owned(), busy, false),
    ] {
        let quota = quota(&format!("{{hard: {{pods: 1}}, {scope}}}"));
        assert_eq!(governs(&quota, "", "pods", Item::Pod(&pod(spec))), want, "{scope} {spec}");
    }
    let scoped = quota("{hard: {services: 1}, scopes: [Terminating]}");
    assert!(!governs(&scoped, "", "services", Item::Service(&Service::default())), "services know no scopes");
    let classes = quota(
        "{hard: {requests.storage: 1}, scopeSelector: {matchExpressions: [{scopeName: VolumeAttributesClass, operator: In, values: [a]}]}}",
    );
    let claim: PersistentVolumeClaim = parse("{metadata: {name: c}, spec: {}, status: {currentVolumeAttributesClassName: a}}");
    assert!(governs(&classes, "", "persistentvolumeclaims", Item::Volume(&claim)));
    assert!(!governs(&classes, "", "persistentvolumeclaims", Item::Volume(&PersistentVolumeClaim::default())));
}

#[test]
fn room() {
    let one = pod("{containers: [{name: c, resources: {requests: {cpu: 500m}}}]}");
    let bare = pod("{containers: [{name: c}, {name: d}]}");
    let whole_pod = pod("{resources: {requests: {cpu: 1}}, containers: [{name: c}]}");
    // (hard, used, the pod, what is charged or why not)
    for (hard, used, pod, want) in [
        ("{pods: 2}", "{pods: 1}", &one, Ok("pods=1")),
        ("{pods: 1}", "{pods: 1}", &one, Err("exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1")),
        (
            "{pods: 1, requests.cpu: 1, memory: 5}",
            "{pods: 1, requests.cpu: 700m}",
            &one,
            Err("failed quota: q: must specify memory for: c"),
        ),
        (
            "{pods: 1, requests.cpu: 1}",
            "{pods: 1, requests.cpu: 700m}",
            &one,
            Err("exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=1,requests.cpu=700m, limited: pods=1,requests.cpu=1"),
        ),
        ("{cpu: 1, limits.memory: 1}", "{}", &bare, Err("failed quota: q: must specify cpu for: c,d; limits.memory for: c,d")),
        ("{requests.cpu: 1}", "{}", &whole_pod, Ok("requests.cpu=1")),
        ("{services: 0}", "{}", &bare, Ok("")),
        ("{ephemeral-storage: 1}", "{}", &bare, Ok("")),
    ] {
        let quota = quota(&format!("{{hard: {hard}}}"));
        let used: std::collections::BTreeMap<_, _> = parse(used);
        let standings = [Standing { quota: &quota, used: Amounts::of(Some(&used)) }];
        let charged = charge(&standings, ("", "pods"), Item::Pod(pod), None).map(|charges| charges[0].to_string());
        assert_eq!(charged, want.map(str::to_owned).map_err(str::to_owned), "{hard}");
    }
    let negative = pod("{containers: [{name: c, resources: {requests: {cpu: -1}}}]}");
    let charged = charge(&[], ("", "pods"), Item::Pod(&negative), None).expect_err("refused");
    assert_eq!(charged, "quota usage is negative for resource(s): cpu,requests.cpu");
}

#[test]
fn updates_pay_the_difference() {
    let quota = quota("{hard: {services.nodeports: 3}}");
    let service = |ports: usize| -> Service {
        let ports: Vec<String> = (1..=ports).map(|port| format!("{{port: {port}}}")).collect();
        parse(&format!("{{metadata: {{name: s}}, spec: {{type: NodePort, ports: [{}]}}}}", ports.join(",")))
    };
    let (two, three, four) = (service(2), service(3), service(4));
    let standing = || [Standing { quota: &quota, used: Amounts::of(Some(&parse("{services.nodeports: 2}"))) }];
    let charged = |new: &Service, old: &Service| charge(&standing(), ("", "services"), Item::Service(new), Some(Item::Service(old)));
    assert_eq!(charged(&three, &two).expect("room")[0].to_string(), "services.nodeports=1");
    assert_eq!(charged(&two, &four).expect("room")[0].to_string(), "");
    let why = "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=2, limited: services.nodeports=3";
    assert_eq!(charged(&four, &two).expect_err("refused"), why);
}
