//! Request lines: paths and queries of reads, and of dry writes without a body. The first byte says the verb and what is accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orch_fuzz::border::{self, border, judge};
use orch_fuzz::seeds;

const METHODS: [&str; 5] = ["GET", "GET", "DELETE", "HEAD", "OPTIONS"];
const ACCEPTED: [&str; 6] = [
    "application/json",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json",
    "application/yaml;q=0.5, */*",
    "application/cbor",
];
/// These go to nodes and to other servers, of which there are none.
const ELSEWHERE: [&str; 6] = ["proxy", "exec", "attach", "portforward", "log", "debug"];

const SEEDS: &[&str] = &[
    "/",
    "/api",
    "/apis",
    "/api/v1",
    "/apis/apps/v1",
    "/version",
    "/healthz",
    "/livez?verbose",
    "/readyz/ping",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3/apis/apps/v1?hash=1",
    "/api/v1/pods?limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0",
    "/api/v1/namespaces/default/pods/one",
    "/api/v1/namespaces/default/pods/one/status",
    "/apis/apps/v1/namespaces/default/deployments/one/scale",
    "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb,x%20in%20(a,b)&fieldSelector=metadata.name%3Done&resourceVersion=0&resourceVersionMatch=NotOlderThan",
    "/api/v1/pods?watch=true&resourceVersion=1&allowWatchBookmarks=true&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
    "/api/v1/watch/namespaces/default/pods",
    "/api/v1/namespaces/default",
    "/apis/coordination.k8s.io/v1/leases?pretty=true&limit=500",
    "/api/v1/namespaces/default/configmaps/one?dryRun=All&gracePeriodSeconds=0&propagationPolicy=Foreground&orphanDependents=true",
    "/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dp",
    "/api/v1/nodes/one?resourceVersion=1",
    "/apis/apps/v1/%64eployments?timeout=1s",
];

fuzz_target!(init: { seeds::plant(
    || SEEDS.iter().enumerate().map(|(index, seed)| [&[index as u8], seed.as_bytes()].concat()).collect(),
    || seeds::names().into_iter().chain(seeds::words(&["?", "&", "=", "%2F", "%00", "/", "//", "..", "labelSelector=", "fieldSelector=", "resourceVersion=",
        "resourceVersionMatch=Exact", "limit=", "continue=", "timeoutSeconds=", "watch=1", "includeObject=None", "sendInitialEvents=", "namespaces/default/"])).collect(),
); border::prepare() }, |data: &[u8]| {
    let Some((head, line)) = data.split_first() else { return };
    let Ok(line) = std::str::from_utf8(line) else { return };
    if !line.starts_with('/') || ELSEWHERE.iter().any(|word| line.contains(word)) {
        return;
    }
    let method = METHODS[usize::from(*head) % METHODS.len()];
    let accepted = ACCEPTED[usize::from(head / 8) % ACCEPTED.len()];
    let line = match (method, line.contains('?')) {
        ("DELETE", true) => format!("{line}&dryRun=All"),
        ("DELETE", false) => format!("{line}?dryRun=All"),
        _ => line.to_owned(),
    };
    border(|border| {
        let Some(answer) = border.ask(method, &line, &[("accept", accepted)], b"") else { return };
        let asked = || format!("{method} {line} accepting {accepted}");
        if method == "HEAD" || answer.body.is_string() {
            assert!(answer.code < 500, "{}: {} {}", asked(), answer.code, answer.body);
        } else {
            judge(&answer, &asked);
        }
    });
});
