//! Each stock kubectl of this machine, from 1.27 to 1.33, through every kind of command that needs no running container: what it
//! sends (JSON, protobuf, apply configurations, each patch type) and what it makes of the answers.
//!
//! One server for all of them; each version has a namespace, a group of custom resources and a home of its own, so that nothing is
//! cached for it by another, and two run at a time.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::skip;
use crate::support::cluster::Cluster;
use crate::support::kubectl::{Kubectl, stock};
use crate::support::{eventually, host, missing, step};

const VERSIONS: &[&str] = &["1.27", "1.28", "1.29", "1.30", "1.31", "1.32", "1.33"];
const LIMIT: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 2;

/// A command: its arguments, its exit code, and what it must print. `{ns}` and `{dir}` stand for the version's namespace and files.
type Line = (&'static [&'static str], i32, &'static [&'static str]);

const FILES: &[(&str, &str)] = &[
    (
        "web.yaml",
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "a:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: applied}
data: {a: "1"}
"#,
    ),
    ("map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owned}\ndata: {a: '1'}"),
    ("other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owned}\ndata: {a: '2'}"),
    ("wrong.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: wrong}\ndta: {a: '2'}"),
    (
        "kind.yaml",
        r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: "greetings.{ns}.example.com"}
spec:
  group: "{ns}.example.com"
  scope: Namespaced
  names: {plural: greetings, singular: greeting, kind: Greeting, shortNames: [gr]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.times, statusReplicasPath: .status.times}}
    additionalPrinterColumns: [{name: Who, type: string, jsonPath: .spec.who}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [who]
            properties:
              who: {type: string, description: Whom to greet., minLength: 1}
              times: {type: integer, default: 1}
          status: {type: object, properties: {times: {type: integer}}}
"#,
    ),
    (
        "requests.yaml",
        r#"
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: "{ns}-good"}
spec: {request: "{request}", signerName: kubernetes.io/kube-apiserver-client, usages: [client auth], expirationSeconds: 3600}
---
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: "{ns}-bad"}
spec: {request: "{request}", signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}
"#,
    ),
    ("custom.yaml", "apiVersion: {ns}.example.com/v1\nkind: Greeting\nmetadata: {name: one}\nspec: {who: world}"),
];

const APPLY: &[Line] = &[
    (&["apply", "-f", "{dir}/web.yaml"], 0, &["deployment.apps/web created", "configmap/applied created"]),
    (&["apply", "-f", "{dir}/web.yaml"], 0, &["deployment.apps/web unchanged", "configmap/applied unchanged"]),
    (&["diff", "-f", "{dir}/web.yaml"], 0, &[]),
    (&["apply", "-f", "{dir}/wrong.yaml"], 1, &["unknown field \"dta\""]),
    (&["apply", "--validate=warn", "-f", "{dir}/wrong.yaml"], 0, &["Warning: unknown field \"dta\"", "configmap/wrong created"]),
    (&["apply", "--server-side", "--field-manager=one", "-f", "{dir}/map.yaml"], 0, &["configmap/owned serverside-applied"]),
    (
        &["apply", "--server-side", "--field-manager=two", "-f", "{dir}/other.yaml"],
        1,
        &["Apply failed with 1 conflict: conflict with \"one\": .data.a", "--force-conflicts"],
    ),
    (&["diff", "-f", "{dir}/other.yaml"], 1, &["-  a: \"1\"", "+  a: \"2\""]),
    (&["diff", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "{dir}/other.yaml"], 1, &["-  a: \"1\"", "+  a: \"2\""]),
    (
        &["apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "{dir}/other.yaml"],
        0,
        &["configmap/owned serverside-applied"],
    ),
    (&["diff", "--server-side", "--field-manager=two", "-f", "{dir}/other.yaml"], 0, &[]),
    (&["get", "configmap", "owned", "--show-managed-fields", "-o", "yaml"], 0, &["manager: two", "operation: Apply", "f:a: {}"]),
];

const CREATE: &[Line] = &[
    (&["create", "deployment", "made", "--image=b:1", "--replicas=2"], 0, &["deployment.apps/made created"]),
    (&["create", "deployment", "made", "--image=b:1"], 1, &["deployments.apps \"made\" already exists"]),
    (&["create", "deployment", "Made", "--image=b:1"], 1, &["\"Made\" is invalid: metadata.name", "a lowercase RFC 1123 subdomain"]),
    (&["create", "configmap", "made", "--from-literal=k=v"], 0, &["configmap/made created"]),
    (&["create", "secret", "generic", "hidden", "--from-literal=pass=word"], 0, &["secret/hidden created"]),
    (&["get", "secret", "hidden", "-o", "jsonpath={.data.pass} {.type}"], 0, &["d29yZA== Opaque"]),
    (&["create", "quota", "room", "--hard=pods=50,configmaps=20"], 0, &["resourcequota/room created"]),
    (&["wait", "--for=jsonpath={.status.hard.pods}=50", "resourcequota/room", "--timeout=10s"], 0, &["resourcequota/room condition met"]),
    (&["create", "service", "clusterip", "made", "--tcp=80:8080"], 0, &["service/made created"]),
    (&["create", "job", "once", "--image=c:1"], 0, &["job.batch/once created"]),
    (&["create", "cronjob", "often", "--image=c:1", "--schedule=0 0 1 1 *"], 0, &["cronjob.batch/often created"]),
    (&["create", "poddisruptionbudget", "budget", "--selector=app=web", "--min-available=1"], 0, &["poddisruptionbudget.policy/budget"]),
    (&["create", "ingress", "way", "--rule=host/path=made:80"], 0, &["ingress.networking.k8s.io/way created"]),
    (&["create", "priorityclass", "{ns}", "--value=10"], 0, &["priorityclass.scheduling.k8s.io/{ns} created"]),
    (&["run", "single", "--image=d:1", "--labels=app=single"], 0, &["pod/single created"]),
    (&["expose", "deployment", "made", "--name=shown", "--port=81"], 0, &["service/shown exposed"]),
    (&["create", "configmap", "tried", "--from-literal=k=v", "--dry-run=server", "-o", "yaml"], 0, &["k: v", "uid:"]),
    (&["get", "configmap", "tried"], 1, &["Error from server (NotFound): configmaps \"tried\" not found"]),
];

const AUTH: &[Line] = &[
    (&["auth", "can-i", "--list"], 0, &["Resources", "Non-Resource URLs", "*.*"]),
    (&["auth", "can-i", "create", "pods"], 0, &["yes"]),
    (&["auth", "can-i", "create", "pods", "--as=nobody"], 1, &["no"]),
    (
        &["get", "pods", "--as=nobody"],
        1,
        &["(Forbidden)", "User \"nobody\" cannot list resource \"pods\" in API group \"\" in the namespace \"{ns}\""],
    ),
    (&["create", "serviceaccount", "robot"], 0, &["serviceaccount/robot created"]),
    (&["create", "role", "reader", "--verb=get,list", "--resource=pods"], 0, &["role.rbac.authorization.k8s.io/reader created"]),
    (
        &["create", "rolebinding", "reader", "--role=reader", "--serviceaccount={ns}:robot"],
        0,
        &["rolebinding.rbac.authorization.k8s.io/reader created"],
    ),
    (&["create", "clusterrole", "{ns}", "--verb=get", "--resource=nodes"], 0, &["clusterrole.rbac.authorization.k8s.io/{ns} created"]),
    (&["auth", "can-i", "list", "pods", "--as=system:serviceaccount:{ns}:robot"], 0, &["yes"]),
    (&["auth", "can-i", "delete", "pods", "--as=system:serviceaccount:{ns}:robot"], 1, &["no"]),
    (&["auth", "can-i", "--list", "--as=system:serviceaccount:{ns}:robot"], 0, &["[get list]", "[/version]"]),
    (&["get", "pods", "--as=system:serviceaccount:{ns}:robot", "-o", "name"], 0, &["pod/single"]),
];

const CHANGE: &[Line] = &[
    (&["scale", "deployment/made", "--replicas=3"], 0, &["deployment.apps/made scaled"]),
    (&["scale", "deployment/made", "--current-replicas=9", "--replicas=1"], 1, &["Expected replicas to be 9, was 3"]),
    (&["label", "configmap", "made", "tier=front"], 0, &["configmap/made labeled"]),
    (&["label", "configmap", "made", "tier=back"], 1, &["'tier' already has a value (front), and --overwrite is false"]),
    (&["label", "configmap", "made", "tier=a b", "--overwrite"], 1, &["a valid label must be"]),
    (&["annotate", "configmap", "made", "note=this"], 0, &["configmap/made annotate"]),
    (&["patch", "configmap", "made", "-p", r#"{"data":{"s":"1"}}"#], 0, &["configmap/made patched"]),
    (&["patch", "configmap", "made", "--type=merge", "-p", r#"{"data":{"m":"1"}}"#], 0, &["configmap/made patched"]),
    (&["patch", "configmap", "made", "--type=merge", "-p", r#"{"data":{"m":"1"}}"#], 0, &["configmap/made patched (no change)"]),
    (
        &["patch", "configmap", "made", "--type=json", "-p", r#"[{"op":"add","path":"/data/j","value":"1"}]"#],
        0,
        &["configmap/made patched"],
    ),
    (&["patch", "configmap", "made", "--type=json", "-p", r#"[{"op":"test","path":"/data/j","value":"2"}]"#], 1, &["server rejected"]),
    (
        &[
            "patch",
            "deployment",
            "web",
            "-p",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"b"}]}]}}}}"#,
        ],
        0,
        &["deployment.apps/web patched"],
    ),
    (&["get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0]['image','env']}"], 0, &["a:1", "\"name\":\"A\""]),
    (&["set", "image", "deployment/made", "b=b:2"], 0, &["deployment.apps/made image updated"]),
    (&["autoscale", "deployment", "made", "--max=4", "--cpu-percent=80"], 0, &["horizontalpodautoscaler.autoscaling/made autoscaled"]),
    (&["wait", "--for=condition=Progressing", "deployment/made", "--timeout=10s"], 0, &["deployment.apps/made condition met"]),
    (&["wait", "--for=jsonpath={.spec.replicas}=3", "deployment/made", "--timeout=10s"], 0, &["deployment.apps/made condition met"]),
    (&["wait", "--for=jsonpath={.spec.replicas}=7", "deployment/made", "--timeout=1s"], 1, &["timed out waiting for the condition"]),
];

const READ: &[Line] = &[
    (&["get", "deployments", "-o", "wide"], 0, &["CONTAINERS", "IMAGES", "SELECTOR", "b:2", "app=made"]),
    (
        &["get", "configmap", "made", "-o", "json"],
        0,
        &["\"j\": \"1\"", "\"k\": \"v\"", "\"m\": \"1\"", "\"s\": \"1\"", "\"note\": \"this\""],
    ),
    (&["get", "configmap", "made", "-o", "yaml"], 0, &["kind: ConfigMap", "tier: front", "note: this"]),
    (&["get", "configmap", "made", "-o", "jsonpath={.data}"], 0, &[r#"{"j":"1","k":"v","m":"1","s":"1"}"#]),
    (
        &["get", "configmaps", "-o", "custom-columns=N:.metadata.name,T:.metadata.labels.tier"],
        0,
        &["N ", "applied", "<none>", "made", "front"],
    ),
    (&["get", "configmaps", "-o", "go-template={{range .items}}{{.metadata.name}};{{end}}"], 0, &["applied;", "made;"]),
    (&["get", "configmaps", "-l", "tier in (front),!other", "-o", "name"], 0, &["configmap/made"]),
    (&["get", "configmaps", "--field-selector=metadata.name=applied", "--no-headers"], 0, &["applied"]),
    (&["get", "configmaps", "--chunk-size=1", "--sort-by=.metadata.name", "-o", "name"], 0, &["configmap/applied\nconfigmap/"]),
    (&["get", "configmaps", "--field-selector=data.k=v"], 1, &["(BadRequest)", "field label not supported: data.k"]),
    (&["get", "all"], 0, &["service/made", "deployment.apps/web", "job.batch/once", "cronjob.batch/often", "replicaset.apps/made-"]),
    (&["get", "--raw", "/api/v1/namespaces/{ns}/configmaps/made"], 0, &["\"kind\":\"ConfigMap\""]),
    (&["describe", "deployment", "made"], 0, &["Replicas:", "3 desired", "b:2", "ScalingReplicaSet"]),
    (&["describe", "quota", "room"], 0, &["configmaps", "20", "pods", "50"]),
    (&["get", "nothing"], 1, &["the server doesn't have a resource type \"nothing\""]),
    (
        &["explain", "--recursive", "deployment.spec"],
        0,
        &["DeploymentSpec", "topologySpreadConstraints", "maxUnavailable", "<IntOrString>", "requests"],
    ),
    (&["explain", "pod.spec.containers.resources"], 0, &["limits", "<map[string]Quantity>", "Limits describes the maximum amount"]),
    (&["api-resources", "--namespaced=true", "--verbs=list", "-o", "name"], 0, &["configmaps\n", "deployments.apps\n"]),
    (&["rollout", "history", "deployment/made"], 0, &["REVISION", "2"]),
];

const CUSTOM: &[Line] = &[
    (&["apply", "-f", "{dir}/kind.yaml"], 0, &["customresourcedefinition.apiextensions.k8s.io/greetings.{ns}.example.com created"]),
    (&["wait", "--for=condition=Established", "crd/greetings.{ns}.example.com", "--timeout=10s"], 0, &["condition met"]),
    (&["apply", "-f", "{dir}/custom.yaml"], 0, &["greeting.{ns}.example.com/one created"]),
    (&["apply", "--server-side", "--field-manager=one", "--force-conflicts", "-f", "{dir}/custom.yaml"], 0, &["/one serverside-applied"]),
    (&["get", "greetings.{ns}.example.com"], 0, &["NAME", "WHO", "one", "world"]),
    (&["patch", "greetings.{ns}.example.com", "one", "--type=merge", "-p", r#"{"spec":{"who":""}}"#], 1, &["is invalid", "spec.who"]),
    (&["patch", "greetings.{ns}.example.com", "one", "--type=merge", "-p", r#"{"spec":{"who":"moon"}}"#], 0, &["/one patched"]),
    (
        &["patch", "greetings.{ns}.example.com", "one", "--subresource=status", "--type=merge", "-p", r#"{"status":{"times":1}}"#],
        0,
        &["/one patched"],
    ),
    (&["scale", "greetings.{ns}.example.com/one", "--replicas=5"], 0, &["/one scaled"]),
    (&["wait", "--for=jsonpath={.spec.times}=5", "greetings.{ns}.example.com/one", "--timeout=10s"], 0, &["condition met"]),
    (&["explain", "--recursive", "greetings.{ns}.example.com"], 0, &["who", "<string>", "times", "<integer>"]),
    (&["delete", "crd", "greetings.{ns}.example.com"], 0, &["deleted"]),
    (&["wait", "--for=delete", "crd/greetings.{ns}.example.com", "--timeout=10s"], 0, &[]),
];

const CERTIFICATES: &[Line] = &[
    (
        &["apply", "-f", "{dir}/requests.yaml"],
        0,
        &[
            "certificatesigningrequest.certificates.k8s.io/{ns}-good created",
            "certificatesigningrequest.certificates.k8s.io/{ns}-bad created",
        ],
    ),
    (&["get", "csr", "{ns}-good"], 0, &["SIGNERNAME", "REQUESTEDDURATION", "kubernetes.io/kube-apiserver-client", "60m", "Pending"]),
    (&["certificate", "approve", "{ns}-good"], 0, &["certificatesigningrequest.certificates.k8s.io/{ns}-good approved"]),
    (&["certificate", "deny", "{ns}-bad"], 0, &["certificatesigningrequest.certificates.k8s.io/{ns}-bad denied"]),
    (&["certificate", "approve", "{ns}-bad"], 1, &["certificate signing request \"{ns}-bad\" is already Denied"]),
    (&["certificate", "approve", "{ns}-none"], 1, &["(NotFound)", "\"{ns}-none\" not found"]),
    (&["wait", "--for=condition=Approved", "csr/{ns}-good", "--timeout=10s"], 0, &["condition met"]),
];

const SIGNED: &[Line] = &[
    (&["certificate", "approve", "{ns}-good"], 0, &["certificatesigningrequest.certificates.k8s.io/{ns}-good approved"]),
    (&["get", "csr", "{ns}-good", "{ns}-bad"], 0, &["Approved,Issued", "Denied"]),
    (&["get", "csr", "{ns}-bad", "-o", "jsonpath={.status.conditions[0].reason} [{.status.certificate}]"], 0, &["KubectlDeny []"]),
    (&["describe", "csr", "{ns}-good"], 0, &["Common Name:", "{ns}", "Status:", "Approved,Issued"]),
    (&["delete", "csr", "{ns}-good", "{ns}-bad"], 0, &["\"{ns}-good\" deleted", "\"{ns}-bad\" deleted"]),
];

const DELETE: &[Line] = &[
    (&["delete", "deployment", "made", "--dry-run=server"], 0, &["deployment.apps \"made\" deleted", "(server dry run)"]),
    (&["delete", "deployment", "made", "--cascade=orphan"], 0, &["deployment.apps \"made\" deleted"]),
    (&["get", "replicasets", "-l", "app=made", "-o", "name"], 0, &["replicaset.apps/made-"]),
    (&["delete", "-f", "{dir}/web.yaml"], 0, &["deployment.apps \"web\" deleted", "configmap \"applied\" deleted"]),
    (&["delete", "pod", "single", "--grace-period=0", "--force"], 0, &["Immediate deletion does not wait", "pod \"single\" force deleted"]),
    (&["delete", "configmaps", "--all"], 0, &["configmap \"made\" deleted", "configmap \"owned\" deleted"]),
    (&["delete", "priorityclass/{ns}", "clusterrole/{ns}"], 0, &["\"{ns}\" deleted"]),
    (&["delete", "configmap", "made"], 1, &["Error from server (NotFound): configmaps \"made\" not found"]),
    (&["delete", "namespace", "{ns}", "--timeout=20s"], 0, &["namespace \"{ns}\" deleted"]),
    (&["get", "namespace", "{ns}"], 1, &["(NotFound)"]),
];

#[test]
fn every_kubectl_through_every_command() {
    if let Some(reason) = missing(host::TOOLS).or_else(|| missing(&["diff", "sed"])) {
        skip!("{reason}");
    }
    let found: Vec<_> = VERSIONS.iter().filter_map(|version| Some((*version, stock(version)?))).collect();
    if found.is_empty() {
        skip!("no kubectl of {VERSIONS:?} on this machine");
    }
    let cluster = Cluster::start(&["--disable-agent"]);
    let (waiting, wrong) = (Mutex::new(found), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((version, program)) = { waiting.lock().unwrap().pop() } {
                    let found = Round::new(&cluster, version, program).all();
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} commands went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What one version does.
struct Round<'a> {
    kubectl: Kubectl<'a>,
    version: &'static str,
    namespace: String,
    /// The key that a certificate is asked for, and the request as manifests have it.
    key: rcgen::KeyPair,
    request: String,
    /// Its files and its home.
    dir: PathBuf,
    /// What went otherwise than wanted.
    wrong: RefCell<Vec<String>>,
}

impl<'a> Round<'a> {
    fn new(cluster: &'a Cluster, version: &'static str, program: PathBuf) -> Round<'a> {
        let namespace = format!("round-{}", version.replace('.', "-"));
        let dir = cluster.host.dir.join(&namespace);
        std::fs::create_dir(&dir).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut asked = rcgen::CertificateParams::new(Vec::new()).unwrap();
        asked.distinguished_name.push(rcgen::DnType::CommonName, &namespace);
        let request = STANDARD.encode(asked.serialize_request(&key).unwrap().pem().unwrap());
        let kubectl = Kubectl::stock(cluster, program);
        let round = Round { kubectl, version, namespace, key, request, dir, wrong: RefCell::default() };
        for (name, text) in FILES {
            std::fs::write(round.dir.join(name), round.filled(text)).unwrap();
        }
        round
    }

    /// The whole round; what went wrong of it.
    fn all(self) -> Vec<String> {
        step(&format!("kubectl {}", self.version));
        self.lines(&[(&["create", "namespace", "{ns}"], 0, &["namespace/{ns} created"])]);
        self.lines(APPLY);
        self.edit();
        self.lines(CREATE);
        self.lines(AUTH);
        self.token();
        self.whoami();
        self.certificates();
        self.lines(CHANGE);
        self.lines(READ);
        self.watch();
        self.wait_deleted();
        self.lines(CUSTOM);
        self.lines(DELETE);
        self.wrong.into_inner()
    }

    fn filled(&self, text: &str) -> String {
        let text = text.replace("{ns}", &self.namespace).replace("{dir}", self.dir.to_str().unwrap());
        text.replace("{request}", &self.request)
    }

    fn args(&self, args: &[&str]) -> Vec<String> {
        ["--namespace", "{ns}"].iter().chain(args).map(|arg| self.filled(arg)).collect()
    }

    fn command(&self, args: &[&str]) -> Command {
        let args = self.args(args);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.kubectl.command(&args, LIMIT);
        command.env("HOME", &self.dir);
        command
    }

    /// Runs it to the exit code that is wanted; all it printed.
    fn run(&self, mut command: Command, args: &[&str], code: i32, parts: &[&str]) -> String {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let lacking: Vec<_> = parts.iter().map(|part| self.filled(part)).filter(|part| !text.contains(part)).collect();
        let ended = output.status.code();
        if ended != Some(code) || !lacking.is_empty() {
            let what = format!("kubectl {} {args:?}: exit code {ended:?} for {code}, lacking {lacking:?}", self.version);
            self.wrong.borrow_mut().push(format!(
                "{what}:
{text}"
            ));
        }
        text
    }

    fn line(&self, args: &[&str], code: i32, parts: &[&str]) -> String {
        self.run(self.command(args), args, code, parts)
    }

    fn lines(&self, lines: &[Line]) {
        for (args, code, parts) in lines {
            self.line(args, *code, parts);
        }
    }

    fn edit(&self) {
        let edit = |editor: &str, code, parts: &[&str]| {
            let args = ["edit", "configmap", "applied"];
            let mut command = self.command(&args);
            command.env("KUBE_EDITOR", editor);
            self.run(command, &args, code, parts);
        };
        edit("true", 0, &["Edit cancelled, no changes made."]);
        edit("sed -i s/a:.*1.*/a:\\ edited/", 0, &["configmap/applied edited"]);
        self.line(&["get", "configmap", "applied", "-o", "jsonpath={.data.a}"], 0, &["edited"]);
        // What the server refuses is shown in the editor again; one that changes nothing more then ends it.
        edit("sed -i s/name:.applied/name:\\ other/", 1, &["At least one of apiVersion, kind and name was changed"]);
    }

    fn token(&self) {
        let token = self.line(&["create", "token", "robot", "--duration=1h", "--audience=someone"], 0, &[]);
        assert_eq!(token.trim().split('.').count(), 3, "a signed token: {token}");
        let plain = self.line(&["create", "token", "robot"], 0, &[]);
        let bearer = format!("--token={}", plain.trim());
        // The certificate of the kubeconfig would win over the token, so a user without one is asked for.
        let server = self.line(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"], 0, &["https://"]);
        let args = ["--kubeconfig=/dev/null", "--server", &server, "--insecure-skip-tls-verify", &bearer, "auth", "can-i", "list", "pods"];
        self.line(&args, 0, &["yes"]);
    }

    fn whoami(&self) {
        // 1.27 asks only for the beta versions, which no server of today has.
        let (code, part) = if self.version == "1.27" { (1, "selfsubjectreviews API is not enabled") } else { (0, "system:masters") };
        self.line(&["auth", "whoami"], code, &[part]);
    }

    /// What is signed after the approval is for the key and the name of the request.
    fn certificates(&self) {
        self.lines(CERTIFICATES);
        let path = ["get", "csr", "{ns}-good", "-o", "jsonpath={.status.certificate}"];
        let signed = eventually(LIMIT, "a certificate is issued", || {
            let output = self.command(&path).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.is_empty() { Err(String::from_utf8_lossy(&output.stderr).into_owned()) } else { Ok(text) }
        });
        let pem = STANDARD.decode(signed.trim()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject().to_string(), format!("CN={}", self.namespace));
        assert_eq!(certificate.public_key().subject_public_key.data, self.key.public_key_raw(), "the request's key");
        self.lines(SIGNED);
    }

    fn watch(&self) {
        let args = self.args(&["get", "configmaps", "--watch", "--output-watch-events", "--no-headers"]);
        let watch = self.kubectl.background(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let seen = |event: &str| {
            watch.until(|text| text.lines().any(|line| line.starts_with(event) && line.contains("seen")).then_some(()));
        };
        watch.until(|text| text.contains("applied").then_some(()));
        self.line(&["create", "configmap", "seen"], 0, &[]);
        seen("ADDED");
        self.line(&["label", "configmap", "seen", "a=b"], 0, &[]);
        seen("MODIFIED");
        self.line(&["delete", "configmap", "seen"], 0, &[]);
        seen("DELETED");
    }

    fn wait_deleted(&self) {
        self.line(&["create", "configmap", "held"], 0, &[]);
        self.line(&["patch", "configmap", "held", "-p", r#"{"metadata":{"finalizers":["example.com/held"]}}"#], 0, &[]);
        self.line(&["delete", "configmap", "held", "--wait=false"], 0, &["deleted"]);
        self.line(
            &["wait", "--for=delete", "configmap/held", "--timeout=1s"],
            1,
            &["timed out waiting for the condition on configmaps/held"],
        );
        let args = self.args(&["wait", "--for=delete", "configmap/held", "--timeout=20s"]);
        let wait = self.kubectl.background(&args.iter().map(String::as_str).collect::<Vec<_>>());
        self.line(&["patch", "configmap", "held", "--type=json", "-p", r#"[{"op":"remove","path":"/metadata/finalizers"}]"#], 0, &[]);
        wait.until(|text| (text.contains("condition met") || text.is_empty()).then_some(()));
        self.line(&["get", "configmap", "held"], 1, &["(NotFound)"]);
    }
}
