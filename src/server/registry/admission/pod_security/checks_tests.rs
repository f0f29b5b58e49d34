//! The pod security standards, case by case; the texts are those of upstream's tests.

use k8s_openapi::api::core::v1::Pod;

use super::*;

/// The hardened pod that no level minds; `CONTEXT` and `POD` are places to add to.
fn pod(yaml: &str) -> Pod {
    serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"))
}

fn found(level: Level, version: Version, yaml: &str) -> String {
    let pod = pod(yaml);
    let spec = pod.spec.as_ref().expect("a spec");
    detail(&violations(Standard { level, version }, Subject { meta: &pod.metadata, spec }))
}

const HARDENED: &str =
    "allowPrivilegeEscalation: false, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}, capabilities: {drop: [ALL]}";

#[test]
fn baseline() {
    // (spec beside the containers, context of container c, what the newest baseline says)
    let cases = [
        ("", "", ""),
        ("hostNetwork: true, hostIPC: true,", "", "host namespaces (hostNetwork=true, hostIPC=true)"),
        ("volumes: [{name: a, hostPath: {path: /}}, {name: b, hostPath: {path: /}}],", "", "hostPath volumes (volumes \"a\", \"b\")"),
        ("", "privileged: true", "privileged (container \"c\" must not set securityContext.privileged=true)"),
        (
            "",
            "capabilities: {add: [NET_RAW, CHOWN]}",
            "non-default capabilities (container \"c\" must not include \"NET_RAW\" in securityContext.capabilities.add)",
        ),
        ("", "procMount: Unmasked", "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")"),
        ("hostUsers: false,", "procMount: Unmasked", ""),
        ("", "seLinuxOptions: {type: container_engine_t}", ""),
        (
            "securityContext: {seLinuxOptions: {user: u}},",
            "seLinuxOptions: {type: t}",
            "seLinuxOptions (pod and container \"c\" set forbidden securityContext.seLinuxOptions: type \"t\"; user may not be set)",
        ),
        (
            "securityContext: {seccompProfile: {type: Unconfined}},",
            "",
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            "securityContext: {appArmorProfile: {type: Unconfined}},",
            "",
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            "securityContext: {sysctls: [{name: net.ipv4.tcp_rmem, value: '1'}, {name: kernel.msgmax, value: '1'}]},",
            "",
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            "",
            "windowsOptions: {hostProcess: true}",
            "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ];
    for (beside, context, want) in cases {
        let yaml = format!("{{metadata: {{name: p}}, spec: {{{beside} containers: [{{name: c, securityContext: {{{context}}}}}]}}}}");
        assert_eq!(found(Level::Baseline, Version::Latest, &yaml), want, "{yaml}");
        assert_eq!(found(Level::Privileged, Version::Latest, &yaml), "", "{yaml}");
    }
}

#[test]
fn baseline_in_containers() {
    let ports =
        "{metadata: {name: p}, spec: {containers: [{name: c, ports: [{containerPort: 1, hostPort: 80}, {containerPort: 2, hostPort: 9}]}],
        initContainers: [{name: i, ports: [{containerPort: 1, hostPort: 80}]}]}}";
    assert_eq!(found(Level::Baseline, Version::Latest, ports), "hostPort (containers \"i\", \"c\" use hostPorts 80, 9)");
    let probe = "{metadata: {name: p}, spec: {containers: [{name: c, livenessProbe: {httpGet: {port: 1, host: h}},
        lifecycle: {preStop: {tcpSocket: {port: 1, host: g}}}}]}}";
    let want = "probe or lifecycle host (container \"c\" uses probe or lifecycle hosts \"g\", \"h\")";
    assert_eq!(found(Level::Baseline, Version::Latest, probe), want);
    assert_eq!(found(Level::Baseline, Version::Minor(33), probe), "");
    let ephemeral =
        "{metadata: {name: p}, spec: {containers: [{name: c}], ephemeralContainers: [{name: e, securityContext: {privileged: true}}]}}";
    assert_eq!(
        found(Level::Baseline, Version::Latest, ephemeral),
        "privileged (container \"e\" must not set securityContext.privileged=true)"
    );
}

#[test]
fn annotations_of_old() {
    let yaml = "{metadata: {name: p, annotations: {seccomp.security.alpha.kubernetes.io/pod: unconfined,
        container.apparmor.security.beta.kubernetes.io/c: unconfined}}, spec: {containers: [{name: c}]}}";
    let armor = "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
                 \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")";
    assert_eq!(found(Level::Baseline, Version::Latest, yaml), armor);
    let seccomp = "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")";
    assert_eq!(found(Level::Baseline, Version::Minor(18), yaml), format!("{armor}, {seccomp}"));
}

#[test]
fn restricted() {
    let bare = "{metadata: {name: p}, spec: {containers: [{name: c}]}}";
    let want = "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
        unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
        runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
        seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!(found(Level::Restricted, Version::Latest, bare), want);
    // (spec beside the containers, context of container c, what the newest restricted level says)
    let cases = [
        ("", HARDENED, ""),
        (
            "securityContext: {runAsNonRoot: true, seccompProfile: {type: Localhost, localhostProfile: a}},",
            "allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}",
            "",
        ),
        ("os: {name: windows}, securityContext: {runAsNonRoot: true},", "", ""),
        (
            "hostUsers: false,",
            "allowPrivilegeEscalation: false, seccompProfile: {type: RuntimeDefault}, capabilities: {drop: [ALL]}, runAsUser: 0",
            "",
        ),
        (
            "volumes: [{name: v, hostPath: {path: /}}, {name: w, nfs: {server: s, path: /}}],",
            HARDENED,
            "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        ("securityContext: {runAsUser: 0},", HARDENED, "runAsUser=0 (pod must not set runAsUser=0)"),
        ("securityContext: {runAsNonRoot: false},", HARDENED, "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)"),
        (
            "hostUsers: false,",
            "allowPrivilegeEscalation: false, procMount: Unmasked, seccompProfile: {type: RuntimeDefault}, capabilities: {drop: [ALL]}",
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
    ];
    for (beside, context, want) in cases {
        let yaml = format!("{{metadata: {{name: p}}, spec: {{{beside} containers: [{{name: c, securityContext: {{{context}}}}}]}}}}");
        assert_eq!(found(Level::Restricted, Version::Latest, &yaml), want, "{yaml}");
    }
}

#[test]
fn versions_of_restricted() {
    let bare = "{metadata: {name: p}, spec: {containers: [{name: c, securityContext: {runAsUser: 0}}]}}";
    // (minor, reasons)
    let cases = [
        (0, "runAsNonRoot != true"),
        (8, "allowPrivilegeEscalation != false, runAsNonRoot != true"),
        (19, "allowPrivilegeEscalation != false, runAsNonRoot != true, seccompProfile"),
        (22, "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"),
        (23, "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, runAsUser=0, seccompProfile"),
        (99, "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, runAsUser=0, seccompProfile"),
    ];
    let pod = pod(bare);
    for (minor, want) in cases {
        let standard = Standard { level: Level::Restricted, version: Version::Minor(minor) };
        let found = violations(standard, Subject { meta: &pod.metadata, spec: pod.spec.as_ref().expect("a spec") });
        assert_eq!(reasons(&found), want, "1.{minor}");
    }
}
