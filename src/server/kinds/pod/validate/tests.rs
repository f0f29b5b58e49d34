//! Tables: what is written in a pod, and what is said of it.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use crate::server::kinds::support::testing::{created, errors, object};
use crate::server::registry::strategy::Strategy;

/// A pod of one container with `container` in it, and `rest` in its spec.
fn pod(container: &str, rest: &str) -> String {
    format!("{{metadata: {{name: p}}, spec: {{containers: [{{name: c, image: i{container}}}]{rest}}}}}")
}

/// What is said of it, joined; without the common beginnings of paths.
fn said(yaml: &str) -> String {
    let all: Vec<String> = errors::<Pod>(yaml).iter().map(|error| error.replace("spec.containers[0].", "c.")).collect();
    all.join(" | ")
}

#[test]
fn containers() {
    for (container, want) in [
        (", image: ' i'", "c.image: Invalid value: \" i\": must not have leading or trailing whitespace"),
        (
            ", env: [{name: a b}, {name: 'a=b'}]",
            "c.env[1].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ),
        (
            ", env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.nope}}}]",
            "c.env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nope\": error converting fieldPath: field label not supported: spec.nope",
        ),
        (
            ", env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"spec.nodeName['a']\"}}}]",
            "c.env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nodeName['a']\": error converting fieldPath: field label does not support subscript: spec.nodeName['a']",
        ),
        (
            ", env: [{name: A, valueFrom: {fieldRef: {apiVersion: v2, fieldPath: metadata.name}}}]",
            "c.env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name\": error converting fieldPath: unsupported pod version: v2",
        ),
        (", env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['x/y']\"}}}]", ""),
        (
            ", env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['x y']\"}}}]",
            "c.env[0].valueFrom.fieldRef: Invalid value: \"x y\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
        (
            ", env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 2}}}]",
            "c.env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
        ),
        (
            ", env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1m}}}]",
            "c.env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.memory\": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
        ),
        (", envFrom: [{prefix: X}]", "c.envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"),
        (
            ", livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: 'a b'}]}}",
            "c.livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
        ),
        (
            ", lifecycle: {preStop: {sleep: {seconds: 31}}}",
            "c.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (", lifecycle: {preStop: {sleep: {seconds: 0}}}", ""),
        (
            ", resizePolicy: [{resourceName: disk, restartPolicy: NotRequired}]",
            "c.resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
        ),
        (
            ", restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [3]}}]",
            "c.restartPolicy: Required value: must specify restartPolicy when restart rules are used",
        ),
        (
            ", restartPolicy: Never, restartPolicyRules: [{action: Stop, exitCodes: {operator: Equals, values: [3]}}]",
            "c.restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\" | c.restartPolicyRules[0].exitCodes.operator: Unsupported value: \"Equals\": supported values: \"In\", \"NotIn\"",
        ),
        (
            ", securityContext: {appArmorProfile: {type: Localhost}}",
            "c.securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost",
        ),
        (
            ", securityContext: {seccompProfile: {type: Localhost}}",
            "c.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            ", securityContext: {windowsOptions: {runAsUserName: 'a\\b\\c'}}",
            "c.securityContext.windowsOptions.runAsUserName: Invalid value: \"a\\\\b\\\\c\": runAsUserName cannot contain more than one backslash",
        ),
    ] {
        // Written twice the second holds, as YAML parsers agree.
        let yaml = if container.starts_with(", image") { pod("", "").replace("image: i", "image: ' i'") } else { pod(container, "") };
        assert_eq!(said(&yaml), want, "{container}");
    }
}

#[test]
fn resources() {
    for (resources, want) in [
        ("limits: {pods: 1}", "c.resources.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers"),
        (
            "limits: {nope: 1}",
            "c.resources.limits[nope]: Invalid value: \"nope\": must be a standard resource type or fully qualified | c.resources.limits[nope]: Invalid value: \"nope\": must be a standard resource for containers",
        ),
        ("limits: {example.com/gpu: 500m}", "c.resources.limits[example.com/gpu]: Invalid value: \"500m\": must be an integer"),
        (
            "limits: {requests.example.com/gpu: 1}",
            "c.resources.limits[requests.example.com/gpu]: Invalid value: \"requests.example.com/gpu\": doesn't follow extended resource name standard",
        ),
        ("requests: {example.com/gpu: 1}", "c.resources.limits: Required value: Limit must be set for non overcommitable resources"),
        ("limits: {hugepages-2Mi: 2Mi}", "c.resources: Forbidden: HugePages require cpu or memory"),
        (
            "limits: {cpu: 1, hugepages-2Mi: 3Mi}",
            "c.resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
        ),
        (
            "claims: [{name: x}]",
            "c.resources.claims[0]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims which is empty",
        ),
    ] {
        // What is limited is requested by default, and said of again.
        let said = said(&pod(&format!(", resources: {{{resources}}}"), ""));
        let said: Vec<&str> =
            said.split(" | ").filter(|error| resources.starts_with("requests") || !error.contains("resources.requests")).collect();
        assert_eq!(said.join(" | "), want, "{resources}");
    }
    let whole =
        |container: &str, pod: &str| format!("{{spec: {{containers: [{{name: c, image: i, resources: {container}}}], resources: {pod}}}}}");
    for (container, pod, want) in [
        ("{requests: {cpu: 1}}", "{requests: {cpu: 2}}", ""),
        (
            "{requests: {cpu: 2}}",
            "{requests: {cpu: 1}}",
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2",
        ),
        (
            "{limits: {memory: 2Gi}}",
            "{limits: {memory: 1Gi}, requests: {memory: 1Gi}}",
            "spec.resources.requests[memory]: Invalid value: \"1Gi\": must be greater than or equal to aggregate container requests of 2Gi | spec.resources.containers[0][memory].limits: Invalid value: \"2Gi\": must be less than or equal to pod limits of 1Gi",
        ),
        (
            "{}",
            "{requests: {ephemeral-storage: 1Gi}}",
            "spec.resources.requests[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
        ),
    ] {
        assert_eq!(said(&whole(container, pod)), want, "{container} in {pod}");
    }
}

#[test]
fn mounts() {
    const VOLUMES: &str =
        ", volumes: [{name: e, emptyDir: {}}, {name: d, persistentVolumeClaim: {claimName: x}}, {name: bad, hostPath: {path: ''}}]";
    for (container, want) in [
        (
            ", volumeMounts: [{name: e, mountPath: /e, subPath: ../x}]",
            "c.volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'",
        ),
        (
            ", volumeMounts: [{name: e, mountPath: /e, recursiveReadOnly: Enabled}]",
            "c.volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
        ),
        (
            ", volumeMounts: [{name: e, mountPath: /e, mountPropagation: Bidirectional}]",
            "c.volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
        ),
        (", volumeDevices: [{name: d, devicePath: /dev/x}]", ""),
        (
            ", volumeDevices: [{name: e, devicePath: /dev/x}]",
            "c.volumeDevices[0].name: Invalid value: \"e\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
        ),
        (
            ", volumeDevices: [{name: d, devicePath: /x}], volumeMounts: [{name: d, mountPath: /x}]",
            "c.volumeMounts[0].name: Invalid value: \"d\": must not already exist in volumeDevices | c.volumeMounts[0].mountPath: Invalid value: \"/x\": must not already exist as a path in volumeDevices | c.volumeDevices[0].name: Invalid value: \"d\": must not already exist in volumeMounts | c.volumeDevices[0].devicePath: Invalid value: \"/x\": must not already exist as a path in volumeMounts",
        ),
        // A volume at fault is none.
        (", volumeMounts: [{name: bad, mountPath: /b}]", "c.volumeMounts[0].name: Not found: \"bad\""),
    ] {
        let said = said(&pod(container, VOLUMES)).replace("spec.volumes[2].hostPath.path: Required value", "");
        assert_eq!(said.trim_start_matches(" | "), want, "{container}");
    }
}

#[test]
fn specs() {
    for (rest, want) in [
        (", terminationGracePeriodSeconds: -1", ""),
        (", imagePullSecrets: [{}]", ""),
        (", hostNetwork: true, hostUsers: false", "spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false"),
        (", os: {name: plan9}", "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""),
        (
            ", os: {name: windows}, securityContext: {runAsUser: 1}",
            "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
        ),
        (
            ", os: {name: linux}, securityContext: {windowsOptions: {runAsUserName: a}}",
            "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
        ),
        (
            ", securityContext: {sysctls: [{name: 'a b', value: x}]}",
            "spec.securityContext.sysctls[0].name: Invalid value: \"a b\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        ),
        (
            ", hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.ip_local_port_range, value: x}]}",
            "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.ip_local_port_range\": may not be specified when 'hostNetwork' is true",
        ),
        (
            ", dnsConfig: {searches: [., a_b.c., 'a b']}",
            "spec.dnsConfig.searches[2]: Invalid value: \"a b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*')",
        ),
        (", schedulingGates: [{name: a}, {name: a}]", "spec.schedulingGates[1]: Duplicate value: \"a\""),
        (
            ", tolerations: [{key: k, operator: Exists, value: v}]",
            "spec.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'",
        ),
        (
            ", affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: k, operator: In, values: ['a b']}]}]}}}",
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            ", affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: z, matchLabelKeys: [a], mismatchLabelKeys: [a], labelSelector: {}}]}}",
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and mismatchLabelKeys",
        ),
        (
            ", topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule, matchLabelKeys: [a]}]",
            "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
        ),
        (
            ", resourceClaims: [{name: a}]",
            "spec.resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        ),
        (", overhead: {cpu: -1}", "spec.overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"),
        (
            ", volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]",
            "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
        ),
        (
            ", hostAliases: [{ip: 1.2.3.4, hostnames: [a, A]}]",
            "spec.hostAliases[0].hostnames[1]: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
    ] {
        assert_eq!(said(&pod("", rest)), want, "{rest}");
    }
}

#[test]
fn proc_mounts_need_users_of_their_own() {
    let pod = |rest: &str| pod(", securityContext: {procMount: Unmasked}", rest);
    assert_eq!(said(&pod(", hostUsers: false")), "");
    assert_eq!(said(&pod("")), "c.securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`");
}

#[test]
fn host_ports() {
    let of = |port: &str| pod(&format!(", ports: [{{containerPort: 80{port}}}]"), ", hostNetwork: true");
    assert_eq!(said(&of("")), "", "a pod's is defaulted");
    assert_eq!(
        said(&of(", hostPort: 81")),
        "c.ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
    );
    let init = "{spec: {containers: [{name: c, image: i}], initContainers: [{name: a, image: i}, {name: b, image: i, \
                ports: [{containerPort: 1, hostPort: 9}, {containerPort: 2, hostPort: 9}]}]}}";
    assert_eq!(said(init), "spec.initContainers[0].ports[1].hostPort: Duplicate value: \"TCP//9\"");
}

/// What only holds for pods does not hold for templates.
#[test]
fn templates_are_free() {
    let yaml = "{spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: ' i'}], \
                volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]}}}}";
    assert_eq!(errors::<Deployment>(yaml), Vec::<String>::new());
}

fn update(old: &str, new: &str) -> String {
    let (old, new) = (object::<Pod>(&pod("", old)), object::<Pod>(&pod("", new)));
    new.validate(Some(&old)).iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}

#[test]
fn gated_pods_are_told_more_narrowly() {
    let affinity = |terms: &str| {
        format!(
            ", schedulingGates: [{{name: g}}], affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{terms}]}}}}}}"
        )
    };
    let term = |keys: &[&str]| {
        let all: Vec<String> = keys.iter().map(|key| format!("{{key: {key}, operator: Exists}}")).collect();
        format!("{{matchExpressions: [{}]}}", all.join(", "))
    };
    const TERMS: &str = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    assert_eq!(update(&affinity(&term(&["a"])), &affinity(&term(&["a", "b"]))), "");
    let changed = update(&affinity(&term(&["a"])), &affinity(&term(&["b"])));
    assert!(
        changed.starts_with(&format!("{TERMS}[0]: Invalid value: "))
            && changed.ends_with("only additions are allowed (no mutations or deletions)"),
        "{changed}"
    );
    let more = update(&affinity(&term(&["a"])), &affinity(&format!("{}, {}", term(&["a"]), term(&["b"]))));
    assert!(more.ends_with("no additions/deletions to non-empty NodeSelectorTerms list are allowed"), "{more}");
    let gates = ", schedulingGates: [{name: g}]";
    assert_eq!(update(gates, &affinity(&term(&["a"]))), "", "where there was none anything may be said");
    assert_eq!(
        update(", schedulingGates: [{name: g}], nodeSelector: {a: b}", gates),
        "spec.nodeSelector: Invalid value: null: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    );
    assert_eq!(
        update(gates, ", schedulingGates: [{name: g}, {name: h}]"),
        "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'h'"
    );
}

#[test]
fn what_ended_stays_so() {
    let with = |policy: &str, state: &str| {
        let mut pod: Pod = created(&pod("", &format!(", restartPolicy: {policy}")));
        let status = format!("{{containerStatuses: [{{name: c, image: i, imageID: '', ready: false, restartCount: 0, state: {state}}}]}}");
        pod.status = serde_yaml::from_str(&status).expect("a status");
        pod
    };
    for (policy, code, want) in [
        ("Always", 0, ""),
        ("OnFailure", 1, ""),
        ("OnFailure", 0, "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"),
        ("Never", 1, "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"),
    ] {
        let old = with(policy, &format!("{{terminated: {{exitCode: {code}}}}}"));
        let new = with(policy, "{running: {}}");
        let said: Vec<String> = new.validate_status(&old).iter().map(ToString::to_string).collect();
        assert_eq!(said.join(" | "), want, "{policy} after {code}");
    }
}

#[test]
fn addresses_of_a_status() {
    let check = |status: &str| {
        let mut pod: Pod = created(&pod("", ""));
        let old = pod.clone();
        pod.status = serde_yaml::from_str(status).expect("a status");
        pod.validate_status(&old)
            .iter()
            .map(ToString::to_string)
            .filter(|error| !error.contains("qosClass"))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    assert_eq!(check("{podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], hostIP: 10.1.1.1, hostIPs: [{ip: 10.1.1.1}]}"), "");
    assert_eq!(
        check("{hostIP: 10.1.1.1, hostIPs: [{ip: 10.1.1.2}]}"),
        "status.hostIPs[0].ip: Invalid value: \"10.1.1.2\": must be equal to `hostIP`"
    );
    assert_eq!(
        check("{podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]}"),
        "status.podIPs: Invalid value: [{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family"
    );
    assert!(check("{conditions: [{type: 'a b', status: 'True'}]}").starts_with("metadata.conditions[0].Type: Invalid value: \"a b\""));
}
