//! Services and pods in YAML, endpoints out.

use super::*;
use crate::server::reconcile::testing::World;

const WEB: &str = "kind: Service
metadata: {name: web, namespace: default, labels: {team: a}}
spec: {clusterIP: 10.43.0.5, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
";

fn pod(name: &str, ip: &str, more: &str, ready: bool) -> String {
    format!(
        "kind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{app: web}}{more}}}\nspec: {{nodeName: n1, hostname: {name}, subdomain: web, containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]}}\nstatus: {{phase: Running, podIP: {ip}, conditions: [{{type: Ready, status: '{}'}}]}}\n---\n",
        if ready { "True" } else { "False" }
    )
}

fn key() -> Key {
    Key::of::<Service>("default", "web")
}

fn world(yaml: &str) -> World {
    let mut world = World::of(yaml);
    world.settle(&EndpointsController, &key());
    world.settle(&EndpointSlices, &key());
    world
}

/// `ADDRESS:PORT READY/SERVING/TERMINATING` of each endpoint of each slice.
fn slices(world: &World) -> Vec<String> {
    let mut lines = Vec::new();
    for slice in world.all::<EndpointSlice>() {
        let port = slice.ports.iter().flatten().next().and_then(|port| port.port).unwrap_or(0);
        for endpoint in slice.endpoints.iter().flatten() {
            let c = endpoint.conditions.clone().unwrap_or_default();
            let flag = |flag: Option<bool>| if flag == Some(true) { 'y' } else { 'n' };
            lines.push(format!("{}:{port} {}{}{}", endpoint.addresses[0], flag(c.ready), flag(c.serving), flag(c.terminating)));
        }
    }
    lines.sort();
    lines
}

#[test]
fn ready_serving_terminating() {
    let ending = ", deletionTimestamp: '2026-01-01T00:00:00Z'";
    let yaml = format!("{WEB}{}{}{}", pod("a", "10.0.0.1", "", true), pod("b", "10.0.0.2", "", false), pod("c", "10.0.0.3", ending, true));
    let built = world(&yaml);
    assert_eq!(slices(&built), ["10.0.0.1:8080 yyn", "10.0.0.2:8080 nnn", "10.0.0.3:8080 nyy"]);
    let subset = &built.one::<Endpoints>("web").subsets.expect("subsets")[0];
    let ips = |list: &Option<Vec<_>>| {
        list.iter().flatten().map(|a: &k8s_openapi::api::core::v1::EndpointAddress| a.ip.clone()).collect::<Vec<_>>()
    };
    assert_eq!((ips(&subset.addresses), ips(&subset.not_ready_addresses)), (vec!["10.0.0.1".into()], vec!["10.0.0.2".into()]));
    assert_eq!(subset.addresses.as_ref().and_then(|list| list[0].hostname.clone()), Some("a".into()));
    let slice = &built.all::<EndpointSlice>()[0];
    let labels = slice.metadata.labels.clone().unwrap_or_default();
    assert_eq!((labels["kubernetes.io/service-name"].as_str(), labels["team"].as_str()), ("web", "a"));
    assert!(slice.metadata.name.as_deref().is_some_and(|name| name.starts_with("web-") && name.len() == 9));
    let all = world(&yaml.replace("clusterIP: 10.43.0.5", "clusterIP: None, publishNotReadyAddresses: true"));
    assert_eq!(slices(&all), ["10.0.0.1:8080 yyn", "10.0.0.2:8080 ynn", "10.0.0.3:8080 yyy"]);
    assert_eq!(all.one::<Endpoints>("web").metadata.labels.unwrap_or_default().get("service.kubernetes.io/headless"), Some(&String::new()));
}

#[test]
fn follows_changes_and_leaves_with_the_service() {
    let mut world = world(&format!("{WEB}{}", pod("a", "10.0.0.1", "", true)));
    world.load(&pod("b", "10.0.0.2", "", true));
    let namespace = Key::of::<Service>("default", "");
    world.settle(&EndpointSlices, &namespace);
    world.settle(&EndpointsController, &namespace);
    assert_eq!((slices(&world).len(), world.all::<EndpointSlice>().len()), (2, 1));
    for name in ["a", "b"] {
        world.remove(&Key::of::<Pod>("default", name));
    }
    world.settle(&EndpointSlices, &key());
    world.settle(&EndpointsController, &key());
    assert_eq!((slices(&world).len(), world.all::<EndpointSlice>().len()), (0, 1), "an empty slice stays");
    world.remove(&key());
    world.settle(&EndpointSlices, &key());
    world.settle(&EndpointsController, &key());
    assert_eq!((world.all::<EndpointSlice>().len(), world.all::<Endpoints>().len()), (0, 0));
}

#[test]
fn slices_hold_a_hundred() {
    let pods: String = (0..250).map(|i| pod(&format!("p{i}"), &format!("10.0.{}.{}", i / 200, i % 200 + 1), "", true)).collect();
    let built = world(&format!("{WEB}{pods}"));
    let mut sizes: Vec<_> = built.all::<EndpointSlice>().iter().map(|slice| slice.endpoints.iter().flatten().count()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
}

#[test]
fn others_endpoints_are_left_alone() {
    let yaml = "kind: Service\nmetadata: {name: web, namespace: default}\nspec: {ports: [{port: 80}]}\n---\nkind: Endpoints\nmetadata: {name: web, namespace: default}\n---\nkind: Endpoints\nmetadata: {name: gone, namespace: default}\n";
    let built = world(yaml);
    assert_eq!((built.all::<Endpoints>().len(), built.all::<EndpointSlice>().len()), (2, 0));
}
