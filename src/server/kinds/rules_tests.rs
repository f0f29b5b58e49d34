//! Rules of policies, routes, roles, classes, leases, events and jobs, held against upstream's: for each rule an object that keeps it
//! and one that breaks it.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, StorageClass, VolumeAttachment, VolumeAttributesClass};

use super::KINDS;
use super::support::testing::{errors, object, update_errors};
use crate::server::registry::strategy::Strategy;

/// What follows the fields that all rows of a table have, and the violated rules; none: it is accepted.
type Row<'a> = (&'a str, &'a [&'a str]);

fn check<T: Strategy>(whole: impl Fn(&str) -> String, table: &[Row]) {
    let wrong: Vec<String> = table
        .iter()
        .map(|(part, want)| (part, errors::<T>(&whole(part)), want))
        .filter(|(_, found, want)| found != *want)
        .map(|(part, found, want)| format!("{part}\n  found {found:#?}\n  for   {want:#?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn whole(text: &str) -> String {
    text.to_owned()
}

fn changed<T: Strategy>(table: &[(&str, &str, &[&str])]) {
    for (old, new, want) in table {
        assert_eq!(update_errors::<T>(old, new), *want, "{old} to {new}");
    }
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and \
     end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
     character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

#[test]
fn network_policies() {
    let rule = |part: &str| format!("{{spec: {{podSelector: {{}}, ingress: [{{{part}}}]}}}}");
    let port = "spec.ingress[0].ports[0]";
    let from = "spec.ingress[0].from[0]";
    check::<NetworkPolicy>(
        rule,
        &[
            ("ports: [{port: 80, endPort: 90, protocol: SCTP}], from: [{podSelector: {}, namespaceSelector: {}}]", &[]),
            ("ports: [{port: http}, {}]", &[]),
            ("from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]", &[]),
            (
                "ports: [{protocol: ICMP}]",
                &[&format!("{port}.protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"")],
            ),
            ("ports: [{port: 90, endPort: 80}]", &[&format!("{port}.endPort: Invalid value: 80: must be greater than or equal to `port`")]),
            (
                "ports: [{port: http, endPort: 80}]",
                &[&format!("{port}.endPort: Invalid value: 80: may not be specified when `port` is non-numeric")],
            ),
            ("ports: [{endPort: 80}]", &[&format!("{port}.endPort: Invalid value: 80: may not be specified when `port` is not specified")]),
            ("ports: [{port: 0}]", &[&format!("{port}.port: Invalid value: 0: must be between 1 and 65535, inclusive")]),
            ("from: [{}]", &[&format!("{from}: Required value: must specify a peer")]),
            ("from: [{ipBlock: {cidr: ''}}]", &[&format!("{from}.ipBlock.cidr: Required value")]),
            (
                "from: [{podSelector: {}, ipBlock: {cidr: x}}]",
                &[
                    &format!("{from}.ipBlock.cidr: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
                    &format!("{from}: Forbidden: may not specify both ipBlock and another peer"),
                ],
            ),
            (
                "from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8, 11.0.0.0/16]}}]",
                &[
                    &format!("{from}.ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`"),
                    &format!("{from}.ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"),
                ],
            ),
        ],
    );
    check::<NetworkPolicy>(
        |types| format!("{{spec: {{podSelector: {{}}, policyTypes: {types}}}}}"),
        &[
            ("[Ingress, Egress]", &[]),
            ("[Both]", &["spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\""]),
            (
                "[Ingress, Egress, Both]",
                &["spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Both\"]: may not specify more than two policyTypes"],
            ),
        ],
    );
}

#[test]
fn ingresses() {
    let backend = "{service: {name: s, port: {number: 80}}}";
    check::<Ingress>(
        |part| format!("{{metadata: {{annotations: {{kubernetes.io/ingress.class: c}}}}, spec: {{defaultBackend: {backend}{part}}}}}"),
        &[
            (", ingressClassName: c, tls: [{hosts: ['*.a.b', c.d], secretName: s}]", &[]),
            (
                ", ingressClassName: d",
                &["annotations.kubernetes.io/ingress.class: Invalid value: \"c\": must match `ingressClassName` when both are specified"],
            ),
            (", tls: [{secretName: S}]", &[&format!("spec.tls[0].secretName: Invalid value: \"S\": {SUBDOMAIN}")]),
            (", rules: [{host: 10.0.0.1}]", &["spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"]),
        ],
    );
    check::<Ingress>(
        |part| format!("{{spec: {{defaultBackend: {part}}}}}"),
        &[
            ("{resource: {apiGroup: a.b, kind: K, name: n}}", &[]),
            ("{}", &["spec.defaultBackend: Invalid value: \"\": resource or service backend is required"]),
            (
                "{resource: {apiGroup: A, kind: K/L, name: ''}}",
                &[
                    &format!("spec.defaultBackend.resource.apiGroup: Invalid value: \"A\": {SUBDOMAIN}"),
                    "spec.defaultBackend.resource.kind: Invalid value: \"K/L\": may not contain '/'",
                    "spec.defaultBackend.resource.name: Required value",
                ],
            ),
            ("{service: {name: s}}", &["spec.defaultBackend: Required value: port name or number is required"]),
            (
                "{service: {name: s, port: {name: a, number: 1}}}",
                &["spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number"],
            ),
            (
                "{service: {name: s, port: {number: 1}}, resource: {kind: K, name: n}}",
                &["spec.defaultBackend: Invalid value: \"\": cannot set both resource and service backends"],
            ),
        ],
    );
    let path = |part: &str| format!("{{spec: {{rules: [{{http: {{paths: [{{backend: {backend}{part}}}]}}}}]}}}}");
    check::<Ingress>(
        path,
        &[
            (", pathType: Prefix, path: /a", &[]),
            (", pathType: ImplementationSpecific", &[]),
            ("", &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"]),
            (
                ", pathType: Exact, path: /a//b/..",
                &[
                    "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b/..\": must not contain '//'",
                    "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b/..\": cannot end with '/..'",
                ],
            ),
        ],
    );
    // A wrong name that is stored may stay, and an annotation is compared at creation only.
    let stored = |class: &str| {
        let meta = "{annotations: {kubernetes.io/ingress.class: c}}";
        format!("{{metadata: {meta}, spec: {{ingressClassName: {class}, defaultBackend: {backend}, tls: [{{secretName: S}}]}}}}")
    };
    changed::<Ingress>(&[(&stored("c"), &stored("d"), &[])]);
    let status = |point: &str| {
        let now = object::<Ingress>(&format!("{{status: {{loadBalancer: {{ingress: [{point}]}}}}}}"));
        now.validate_status(&Ingress::default()).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(status("{ip: 10.0.0.1, hostname: a.b}"), [""; 0]);
    let wrong = status("{ip: x, hostname: 10.0.0.1}");
    assert!(
        wrong.len() == 2 && wrong[0].starts_with("status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP"),
        "{wrong:?}"
    );
    assert_eq!(wrong[1], "status.loadBalancer.ingress[0].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address");
}

#[test]
fn ingress_classes() {
    let long = format!("{{controller: a.b/{}}}", "x".repeat(247));
    check::<IngressClass>(
        |spec| format!("{{metadata: {{name: c}}, spec: {spec}}}"),
        &[
            ("{controller: a.b/c}", &[]),
            ("{controller: a.b/c, parameters: {apiGroup: a.b, kind: K, name: n, scope: Namespace, namespace: n}}", &[]),
            ("{controller: a.b/c, parameters: {kind: K, name: n}}", &[]),
            ("{controller: ''}", &["spec.controller: Required value"]),
            ("{controller: a.b}", &["spec.controller: Invalid value: \"a.b\": must be a domain-prefixed path (such as \"acme.io/foo\")"]),
            ("{controller: A/b}", &[&format!("spec.controller: Invalid value: \"A\": {SUBDOMAIN}")]),
            (
                "{controller: 'a/b c'}",
                &[
                    "spec.controller: Invalid value: \"b c\": Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
                ],
            ),
            (&long, &["spec.controller: Too long: may not be more than 250 bytes"]),
            (
                "{controller: a/b, parameters: {kind: '', name: '..', scope: All}}",
                &[
                    "spec.parameters.kind: Required value",
                    "spec.parameters.name: Invalid value: \"..\": may not be '..'",
                    "spec.parameters.scope: Unsupported value: \"All\": supported values: \"Cluster\", \"Namespace\"",
                ],
            ),
            (
                "{controller: a/b, parameters: {kind: K, name: n, scope: Namespace}}",
                &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
            ),
            (
                "{controller: a/b, parameters: {kind: K, name: n, namespace: n}}",
                &["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
            ),
        ],
    );
    changed::<IngressClass>(&[(
        "{spec: {controller: a/b}}",
        "{spec: {controller: a/c}}",
        &["spec.controller: Invalid value: \"a/c\": field is immutable"],
    )]);
}

#[test]
fn roles_and_bindings() {
    check::<Role>(
        |rule| format!("{{rules: [{rule}]}}"),
        &[
            ("{verbs: [get], apiGroups: [''], resources: [pods], resourceNames: [a]}", &[]),
            (
                "{verbs: []}",
                &[
                    "rules[0].verbs: Required value: verbs must contain at least one value",
                    "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                    "rules[0].resources: Required value: resource rules must supply at least one resource",
                ],
            ),
            (
                "{verbs: [get], nonResourceURLs: [/x]}",
                &["rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"],
            ),
        ],
    );
    check::<ClusterRole>(
        whole,
        &[
            ("{rules: [{verbs: [get], nonResourceURLs: [/x]}], aggregationRule: {clusterRoleSelectors: [{}]}}", &[]),
            (
                "{rules: [{verbs: [get], nonResourceURLs: [/x], resources: [pods]}]}",
                &["rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs"],
            ),
            (
                "{aggregationRule: {}}",
                &[
                    "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
                ],
            ),
        ],
    );
    let group = "rbac.authorization.k8s.io";
    check::<RoleBinding>(
        |part| format!("{{roleRef: {{kind: Role, name: r}}, {part}}}"),
        &[
            ("subjects: [{kind: User, name: u}, {kind: Group, name: g}, {kind: ServiceAccount, name: s}]", &[]),
            ("roleRef: {kind: ClusterRole, name: r}", &[]),
            (
                "roleRef: {kind: Rule, name: ''}",
                &["roleRef.kind: Unsupported value: \"Rule\": supported values: \"Role\", \"ClusterRole\"", "roleRef.name: Required value"],
            ),
            (
                "roleRef: {apiGroup: other, kind: Role, name: r}",
                &[&format!("roleRef.apiGroup: Unsupported value: \"other\": supported values: \"{group}\"")],
            ),
            (
                "subjects: [{kind: User, name: ''}]",
                &["subjects[0].name: Required value", "subjects[0].name: Invalid value: \"\": user name cannot be empty"],
            ),
            (
                "subjects: [{kind: Group, name: g, apiGroup: x}]",
                &[&format!("subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"{group}\"")],
            ),
            (
                "subjects: [{kind: Pod, name: p}]",
                &["subjects[0].kind: Unsupported value: \"Pod\": supported values: \"ServiceAccount\", \"User\", \"Group\""],
            ),
            (
                "subjects: [{kind: ServiceAccount, name: S, apiGroup: x}]",
                &[
                    &format!("subjects[0].name: Invalid value: \"S\": {SUBDOMAIN}"),
                    "subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"\"",
                ],
            ),
        ],
    );
    check::<ClusterRoleBinding>(
        |kind| format!("{{roleRef: {{kind: {kind}, name: r}}, subjects: [{{kind: ServiceAccount, name: s, namespace: n}}]}}"),
        &[("ClusterRole", &[]), ("Role", &["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""])],
    );
    check::<ClusterRoleBinding>(
        whole,
        &[(
            "{roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, name: s}]}",
            &["subjects[0].namespace: Required value"],
        )],
    );
}

#[test]
fn disruption_budgets() {
    check::<PodDisruptionBudget>(
        |spec| format!("{{spec: {spec}}}"),
        &[
            ("{minAvailable: 100%, selector: {}}", &[]),
            ("{maxUnavailable: 0, unhealthyPodEvictionPolicy: AlwaysAllow}", &[]),
            (
                "{minAvailable: 1, maxUnavailable: 1}",
                &["spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set"],
            ),
            ("{minAvailable: -1}", &["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"]),
            ("{maxUnavailable: 101%}", &["spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"]),
            (
                "{unhealthyPodEvictionPolicy: Never}",
                &["spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\""],
            ),
        ],
    );
    let status = |status: &str| {
        let now = object::<PodDisruptionBudget>(&format!("{{status: {{{status}}}}}"));
        now.validate_status(&PodDisruptionBudget::default()).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let condition = |part: &str| {
        let times = "lastTransitionTime: '2026-01-01T00:00:00Z', message: ''";
        format!("conditions: [{{type: T, status: 'True', reason: R, {times}{part}}}]")
    };
    assert_eq!(status(&condition("")), [""; 0]);
    assert_eq!(status("disruptionsAllowed: -1"), ["status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0"]);
    let wrong = status(&condition("").replace("'True'", "'Yes'").replace("reason: R", "reason: ''").replace("type: T", "type: '-'"));
    let at = "status.conditions[0]";
    assert_eq!(
        wrong,
        [
            format!("{at}.type: Invalid value: \"-\": {QUALIFIED}"),
            format!("{at}.status: Unsupported value: \"Yes\": supported values: \"False\", \"True\", \"Unknown\""),
            format!("{at}.reason: Required value: must be set"),
        ]
    );
    assert!(
        status(&condition("").replace("reason: R", "reason: '1'"))[0].contains("a condition reason must start with alphabetic character")
    );
}

#[test]
fn priorities_and_runtimes() {
    let reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: ";
    check::<PriorityClass>(
        whole,
        &[
            ("{metadata: {name: c}, value: 1000000000}", &[]),
            ("{metadata: {name: system-cluster-critical}, value: 2000000000}", &[]),
            (
                "{metadata: {name: c}, value: 1000000001}",
                &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
            ),
            ("{metadata: {name: system-x}, value: 1}", &[&format!("{reserved}system-x is not a known system priority class")]),
            (
                "{metadata: {name: system-node-critical}, value: 1}",
                &[&format!("{reserved}value of system-node-critical PriorityClass must be 2000001000")],
            ),
            (
                "{metadata: {name: system-node-critical}, value: 2000001000, globalDefault: true}",
                &[&format!("{reserved}globalDefault of system-node-critical PriorityClass must be false")],
            ),
            (
                "{metadata: {name: c}, value: 1, preemptionPolicy: Maybe}",
                &["preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"Never\", \"PreemptLowerPriority\""],
            ),
        ],
    );
    changed::<PriorityClass>(&[
        ("{value: 1}", "{value: 1, description: d}", &[]),
        ("{value: 1}", "{value: 2}", &["value: Forbidden: may not be changed in an update."]),
        ("{value: 1}", "{value: 1, preemptionPolicy: Never}", &["preemptionPolicy: Invalid value: \"Never\": field is immutable"]),
    ]);
    check::<RuntimeClass>(
        |part| format!("{{metadata: {{name: c}}, handler: h{part}}}"),
        &[
            (", overhead: {podFixed: {cpu: 100m}}, scheduling: {nodeSelector: {a: b}, tolerations: [{key: k, operator: Exists}]}", &[]),
            (
                ", scheduling: {tolerations: [{key: k, operator: Exists, value: v}]}",
                &["scheduling.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'"],
            ),
            (", overhead: {podFixed: {cpu: -1}}", &["overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"]),
        ],
    );
    check::<RuntimeClass>(whole, &[("{metadata: {name: c}, handler: h.i}", &[&format!("handler: Invalid value: \"h.i\": {LABEL}")])]);
    changed::<RuntimeClass>(&[("{handler: a}", "{handler: b}", &["handler: Invalid value: \"b\": field is immutable"])]);
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
     alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

#[test]
fn leases() {
    check::<Lease>(
        |spec| format!("{{spec: {spec}}}"),
        &[
            ("{leaseDurationSeconds: 1, leaseTransitions: 0}", &[]),
            ("{strategy: OldestEmulationVersion, preferredHolder: a}", &[]),
            ("{strategy: a.b/c}", &[]),
            ("{leaseDurationSeconds: 0}", &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]),
            ("{leaseTransitions: -1}", &["spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"]),
            ("{preferredHolder: a}", &["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"]),
            (
                "{strategy: Newest}",
                &["spec.strategy.strategy: Unsupported value: \"Newest\": supported values: \"OldestEmulationVersion\""],
            ),
            ("{strategy: a.b/-}", &[&format!("spec.strategy.strategy: Invalid value: \"a.b/-\": {QUALIFIED}")]),
        ],
    );
}

#[test]
fn events() {
    let old = |part: &str| format!("{{metadata: {{name: e, namespace: n}}, involvedObject: {part}}}");
    check::<Event>(
        old,
        &[
            ("{namespace: 'n'}", &[]),
            ("{namespace: m}", &["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"]),
            ("{}", &["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"]),
        ],
    );
    let long = "x".repeat(129);
    let instance = format!("involvedObject: {{namespace: m}}, reportingInstance: {long}");
    let note = format!("involvedObject: {{namespace: m}}, message: {}", "x".repeat(1025));
    check::<Event>(
        |part| {
            let fields = "reportingComponent: a.b/c, reportingInstance: i, action: a, reason: r, type: Odd";
            format!("{{metadata: {{name: e, namespace: n}}, eventTime: '2026-01-01T00:00:00.000000Z', {}}}", with(fields, part))
        },
        &[
            // An event about an object of elsewhere.
            ("involvedObject: {namespace: m}", &[]),
            ("involvedObject: {}", &["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"]),
            ("involvedObject: {namespace: m}, action: ''", &["action: Required value"]),
            ("involvedObject: {namespace: m}, reason: ''", &["reason: Required value"]),
            (&instance, &["reportingInstance: Invalid value: \"\": can have at most 128 characters"]),
            (&note, &["message: Invalid value: \"\": can have at most 1024 characters"]),
            (
                "involvedObject: {namespace: m}, reportingComponent: a b",
                &[&format!("reportingController: Invalid value: \"a b\": {QUALIFIED}")],
            ),
        ],
    );
}

/// What events.k8s.io/v1 asks besides, through the row that serves it.
#[test]
fn events_of_the_new_version() {
    let kind = KINDS.iter().find(|kind| (kind.group(), kind.resource()) == ("events.k8s.io", "events")).unwrap();
    let read = |part: &str| {
        let fields = "eventTime: '2026-01-01T00:00:00.000000Z', reportingController: a.b/c, reportingInstance: i, action: a, reason: r, type: Normal";
        let text = format!("{{metadata: {{name: e, namespace: n}}, regarding: {{namespace: m}}, {}}}", with(fields, part));
        kind.decode(serde_yaml::from_str(&text).unwrap(), &mut |_| {}).unwrap_or_else(|fault| panic!("{text}: {}", fault.error))
    };
    let told = |part: &str, old: Option<&str>| {
        let old = old.map(&read);
        let errors = kind.validate(read(part).as_ref(), old.as_deref());
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let table: &[Row] = &[
        ("note: x", &[]),
        ("series: {count: 2, lastObservedTime: '2026-01-01T00:00:00.000000Z'}", &[]),
        (
            "series: {count: 1, lastObservedTime: '2026-01-01T00:00:00.000000Z'}",
            &["series.count: Invalid value: \"\": should be at least 2"],
        ),
        (
            "eventTime: null",
            &["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace", "eventTime: Required value"],
        ),
        ("type: Odd", &["type: Invalid value: \"\": has invalid value: Odd"]),
        (
            "deprecatedCount: 1, deprecatedSource: {host: h}, deprecatedLastTimestamp: '2026-01-01T00:00:00Z'",
            &[
                "lastTimestamp: Invalid value: \"\": needs to be unset",
                "count: Invalid value: \"\": needs to be unset",
                "source: Invalid value: \"\": needs to be unset",
            ],
        ),
    ];
    for (part, want) in table {
        assert_eq!(told(part, None), *want, "{part}");
    }
    assert_eq!(
        told("series: {count: 3, lastObservedTime: '2026-01-01T00:00:00.000000Z'}", Some("note: x")),
        ["message: Invalid value: null: field is immutable"]
    );
    assert_eq!(told("note: x, type: Warning", Some("note: x")), ["type: Invalid value: \"Warning\": field is immutable"]);
    assert_eq!(told("note: x, series: {count: 3, lastObservedTime: '2026-01-01T00:00:00.000000Z'}", Some("note: x")), [""; 0]);
}

/// Fields, of which `others` replace those of the same name.
fn with(fields: &str, others: &str) -> String {
    let name = |field: &str| field.split(':').next().unwrap_or_default().trim().to_owned();
    let replaced: Vec<String> = others.split(", ").map(name).collect();
    let kept: Vec<&str> = fields.split(", ").filter(|field| !replaced.contains(&name(field))).collect();
    format!("{}, {others}", kept.join(", "))
}

fn job(part: &str) -> String {
    let (spec, pod) = part.split_once('|').unwrap_or((part, ""));
    let template = format!("{{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]{pod}}}}}");
    format!("{{metadata: {{name: j, uid: u}}, spec: {{template: {template}{spec}}}}}")
}

#[test]
fn indexed_jobs() {
    let many = ", completionMode: Indexed, completions: 100001";
    check::<Job>(
        job,
        &[
            (", completionMode: Indexed, completions: 10, backoffLimitPerIndex: 1, maxFailedIndexes: 10, managedBy: a.b/c", &[]),
            (&format!("{many}, parallelism: 1, backoffLimitPerIndex: 1, maxFailedIndexes: 10000"), &[]),
            (", backoffLimitPerIndex: 1", &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"]),
            (
                ", maxFailedIndexes: 1",
                &[
                    "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                    "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
                ],
            ),
            (
                ", completionMode: Indexed, completions: 1, backoffLimitPerIndex: 1, maxFailedIndexes: 2",
                &["spec.maxFailedIndexes: Invalid value: 2: must be less than or equal to completions"],
            ),
            (
                &format!("{many}, backoffLimitPerIndex: 1, parallelism: 10001"),
                &[
                    "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
                    "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and \
                     used with backoff limit per index",
                ],
            ),
            (", completionMode: Odd", &["spec.completionMode: Unsupported value: \"Odd\": supported values: \"NonIndexed\", \"Indexed\""]),
            (", managedBy: x", &["spec.managedBy: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")"]),
            (
                ", podReplacementPolicy: Odd",
                &["spec.podReplacementPolicy: Unsupported value: \"Odd\": supported values: \"Failed\", \"TerminatingOrFailed\""],
            ),
        ],
    );
    let named = |name: &str| job(", completionMode: Indexed, completions: 11").replace("name: j,", &format!("name: {name},"));
    let long = "x".repeat(61);
    check::<Job>(
        named,
        &[
            (&long[..60], &[]),
            (&long, &[&format!("metadata.name: Invalid value: \"{long}\": will not able to create pod with invalid DNS label: {long}-10")]),
        ],
    );
}

#[test]
fn success_policies() {
    let at = "spec.successPolicy.rules";
    let rules = |rules: &str| job(&format!(", completionMode: Indexed, completions: 10, successPolicy: {{rules: {rules}}}"));
    let many = format!("[{}]", "{succeededCount: 1}, ".repeat(21));
    check::<Job>(
        rules,
        &[
            ("[{succeededIndexes: '0-2,4', succeededCount: 4}, {succeededCount: 10}]", &[]),
            ("[]", &[&format!("{at}: Required value: at least one rules must be specified when the successPolicy is specified")]),
            (&many, &[&format!("{at}: Too many: 21: must have at most 20 items")]),
            ("[{}]", &[&format!("{at}[0]: Required value: at least one of succeededCount or succeededIndexes must be specified")]),
            (
                "[{succeededIndexes: '0-10'}]",
                &[&format!("{at}[0].succeededIndexes: Invalid value: \"0-10\": error parsing succeededIndexes: too large index: \"10\"")],
            ),
            (
                "[{succeededCount: 11}]",
                &[&format!(
                    "{at}[0].succeededCount: Invalid value: 11: must be less than or equal to 10 (the number of specified completions)"
                )],
            ),
            (
                "[{succeededIndexes: '1', succeededCount: 2}]",
                &[&format!(
                    "{at}[0].succeededCount: Invalid value: 2: must be less than or equal to 1 (the number of indexes in the specified \
                     succeededIndexes field)"
                )],
            ),
        ],
    );
    check::<Job>(
        job,
        &[(
            ", successPolicy: {rules: [{succeededCount: 1}]}",
            &["spec.successPolicy: Invalid value: {\"rules\":[{\"succeededCount\":1}]}: requires indexed completion mode"],
        )],
    );
}

#[test]
fn failure_policies() {
    let at = "spec.podFailurePolicy.rules";
    let many = format!("[{}]", "{action: Ignore, onPodConditions: [{type: T}]}, ".repeat(21));
    let codes = |codes: &str| format!("[{{action: FailJob, onExitCodes: {codes}}}]");
    let values: Vec<String> = (1..=256).map(|code| code.to_string()).collect();
    check::<Job>(
        |rules| job(&format!(", podFailurePolicy: {{rules: {rules}}}")),
        &[
            (
                "[{action: Count, onExitCodes: {containerName: c, operator: NotIn, values: [0, 1]}}, {action: Ignore, onPodConditions: [{type: a/T}]}]",
                &[],
            ),
            (&many, &[&format!("{at}: Too many: 21: must have at most 20 items")]),
            (
                "[{action: '', onPodConditions: [{type: T}]}]",
                &[&format!("{at}[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]")],
            ),
            (
                "[{action: Odd, onPodConditions: [{type: T}]}]",
                &[&format!(
                    "{at}[0].action: Unsupported value: \"Odd\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\""
                )],
            ),
            (
                "[{action: FailIndex, onPodConditions: [{type: T}]}]",
                &[&format!("{at}[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set")],
            ),
            ("[{action: Count}]", &[&format!("{at}[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required")]),
            (
                "[{action: Count, onExitCodes: {operator: In, values: [1]}, onPodConditions: [{type: T}]}]",
                &[&format!("{at}[0]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported")],
            ),
            (
                "[{action: Count, onPodConditions: [{type: '-', status: Odd}]}]",
                &[
                    &format!("{at}[0].onPodConditions[0].type: Invalid value: \"-\": {QUALIFIED}"),
                    &format!(
                        "{at}[0].onPodConditions[0].status: Unsupported value: \"Odd\": supported values: \"False\", \"True\", \"Unknown\""
                    ),
                ],
            ),
            (
                &codes("{containerName: d, operator: '', values: []}"),
                &[
                    &format!("{at}[0].onExitCodes.operator: Required value: valid values: [\"In\" \"NotIn\"]"),
                    &format!(
                        "{at}[0].onExitCodes.containerName: Invalid value: \"d\": must be one of the container or initContainer names in the \
                         pod template"
                    ),
                    &format!("{at}[0].onExitCodes.values: Invalid value: []: at least one value is required"),
                ],
            ),
            (
                &codes("{operator: In, values: [2, 0, 2]}"),
                &[
                    &format!("{at}[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator"),
                    &format!("{at}[0].onExitCodes.values[2]: Duplicate value: 2"),
                    &format!("{at}[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered"),
                ],
            ),
            (
                &codes(&format!("{{operator: In, values: [{}]}}", values.join(", "))),
                &[&format!("{at}[0].onExitCodes.values: Too many: 256: must have at most 255 items")],
            ),
        ],
    );
    check::<Job>(
        |rest| job(&format!(", podFailurePolicy: {{rules: []}}{rest}")),
        &[
            ("", &[]),
            (
                ", podReplacementPolicy: TerminatingOrFailed",
                &["spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\""],
            ),
        ],
    );
    check::<Job>(
        |policy| job(", podFailurePolicy: {rules: []}").replace("Never", policy),
        &[
            ("Never", &[]),
            (
                "OnFailure",
                &[
                    "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
                ],
            ),
            ("Always", &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""]),
        ],
    );
}

#[test]
fn storage_drivers_and_classes() {
    check::<CSIDriver>(
        |spec| format!("{{metadata: {{name: d}}, spec: {spec}}}"),
        &[
            ("{tokenRequests: [{audience: a, expirationSeconds: 600}, {audience: ''}], nodeAllocatableUpdatePeriodSeconds: 10}", &[]),
            (
                "{volumeLifecycleModes: [Odd]}",
                &["spec.volumeLifecycleModes: Unsupported value: \"Odd\": supported values: \"Persistent\", \"Ephemeral\""],
            ),
            (
                "{fsGroupPolicy: Odd}",
                &["spec.fsGroupPolicy: Unsupported value: \"Odd\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\""],
            ),
            (
                "{tokenRequests: [{audience: a, expirationSeconds: 599}, {audience: a}, {audience: b, expirationSeconds: 4294967297}]}",
                &[
                    "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
                    "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                    "spec.tokenRequests[2].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
                ],
            ),
            (
                "{nodeAllocatableUpdatePeriodSeconds: 9}",
                &["spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds"],
            ),
        ],
    );
    changed::<CSIDriver>(&[
        ("{spec: {}}", "{spec: {podInfoOnMount: true}}", &[]),
        ("{spec: {}}", "{spec: {attachRequired: false}}", &["spec.attachedRequired: Invalid value: false: field is immutable"]),
    ]);
    let (name, id) = ("x".repeat(64), "x".repeat(193));
    let drivers = |driver: &str| format!("{{spec: {{drivers: [{driver}]}}}}");
    check::<CSINode>(
        drivers,
        &[
            ("{name: d.x, nodeID: i, allocatable: {count: 0}, topologyKeys: [a.b/c, d]}", &[]),
            ("{name: '', nodeID: ''}", &["spec.drivers[0].name: Required value", "spec.drivers[0].nodeID: Required value"]),
            (&format!("{{name: {name}, nodeID: i}}"), &["spec.drivers[0].name: Too long: may not be more than 63 bytes"]),
            (
                &format!("{{name: d, nodeID: {id}}}"),
                &[&format!("spec.drivers[0].nodeID: Invalid value: \"{id}\": must be 192 characters or less")],
            ),
            ("{name: d_, nodeID: i}", &[&format!("spec.drivers[0].name: Invalid value: \"d_\": {SUBDOMAIN}")]),
            ("{name: d, nodeID: i}, {name: d, nodeID: i}", &["spec.drivers[1].name: Duplicate value: \"d\""]),
            (
                "{name: d, nodeID: i, allocatable: {count: -1}}",
                &["spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0"],
            ),
            ("{name: d, nodeID: i, topologyKeys: [a, a]}", &["spec.drivers[0]: Duplicate value: \"a\""]),
            ("{name: d, nodeID: i, topologyKeys: ['-']}", &[&format!("spec.drivers[0]: Invalid value: \"-\": {QUALIFIED}")]),
        ],
    );
    changed::<CSINode>(&[
        (&drivers("{name: d, nodeID: i}"), &drivers("{name: d, nodeID: i, allocatable: {count: 3}}, {name: e, nodeID: j}"), &[]),
        (
            &drivers("{name: d, nodeID: i}"),
            &drivers("{name: d, nodeID: j}"),
            &["spec.drivers: Invalid value: {\"name\":\"d\",\"nodeID\":\"j\"}: field is immutable"],
        ),
    ]);
    check::<StorageClass>(
        |part| format!("{{provisioner: A.b/c{part}}}"),
        &[
            ("", &[]),
            (", reclaimPolicy: Recycle", &["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""]),
            (
                ", volumeBindingMode: Odd",
                &["volumeBindingMode: Unsupported value: \"Odd\": supported values: \"Immediate\", \"WaitForFirstConsumer\""],
            ),
            (", parameters: {'': v}", &["parameters: Invalid value: \"\": field can not be empty."]),
        ],
    );
    check::<StorageClass>(
        |name| format!("{{provisioner: '{name}'}}"),
        &[("", &["provisioner: Required value"]), ("A b", &[&format!("provisioner: Invalid value: \"A b\": {QUALIFIED}")])],
    );
    check::<VolumeAttributesClass>(
        |part| format!("{{driverName: d{part}}}"),
        &[
            (", parameters: {a: b}", &[]),
            ("", &["parameters: Required value: must contain at least one key/value pair"]),
            (", parameters: {'': b}", &["parameters: Invalid value: \"\": field can not be empty."]),
        ],
    );
    let source = "spec.source";
    check::<VolumeAttachment>(
        |source| format!("{{spec: {{attacher: a, nodeName: node, source: {source}}}}}"),
        &[
            ("{persistentVolumeName: pv}", &[]),
            ("{}", &[&format!("{source}: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName")]),
            (
                "{persistentVolumeName: pv, inlineVolumeSpec: {}}",
                &[&format!("{source}: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName")],
            ),
            (
                "{persistentVolumeName: ''}",
                &[&format!("{source}.persistentVolumeName: Required value: must specify non empty persistentVolumeName")],
            ),
        ],
    );
}
