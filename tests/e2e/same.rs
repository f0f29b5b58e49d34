//! What `orch kubectl` says of nodes and certificates, against the newest stock kubectl: each command is given to both, on objects that
//! differ in their names only, and must end and print alike.
//!
//! The nodes exist in the API only, so that nothing on them ends or starts by itself.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::skip;
use crate::support::cluster::Cluster;
use crate::support::kubectl::{Kubectl, stock};
use crate::support::{eventually, host, missing, step};

const LIMIT: Duration = Duration::from_secs(30);
const NEWEST: &str = "1.33";

/// `{me}` is whose objects they are: a node and a namespace of that name, and what is in it.
const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: "{me}"}
---
apiVersion: v1
kind: Node
metadata: {name: "{me}", labels: {whose: "{me}"}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: "{me}"}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: every, namespace: "{me}"}
spec:
  selector: {matchLabels: {app: every}}
  template:
    metadata: {labels: {app: every}}
    spec: {nodeSelector: {whose: "{me}"}, tolerations: [{operator: Exists}], containers: [{name: c, image: a}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: all, namespace: "{me}"}
spec: {minAvailable: 100%, selector: {matchLabels: {app: kept}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: owner, namespace: "{me}"}
---
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: "{me}-good"}
spec: {request: "{request}", signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}
---
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: "{me}-bad"}
spec: {request: "{request}", signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}
"#;

/// A pod on the node; `{uid}` is its owner's.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: "{app}"
  namespace: "{me}"
  labels: {app: "{app}"}
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: owner, uid: "{uid}", controller: true}]
spec: {nodeName: "{me}", containers: [{name: c, image: a}]}
"#;

const COMMANDS: &[&[&str]] = &[
    &["cordon", "{me}"],
    &["cordon", "{me}"],
    &["cordon", "node/{me}"],
    &["uncordon", "{me}", "--dry-run=server"],
    &["uncordon", "{me}", "--dry-run=client"],
    &["uncordon", "{me}"],
    &["uncordon", "-l", "whose={me}"],
    &["cordon", "{me}", "{me}-none"],
    &["cordon"],
    &["cordon", "{me}", "-l", "whose={me}"],
    &["cordon", "-l", "whose=nobody"],
    &["cordon", "pod/alone"],
    &["taint", "nodes", "{me}", "k=v:NoSchedule"],
    &["taint", "nodes", "{me}", "k=w:NoSchedule"],
    &["taint", "nodes", "{me}", "k=w:NoSchedule", "--overwrite"],
    &["taint", "node", "{me}", "l:PreferNoSchedule", "k:NoSchedule-"],
    &["taint", "no", "-l", "whose={me}", "m=n:NoSchedule", "--dry-run=server"],
    &["taint", "node", "{me}", "l-", "-o", "name"],
    &["taint", "node", "{me}", "l-"],
    &["taint", "node", "{me}", "l:PreferNoSchedule-"],
    &["taint", "node", "{me}", "l"],
    &["taint", "node", "{me}", "l=m"],
    &["taint", "node", "{me}", "l=m:Never"],
    &["taint", "node", "{me}", "l=m:NoSchedule", "l=n:NoSchedule"],
    &["taint", "node", "{me}", "l=m:NoSchedule", "l-"],
    &["taint", "node", "{me}"],
    &["taint", "node", "l=m:NoSchedule"],
    &["taint", "l=m:NoSchedule"],
    &["taint", "node", "l=m:NoSchedule", "{me}"],
    &["taint", "pods", "{me}", "l=m:NoSchedule"],
    &["taint", "node", "--all", "-l", "whose={me}", "l=m:NoSchedule"],
    &["taint", "node", "{me}-none", "l=m:NoSchedule"],
    &["taint", "node", "{me}", "l=-:NoSchedule"],
    &["certificate", "approve", "{me}-good"],
    &["certificate", "approve", "{me}-good"],
    &["certificate", "deny", "{me}-good"],
    &["certificate", "deny", "csr/{me}-bad", "-o", "name"],
    &["certificate", "approve", "{me}-bad", "--force"],
    &["certificate", "approve", "{me}-none"],
    &["certificate", "approve"],
    &["drain", "{me}", "--pod-selector=app=alone"],
    &["drain", "{me}", "--pod-selector=app=every"],
    &["drain", "{me}", "--pod-selector=app=local"],
    &["drain", "{me}", "--pod-selector=app=("],
    &["drain"],
    &["drain", "{me}", "--pod-selector=app in (alone,kept,every)", "--force", "--ignore-daemonsets", "--dry-run=client"],
    &["drain", "{me}", "--pod-selector=app in (alone,local)", "--force", "--delete-emptydir-data", "--dry-run=server"],
    &["drain", "{me}", "--pod-selector=app in (kept,other)", "--grace-period=0", "--timeout=1s"],
    &["drain", "{me}", "--pod-selector=app=every", "--ignore-daemonsets"],
    &["drain", "{me}", "--pod-selector=app=kept", "--disable-eviction", "--grace-period=0"],
    &["drain", "{me}", "--pod-selector=app=slow", "--timeout=1s"],
    &["drain", "{me}", "--pod-selector=app=slow", "--timeout=1s", "--disable-eviction"],
    &["drain", "-l", "whose={me}", "--pod-selector=app in (alone,local)", "--force", "--delete-emptydir-data", "--grace-period=0"],
    &["uncordon", "{me}"],
    &["cluster-info"],
    &["-n", "kube-system", "cluster-info"],
];

/// A client and its objects.
struct Side<'a> {
    kubectl: Kubectl<'a>,
    me: &'static str,
    /// The pod that the DaemonSet's controller made.
    daemon: String,
}

/// Exit code, output and errors, without what must differ.
type Said = (Option<i32>, String, String);

impl<'a> Side<'a> {
    fn new(cluster: &Cluster, kubectl: Kubectl<'a>, me: &'static str) -> Side<'a> {
        let admin = Kubectl::newest(cluster);
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, me);
        let request = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        admin.apply(&OBJECTS.replace("{me}", me).replace("{request}", &STANDARD.encode(request)));
        let room = r#"{"status":{"capacity":{"pods":"20","cpu":"4"},"allocatable":{"pods":"20","cpu":"4"}}}"#;
        admin.ok(&["patch", "node", me, "--subresource=status", "-p", room]);
        let uid = admin.ok(&["-n", me, "get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"]);
        for app in ["kept", "other", "slow", "local", "alone"] {
            let mut pod = POD.replace("{me}", me).replace("{app}", app).replace("{uid}", &uid);
            if app == "alone" {
                pod = pod.lines().filter(|line| !line.contains("ownerReferences")).collect::<Vec<_>>().join("\n");
            }
            if app == "local" {
                pod = pod.replace("spec: {", "spec: {volumes: [{name: v, emptyDir: {}}], ");
            }
            admin.apply(&pod);
        }
        // A budget guards pods that run.
        let running = r#"{"status":{"phase":"Running"}}"#;
        admin.ok(&["-n", me, "patch", "pod", "kept", "--subresource=status", "-p", running]);
        let daemon = eventually(LIMIT, "the DaemonSet's pod is on the node", || {
            let fields = format!("--field-selector=spec.nodeName={me}");
            let found = admin.ok(&["-n", me, "get", "pods", "-l", "app=every", &fields, "-o", "jsonpath={.items[*].metadata.name}"]);
            if found.is_empty() { Err("none".to_owned()) } else { Ok(found) }
        });
        Side { kubectl, me, daemon }
    }

    fn run(&self, args: &[&str]) -> Said {
        let args: Vec<String> = args.iter().map(|arg| arg.replace("{me}", self.me)).collect();
        let args: Vec<&str> = ["-n", self.me].into_iter().chain(args.iter().map(String::as_str)).collect();
        // Else some versions of kubectl colour what they print.
        let output = self.kubectl.command(&args, LIMIT).env("TERM", "dumb").output().unwrap();
        (output.status.code(), self.plain(&output.stdout), self.plain(&output.stderr))
    }

    /// Lines in order, since pods are told of as they go.
    fn plain(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text).replace(&self.daemon, "{daemon}").replace(self.me, "{me}");
        // Said twice up to 1.33, and once since.
        let text = text.replace("cannot delete cannot delete", "cannot delete");
        // The parts of a warning come in the order of a Go map, which is none.
        let parts = |line: &str| {
            let (head, rest) = line.split_once(": ").filter(|(head, _)| *head == "Warning").unwrap_or(("", line));
            let mut parts: Vec<&str> = rest.split("; ").collect();
            parts.sort_unstable();
            format!("{head} {}", parts.join("; "))
        };
        let mut lines: Vec<String> = text.lines().map(|line| parts(line.trim_end())).collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

#[test]
fn nodes_and_certificates_as_kubectl_has_them() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let Some(program) = stock(NEWEST) else { skip!("no kubectl {NEWEST} on this machine") };
    let cluster = Cluster::start(&["--disable-agent"]);
    let theirs = Side::new(&cluster, Kubectl::stock(&cluster, program), "theirs");
    let ours = Side::new(&cluster, Kubectl::own(&cluster), "ours");
    let mut wrong = Vec::new();
    for args in COMMANDS {
        step(&args.join(" "));
        let (want, found) = std::thread::scope(|scope| {
            let want = scope.spawn(|| theirs.run(args));
            let found = ours.run(args);
            (want.join().unwrap(), found)
        });
        if found != want {
            wrong.push(format!("{args:?}:\n  kubectl {want:#?}\n  ours    {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), COMMANDS.len(), wrong.join("\n"));
}
