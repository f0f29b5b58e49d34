//! Tables over all kinds: completeness, defaults, rules, rows.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::*;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde_json::json;

use super::support::testing::*;
use super::{KINDS, autoscaling as hpa, event, resource};
use crate::api::Object;
use crate::server::registry::strategy::Strategy;

const POD: &str = "{metadata: {name: a, namespace: d}, spec: {containers: [{name: c, image: i}]}}";
const DEPLOYMENT: &str = "{metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, \
     spec: {containers: [{name: c, image: 'r/i:1'}]}}}}";

/// Every stable and beta kind of the API, as `group/version resources...`.
const EXPECTED: &[(&str, &str)] = &[
    (
        "/v1",
        "componentstatuses configmaps endpoints events limitranges namespaces nodes persistentvolumeclaims persistentvolumes pods \
             podtemplates replicationcontrollers resourcequotas secrets serviceaccounts services",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations \
             validatingadmissionpolicies validatingadmissionpolicybindings validatingwebhookconfigurations",
    ),
    ("admissionregistration.k8s.io/v1beta1", "mutatingadmissionpolicies mutatingadmissionpolicybindings"),
    ("apiextensions.k8s.io/v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io/v1", "apiservices"),
    ("apps/v1", "controllerrevisions daemonsets deployments replicasets statefulsets"),
    ("authentication.k8s.io/v1", "selfsubjectreviews tokenreviews"),
    ("authorization.k8s.io/v1", "localsubjectaccessreviews selfsubjectaccessreviews selfsubjectrulesreviews subjectaccessreviews"),
    ("autoscaling/v1", "horizontalpodautoscalers"),
    ("autoscaling/v2", "horizontalpodautoscalers"),
    ("batch/v1", "cronjobs jobs"),
    ("certificates.k8s.io/v1", "certificatesigningrequests clustertrustbundles podcertificaterequests"),
    ("certificates.k8s.io/v1beta1", "clustertrustbundles podcertificaterequests"),
    ("coordination.k8s.io/v1", "leases"),
    ("coordination.k8s.io/v1beta1", "leasecandidates"),
    ("discovery.k8s.io/v1", "endpointslices"),
    ("events.k8s.io/v1", "events"),
    ("flowcontrol.apiserver.k8s.io/v1", "flowschemas prioritylevelconfigurations"),
    ("networking.k8s.io/v1", "ingressclasses ingresses ipaddresses networkpolicies servicecidrs"),
    ("node.k8s.io/v1", "runtimeclasses"),
    ("policy/v1", "poddisruptionbudgets"),
    ("rbac.authorization.k8s.io/v1", "clusterrolebindings clusterroles rolebindings roles"),
    ("resource.k8s.io/v1", "deviceclasses devicetaintrules resourceclaims resourceclaimtemplates resourceslices"),
    ("resource.k8s.io/v1beta1", "deviceclasses resourceclaims resourceclaimtemplates resourceslices"),
    ("resource.k8s.io/v1beta2", "deviceclasses devicetaintrules resourceclaims resourceclaimtemplates resourceslices"),
    ("scheduling.k8s.io/v1", "priorityclasses"),
    ("scheduling.k8s.io/v1beta1", "podgroups workloads"),
    ("storage.k8s.io/v1", "csidrivers csinodes csistoragecapacities storageclasses volumeattachments volumeattributesclasses"),
    ("storagemigration.k8s.io/v1", "storageversionmigrations"),
    ("storagemigration.k8s.io/v1beta1", "storageversionmigrations"),
];

#[test]
fn every_kind_is_there_once() {
    let mut found: Vec<String> = KINDS.iter().map(|kind| format!("{}/{} {}", kind.group(), kind.version(), kind.resource())).collect();
    let mut wanted: Vec<String> =
        EXPECTED.iter().flat_map(|(gv, names)| names.split_whitespace().map(move |name| format!("{gv} {name}"))).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    for kind in KINDS.iter() {
        assert!(!kind.info.singular.is_empty(), "{}", kind.resource());
        assert_eq!(kind.info.singular, kind.kind().to_lowercase(), "{}", kind.resource());
    }
}

#[test]
fn defaults() {
    fn check<T: Strategy>(yaml: &str, pointer: &str, wanted: serde_json::Value) {
        assert_eq!(defaulted::<T>(yaml, pointer), wanted, "{pointer} of {yaml}");
    }
    for (field, wanted) in [
        ("dnsPolicy", json!("ClusterFirst")),
        ("restartPolicy", json!("Always")),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
        ("containers/0/imagePullPolicy", json!("Always")),
        ("containers/0/terminationMessagePath", json!("/dev/termination-log")),
        ("containers/0/terminationMessagePolicy", json!("File")),
        ("containers/0/resources", json!({})),
    ] {
        check::<Pod>(POD, &format!("/spec/{field}"), wanted);
    }
    for (image, policy) in
        [("a", "Always"), ("a:latest", "Always"), ("r:5000/a", "Always"), ("a:1", "IfNotPresent"), ("a@sha256:0", "IfNotPresent")]
    {
        check::<Pod>(
            &format!("{{metadata: {{name: a}}, spec: {{containers: [{{name: c, image: '{image}'}}]}}}}"),
            "/spec/containers/0/imagePullPolicy",
            json!(policy),
        );
    }
    let full = "{metadata: {name: a}, spec: {hostNetwork: true, volumes: [{name: v}, {name: s, secret: {secretName: x}}], containers: [{name: c, image: i, \
         ports: [{containerPort: 80}], resources: {limits: {cpu: 1}}, livenessProbe: {httpGet: {port: 80}}}]}}";
    check::<Pod>(full, "/spec/containers/0/ports/0", json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}));
    check::<Pod>(full, "/spec/containers/0/resources/requests", json!({"cpu": "1"}));
    check::<Pod>(full, "/spec/containers/0/livenessProbe/periodSeconds", json!(10));
    check::<Pod>(full, "/spec/containers/0/livenessProbe/httpGet", json!({"path": "/", "port": 80, "scheme": "HTTP"}));
    check::<Pod>(full, "/spec/volumes/0/emptyDir", json!({}));
    check::<Pod>(full, "/spec/volumes/1/secret/defaultMode", json!(420));
    check::<Deployment>(DEPLOYMENT, "/spec/replicas", json!(1));
    check::<Deployment>(
        DEPLOYMENT,
        "/spec/strategy",
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
    );
    check::<Deployment>(DEPLOYMENT, "/spec/template/spec/enableServiceLinks", json!(null));
    check::<DaemonSet>(DEPLOYMENT, "/spec/updateStrategy/rollingUpdate", json!({"maxSurge": 0, "maxUnavailable": 1}));
    check::<StatefulSet>(DEPLOYMENT, "/spec/podManagementPolicy", json!("OrderedReady"));
    check::<Service>("{spec: {ports: [{port: 80}]}}", "/spec/ports/0", json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
    check::<Service>("{spec: {ports: [{port: 80}]}}", "/spec/type", json!("ClusterIP"));
    check::<Service>("{spec: {type: NodePort}}", "/spec/externalTrafficPolicy", json!("Cluster"));
    check::<Secret>("{stringData: {a: b}}", "/data", json!({"a": "Yg=="}));
    check::<Secret>("{}", "/type", json!("Opaque"));
    check::<Namespace>("{metadata: {name: n}}", "/metadata/labels", json!({"kubernetes.io/metadata.name": "n"}));
    check::<RoleBinding>(
        "{roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}]}",
        "/subjects/0/apiGroup",
        json!("rbac.authorization.k8s.io"),
    );
    check::<Job>("{spec: {template: {}}}", "/spec/backoffLimit", json!(6));
    check::<CronJob>("{spec: {}}", "/spec/concurrencyPolicy", json!("Allow"));
    check::<autoscaling::v2::HorizontalPodAutoscaler>("{spec: {}}", "/spec/metrics/0/resource/target/averageUtilization", json!(80));
}

#[test]
fn rules_of_creation() {
    fn check<T: Strategy>(yaml: &str, wanted: &[&str]) {
        assert_eq!(errors::<T>(yaml), wanted, "{yaml}");
    }
    let pod =
        |container: &str, rest: &str| format!("{{metadata: {{name: a}}, spec: {{containers: [{{name: c, image: i{container}}}]{rest}}}}}");
    check::<Pod>(POD, &[]);
    check::<Pod>("{spec: {}}", &["spec.containers: Required value"]);
    check::<Pod>("{spec: {containers: [{}]}}", &["spec.containers[0].name: Required value", "spec.containers[0].image: Required value"]);
    check::<Pod>("{spec: {containers: [{name: c, image: i}, {name: c, image: i}]}}", &["spec.containers[1].name: Duplicate value: \"c\""]);
    check::<Pod>(&pod(", volumeMounts: [{name: v, mountPath: /v}]", ""), &["spec.containers[0].volumeMounts[0].name: Not found: \"v\""]);
    check::<Pod>(
        &pod(", ports: [{containerPort: 70000}]", ""),
        &["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
    );
    check::<Pod>(
        &pod(", resources: {requests: {cpu: 2}, limits: {cpu: 1}}", ""),
        &["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
    );
    check::<Pod>(&pod(", livenessProbe: {}", ""), &["spec.containers[0].livenessProbe: Required value: must specify a handler type"]);
    check::<Pod>(
        &pod(", livenessProbe: {exec: {command: [a]}, successThreshold: 2}", ""),
        &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
    );
    check::<Pod>(&pod(", env: [{name: '', value: x}]", ""), &["spec.containers[0].env[0].name: Required value"]);
    check::<Pod>(
        &pod(", imagePullPolicy: Often", ""),
        &["spec.containers[0].imagePullPolicy: Unsupported value: \"Often\": supported values: \"Always\", \"IfNotPresent\", \"Never\""],
    );
    check::<Pod>(
        &pod("", ", restartPolicy: Maybe"),
        &["spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"Never\", \"OnFailure\""],
    );
    check::<Pod>(&pod("", ", volumes: [{name: v}, {name: v}]"), &["spec.volumes[1].name: Duplicate value: \"v\""]);
    check::<Pod>(
        &pod("", ", volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}]"),
        &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
    );
    check::<Pod>(
        &pod("", ", tolerations: [{operator: Equal}]"),
        &[
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ],
    );
    check::<Deployment>(DEPLOYMENT, &[]);
    check::<Deployment>(
        "{spec: {selector: {matchLabels: {a: c}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}",
        &["spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`"],
    );
    check::<Service>("{spec: {}}", &["spec.ports: Required value"]);
    check::<Service>("{spec: {clusterIP: None}}", &[]);
    check::<Service>("{spec: {ports: [{port: 1}, {port: 2, name: b}]}}", &["spec.ports[0].name: Required value"]);
    check::<Service>(
        "{spec: {type: X, ports: [{port: 1}]}}",
        &["spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""],
    );
    check::<Secret>("{type: kubernetes.io/tls}", &["data[tls.crt]: Required value", "data[tls.key]: Required value"]);
    check::<Role>(
        "{rules: [{apiGroups: ['']}]}",
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ],
    );
    check::<Job>(
        "{metadata: {name: j, uid: u}, spec: {template: {spec: {containers: [{name: c, image: i}]}}}}",
        &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
    );
    let cron = |schedule: &str| {
        format!(
            "{{spec: {{schedule: '{schedule}', jobTemplate: {{spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}}}}}"
        )
    };
    for good in ["* * * * *", "*/5 0-6 1,15 jan-mar mon", "@hourly", "@every 1h"] {
        check::<CronJob>(&cron(good), &[]);
    }
    check::<CronJob>(&cron("* * * *"), &["spec.schedule: Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]"]);
    check::<CronJob>(&cron("61 * * * *"), &["spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61"]);
    check::<Ingress>(
        "{spec: {rules: [{http: {paths: [{path: a, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}}]}}",
        &["spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path"],
    );
    check::<PersistentVolumeClaim>(
        "{spec: {}}",
        &["spec.accessModes: Required value: at least 1 access mode is required", "spec.resources[storage]: Required value"],
    );
}

/// A suspended job whose pods are gone may change what its next pods get and where they go, and nothing else of its template.
#[test]
fn templates_of_suspended_jobs() {
    let job = |suspend: bool, status: &str, more: &str, container: &str| {
        format!(
            "{{metadata: {{name: j, uid: u}}, spec: {{suspend: {suspend}, selector: {{matchLabels: {{a: b}}}}, manualSelector: true,
               template: {{metadata: {{labels: {{a: b}}}}, spec: {{restartPolicy: Never, containers: [{{name: c, image: i{container}}}]{more}}}}}}},
               status: {{{status}}}}}"
        )
    };
    let started = "startTime: '2026-01-01T00:00:00Z'";
    let resources = ", resources: {limits: {cpu: '1'}}";
    let affinity = |kind: &str| {
        format!(
            ", affinity: {{{kind}: {{requiredDuringSchedulingIgnoredDuringExecution: {}}}}}",
            match kind {
                "nodeAffinity" => "{nodeSelectorTerms: [{matchExpressions: [{key: k, operator: Exists}]}]}",
                _ => "[{topologyKey: zone, labelSelector: {}}]",
            }
        )
    };
    for (suspend, status, more, container, allowed) in [
        (true, "", "", resources, true),
        (true, started, ", nodeSelector: {d: e}", resources, true),
        (true, &format!("{started}, active: 1"), "", resources, false),
        (false, "", "", resources, false),
        (true, "", &affinity("nodeAffinity"), "", true),
        (true, "", &affinity("podAffinity"), "", false),
        (true, "", "", ", command: [x]", false),
        (true, "", ", hostNetwork: true", "", false),
    ] {
        let found = update_errors::<Job>(&job(suspend, status, "", ""), &job(suspend, status, more, container));
        let immutable = found.iter().any(|error| error.starts_with("spec.template: ") && error.ends_with("field is immutable"));
        assert_eq!((found.is_empty(), immutable), (allowed, !allowed), "{suspend} {status} {more} {container}: {found:?}");
    }
}

#[test]
fn rules_of_updates() {
    fn check<T: Strategy>(old: &str, new: &str, wanted: &[&str]) {
        let found = update_errors::<T>(old, new);
        assert_eq!(found.len(), wanted.len(), "{found:?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.starts_with(wanted), "{found}");
        }
    }
    let pod = |image: &str, rest: &str| format!("{{spec: {{containers: [{{name: c, image: {image}, imagePullPolicy: Always}}]{rest}}}}}");
    check::<Pod>(&pod("a", ""), &pod("b", ""), &[]);
    check::<Pod>(&pod("a", ""), &pod("a", ", hostname: h"), &["spec: Forbidden: pod updates may not change fields other than"]);
    check::<Pod>(&pod("a", ""), &pod("a", ", tolerations: [{operator: Exists}]"), &[]);
    check::<Pod>(&pod("a", ""), &pod("a", ", nodeName: n"), &[]);
    check::<Pod>(&pod("a", ", nodeName: n"), &pod("a", ", nodeName: m"), &["spec: Forbidden: pod updates"]);
    check::<Pod>(&pod("a", ", tolerations: [{operator: Exists}]"), &pod("a", ""), &["spec.tolerations: Forbidden: existing toleration"]);
    check::<Pod>(
        &pod("a", ""),
        "{spec: {containers: [{name: c, image: a}, {name: d, image: a}]}}",
        &["spec.containers: Forbidden: pod updates may not add or remove"],
    );
    check::<Deployment>(
        DEPLOYMENT,
        &DEPLOYMENT.replace("a: b", "a: c"),
        &["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"c\"}}: field is immutable"],
    );
    check::<ConfigMap>(
        "{immutable: true, data: {a: b}}",
        "{immutable: true, data: {a: c}}",
        &["data: Forbidden: field is immutable when `immutable` is set"],
    );
    check::<RoleBinding>("{roleRef: {kind: Role, name: r}}", "{roleRef: {kind: Role, name: s}}", &["roleRef: Invalid value"]);
    check::<Service>(
        "{spec: {clusterIP: 10.0.0.1, ports: [{port: 1}]}}",
        "{spec: {clusterIP: 10.0.0.2, ports: [{port: 1}]}}",
        &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
    );
}

#[test]
fn rows() {
    fn check<T: Strategy>(yaml: &str, wide: bool, wanted: &[&str]) {
        assert_eq!(row::<T>(yaml, wide), wanted, "{yaml}");
    }
    let pod = |status: &str| {
        format!(
            "{{metadata: {{creationTimestamp: '2026-01-01T00:00:00Z'}}, spec: {{nodeName: n, containers: [{{name: c, image: i}}]}}, status: {status}}}"
        )
    };
    check::<Pod>(&pod("{phase: Pending}"), false, &["0/1", "Pending", "0", "24h"]);
    check::<Pod>(
        &pod("{phase: Pending, containerStatuses: [{name: c, state: {waiting: {reason: ImagePullBackOff}}}]}"),
        false,
        &["0/1", "ImagePullBackOff", "0", "24h"],
    );
    check::<Pod>(
        &pod(
            "{phase: Running, podIP: 10.0.0.9, podIPs: [{ip: 10.0.0.9}], containerStatuses: [{name: c, ready: true, restartCount: 3, state: {running: {}}, \
              lastState: {terminated: {exitCode: 1, finishedAt: '2026-01-01T23:55:00Z'}}}]}",
        ),
        true,
        &["1/1", "Running", "3 (5m ago)", "24h", "10.0.0.9", "n", "<none>", "<none>"],
    );
    check::<Pod>(
        &pod("{phase: Succeeded, containerStatuses: [{name: c, state: {terminated: {exitCode: 0, reason: Completed}}}]}"),
        false,
        &["0/1", "Completed", "0", "24h"],
    );
    check::<Pod>(
        &pod("{phase: Running, containerStatuses: [{name: c, state: {terminated: {exitCode: 2}}}]}"),
        false,
        &["0/1", "ExitCode:2", "0", "24h"],
    );
    check::<Pod>(
        "{metadata: {}, spec: {initContainers: [{name: i}, {name: j}], containers: [{name: c}]}, status: {phase: Pending, initContainerStatuses: [\
          {name: i, state: {terminated: {exitCode: 0}}}, {name: j, state: {running: {}}}]}}",
        false,
        &["0/1", "Init:1/2", "0", "<unknown>"],
    );
    check::<Deployment>(
        "{spec: {replicas: 3, selector: {matchLabels: {a: b}}, template: {spec: {containers: [{name: c, image: i}]}}}, status: {readyReplicas: 2, updatedReplicas: 3, availableReplicas: 1}}",
        true,
        &["2/3", "3", "1", "<unknown>", "c", "i", "a=b"],
    );
    check::<ReplicaSet>("{spec: {replicas: 2}, status: {replicas: 1}}", false, &["2", "1", "0", "<unknown>"]);
    check::<Service>(
        "{spec: {type: NodePort, clusterIP: 10.0.0.1, ports: [{port: 80, nodePort: 30080, protocol: TCP}], selector: {a: b}}}",
        true,
        &["NodePort", "10.0.0.1", "<none>", "80:30080/TCP", "<unknown>", "a=b"],
    );
    check::<Service>("{spec: {type: LoadBalancer}}", false, &["LoadBalancer", "<none>", "<pending>", "<none>", "<unknown>"]);
    check::<Node>(
        "{metadata: {labels: {node-role.kubernetes.io/control-plane: ''}}, spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: 'True'}], nodeInfo: {kubeletVersion: v1}}}",
        false,
        &["Ready,SchedulingDisabled", "control-plane", "<unknown>", "v1"],
    );
    check::<Job>(
        "{spec: {completions: 2, template: {}}, status: {succeeded: 1, startTime: '2026-01-01T23:59:00Z'}}",
        false,
        &["Running", "1/2", "60s", "<unknown>"],
    );
    check::<Endpoints>(
        "{subsets: [{addresses: [{ip: 1.1.1.1}, {ip: 1.1.1.2}], ports: [{port: 1}, {port: 2}]}]}",
        false,
        &["1.1.1.1:1,1.1.1.2:1,1.1.1.1:2 + 1 more...", "<unknown>"],
    );
    check::<Event>(
        "{involvedObject: {kind: Pod, name: p}, type: Normal, reason: R, message: ' m ', lastTimestamp: '2026-01-01T23:59:30Z'}",
        false,
        &["30s", "Normal", "R", "pod/p", "m"],
    );
}

#[test]
fn pods_begin_pending_and_end_gracefully() {
    for (resources, class) in [
        ("", "BestEffort"),
        (", resources: {requests: {cpu: 1}}", "Burstable"),
        (", resources: {limits: {cpu: 1, memory: 1Gi}}", "Guaranteed"),
    ] {
        let mut pod: Pod = object(&format!("{{spec: {{containers: [{{name: c, image: i{resources}}}]}}}}"));
        pod.prepare_create();
        let status = pod.status.as_ref().expect("a pod begins with a status");
        assert_eq!((status.phase.as_deref(), status.qos_class.as_deref()), (Some("Pending"), Some(class)));
        assert_eq!(pod.grace(None), Some(0), "not bound");
    }
    let bound: Pod = object("{spec: {nodeName: n, terminationGracePeriodSeconds: 5, containers: []}}");
    assert_eq!((bound.grace(None), bound.grace(Some(0)), bound.grace(Some(7))), (Some(5), Some(0), Some(7)));
    let done: Pod = object("{spec: {nodeName: n, containers: []}, status: {phase: Failed}}");
    assert_eq!(done.grace(None), Some(0));
}

#[test]
fn creation_completes_objects() {
    fn check<T: Strategy>(yaml: &str, pointer: &str, wanted: serde_json::Value) {
        assert_eq!(created::<T>(yaml).to_value().pointer(pointer), Some(&wanted), "{pointer} of {yaml}");
    }
    let uid = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}});
    check::<Job>("{metadata: {name: j, uid: u}, spec: {template: {spec: {restartPolicy: Never}}}}", "/spec/selector", uid);
    check::<Namespace>("{metadata: {name: n}}", "/spec/finalizers", json!(["kubernetes"]));
    check::<Namespace>("{metadata: {name: n}}", "/status/phase", json!("Active"));
    check::<Deployment>("{status: {replicas: 3}}", "/status", json!({}));
    check::<PersistentVolumeClaim>("{status: {phase: Bound}}", "/status/phase", json!("Pending"));
}

#[test]
fn namespaces_lose_finalizers_only_at_their_end() {
    let table = [("", "[]", json!(["kubernetes"])), (", deletionTimestamp: '2026-01-01T00:00:00Z'", "[]", json!([]))];
    for (meta, finalizers, wanted) in table {
        let old: Namespace = created(&format!("{{metadata: {{name: n{meta}}}}}"));
        let mut new: Namespace = object(&format!("{{metadata: {{name: n}}, spec: {{finalizers: {finalizers}}}}}"));
        new.prepare_update(&old);
        assert_eq!(new.to_value()["spec"]["finalizers"], wanted);
    }
}

#[test]
fn conversions_go_both_ways() {
    type Convert = fn(serde_json::Value) -> serde_json::Value;
    fn check(served: serde_json::Value, stored: serde_json::Value, to: Convert, from: Convert) {
        assert_eq!(to(served.clone()), stored);
        assert_eq!(from(stored), served);
    }
    check(
        json!({"spec": {"maxReplicas": 2, "targetCPUUtilizationPercentage": 50}}),
        json!({"spec": {"maxReplicas": 2, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}}),
        hpa::to_v2,
        hpa::from_v2,
    );
    check(
        json!({"note": "n", "regarding": {"kind": "Pod"}}),
        json!({"message": "n", "involvedObject": {"kind": "Pod"}}),
        event::to_core,
        event::from_core,
    );
    check(
        json!({"spec": {"devices": {"requests": [{"name": "r", "deviceClassName": "c"}]}}}),
        json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}}),
        resource::claim_to_v1,
        resource::claim_from_v1,
    );
    check(
        json!({"spec": {"devices": [{"name": "d", "basic": {"allNodes": true}}]}}),
        json!({"spec": {"devices": [{"name": "d", "allNodes": true}]}}),
        resource::slice_to_v1,
        resource::slice_from_v1,
    );
}
