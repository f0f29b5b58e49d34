//! The pod security standards: what each level of each version forbids (pod-security-admission `policy`).
//!
//! One table, [`CHECKS`], in the order in which upstream reports: baseline by name, then restricted by name. A row has the versions from
//! which on its rule is another one; rules of the restricted level may take the place of a baseline rule.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EphemeralContainer, Lifecycle, PodSecurityContext, PodSpec, Probe, SecurityContext, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::policy::{Level, Standard, Version};

/// What a rule does not like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In general.
    pub reason: String,
    /// In particular; may be empty.
    pub detail: String,
}

/// A pod, or something that makes pods.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Its metadata, for annotations from before there were fields.
    pub meta: &'a ObjectMeta,
    /// What it runs.
    pub spec: &'a PodSpec,
}

type Rule = fn(Subject<'_>) -> Option<Violation>;

struct Check {
    id: &'static str,
    level: Level,
    /// From which minor version on which rule holds, oldest first.
    versions: &'static [(u32, Rule)],
    /// The baseline rule that this one takes the place of.
    replaces: &'static str,
}

const fn baseline(id: &'static str, versions: &'static [(u32, Rule)]) -> Check {
    Check { id, level: Level::Baseline, versions, replaces: "" }
}

const fn restricted(id: &'static str, replaces: &'static str, versions: &'static [(u32, Rule)]) -> Check {
    Check { id, level: Level::Restricted, versions, replaces }
}

static CHECKS: &[Check] = &[
    baseline("appArmorProfile", &[(0, app_armor)]),
    baseline("capabilities_baseline", &[(0, capabilities_baseline)]),
    baseline("hostNamespaces", &[(0, host_namespaces)]),
    baseline("hostPathVolumes", &[(0, host_paths)]),
    baseline("hostPorts", &[(0, host_ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, host_probes)]),
    baseline("privileged", &[(0, privileged)]),
    baseline("procMount", &[(0, proc_mount), (35, |subject| if user_namespace(subject) { None } else { proc_mount(subject) })]),
    baseline("seLinuxOptions", &[(0, |subject| se_linux(subject, &SELINUX_TYPES[..4])), (31, |subject| se_linux(subject, &SELINUX_TYPES))]),
    baseline("seccompProfile_baseline", &[(0, seccomp_annotations), (19, |subject| seccomp(subject, false))]),
    baseline(
        "sysctls",
        &[
            (0, |subject| sysctls(subject, &SYSCTLS[..5])),
            (27, |subject| sysctls(subject, &SYSCTLS[..6])),
            (29, |subject| sysctls(subject, &SYSCTLS[..10])),
            (32, |subject| sysctls(subject, &SYSCTLS)),
        ],
    ),
    baseline("windowsHostProcess", &[(0, windows_host_process)]),
    restricted(
        "allowPrivilegeEscalation",
        "",
        &[(8, privilege_escalation), (25, |subject| if windows(subject) { None } else { privilege_escalation(subject) })],
    ),
    restricted(
        "capabilities_restricted",
        "capabilities_baseline",
        &[(22, capabilities_restricted), (25, |subject| if windows(subject) { None } else { capabilities_restricted(subject) })],
    ),
    restricted("procMount_restricted", "procMount", &[(35, proc_mount)]),
    restricted("restrictedVolumes", "hostPathVolumes", &[(0, volume_types)]),
    restricted("runAsNonRoot", "", &[(0, non_root), (35, |subject| if user_namespace(subject) { None } else { non_root(subject) })]),
    restricted("runAsUser", "", &[(23, run_as_user), (35, |subject| if user_namespace(subject) { None } else { run_as_user(subject) })]),
    restricted(
        "seccompProfile_restricted",
        "seccompProfile_baseline",
        &[(19, |subject| seccomp(subject, true)), (25, |subject| if windows(subject) { None } else { seccomp(subject, true) })],
    ),
];

/// The first four are of old.
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Five of old, one since 1.27, four since 1.29, two since 1.32.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Everything about `subject` that `standard` forbids.
pub fn violations(standard: Standard, subject: Subject<'_>) -> Vec<Violation> {
    let rule = |check: &Check| {
        let holds = |since: u32| match standard.version {
            Version::Latest => true,
            Version::Minor(minor) => since <= minor,
        };
        check.versions.iter().rev().find(|(since, _)| holds(*since)).map(|(_, rule)| *rule)
    };
    let strict = standard.level == Level::Restricted;
    let replaced = |check: &Check| strict && CHECKS.iter().any(|other| other.replaces == check.id && rule(other).is_some());
    let asked = CHECKS.iter().filter(|check| check.level <= standard.level && !replaced(check));
    asked.filter_map(rule).filter_map(|rule| rule(subject)).collect()
}

/// `a, b (of c)`: what clients are told.
pub fn detail(violations: &[Violation]) -> String {
    let one = |violation: &Violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `a, b`.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// A container of any sort.
struct Member<'a> {
    name: &'a str,
    context: Option<&'a SecurityContext>,
    ports: &'a [ContainerPort],
    probes: [Option<&'a Probe>; 3],
    lifecycle: Option<&'a Lifecycle>,
}

fn members(spec: &PodSpec) -> impl Iterator<Item = Member<'_>> {
    fn usual(container: &Container) -> Member<'_> {
        Member {
            name: &container.name,
            context: container.security_context.as_ref(),
            ports: container.ports.as_deref().unwrap_or_default(),
            probes: [container.liveness_probe.as_ref(), container.readiness_probe.as_ref(), container.startup_probe.as_ref()],
            lifecycle: container.lifecycle.as_ref(),
        }
    }
    fn ephemeral(container: &EphemeralContainer) -> Member<'_> {
        Member {
            name: &container.name,
            context: container.security_context.as_ref(),
            ports: container.ports.as_deref().unwrap_or_default(),
            probes: [container.liveness_probe.as_ref(), container.readiness_probe.as_ref(), container.startup_probe.as_ref()],
            lifecycle: container.lifecycle.as_ref(),
        }
    }
    let all = spec.init_containers.iter().flatten().chain(&spec.containers).map(usual);
    all.chain(spec.ephemeral_containers.iter().flatten().map(ephemeral))
}

/// Names of the containers whose security context is bad.
fn bad<'a>(spec: &'a PodSpec, mut is_bad: impl FnMut(&'a SecurityContext) -> bool) -> Vec<&'a str> {
    members(spec).filter(|member| member.context.is_some_and(&mut is_bad)).map(|member| member.name).collect()
}

fn pod_context(subject: Subject<'_>) -> Option<&PodSecurityContext> {
    subject.spec.security_context.as_ref()
}

fn quoted<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// `pod and container "a"`: who sets something bad.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    match (pod, names.is_empty()) {
        (false, true) => None,
        (true, true) => Some("pod".into()),
        (false, false) => Some(containers(names)),
        (true, false) => Some(format!("pod and {}", containers(names))),
    }
}

fn violation(reason: impl Into<String>, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.into(), detail })
}

fn windows(subject: Subject<'_>) -> bool {
    subject.spec.os.as_ref().is_some_and(|os| os.name == "windows")
}

/// Whether root in the pod is nobody outside of it.
fn user_namespace(subject: Subject<'_>) -> bool {
    subject.spec.host_users == Some(false)
}

fn app_armor(subject: Subject<'_>) -> Option<Violation> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let allowed = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let allowed_annotation = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let mut values = BTreeSet::new();
    let of_pod = pod_context(subject).and_then(|context| context.app_armor_profile.as_ref()).filter(|profile| !allowed(&profile.type_));
    values.extend(of_pod.map(|profile| profile.type_.as_str()));
    let names = bad(subject.spec, |context| {
        let profile = context.app_armor_profile.as_ref().filter(|profile| !allowed(&profile.type_));
        values.extend(profile.map(|profile| profile.type_.as_str()));
        profile.is_some()
    });
    let annotations =
        subject.meta.annotations.iter().flatten().filter(|(key, value)| key.starts_with(PREFIX) && !allowed_annotation(value));
    let annotations: Vec<String> = annotations.map(|(key, value)| format!("{key}={value:?}")).collect();
    let mut who: Vec<String> = setters(of_pod.is_some(), &names).into_iter().collect();
    let mut values: Vec<String> = values.into_iter().map(str::to_owned).collect();
    if !annotations.is_empty() {
        who.push(plural(annotations.len(), "annotation", "annotations").into());
        values.extend(annotations);
    }
    if who.is_empty() {
        return None;
    }
    let reason = plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    violation(reason, format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(values)))
}

fn capabilities_baseline(subject: Subject<'_>) -> Option<Violation> {
    let mut found = BTreeSet::new();
    let names = bad(subject.spec, |context| {
        let added = context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
        let wrong: Vec<&String> = added.filter(|capability| !CAPABILITIES.contains(&capability.as_str())).collect();
        found.extend(wrong.iter().copied());
        !wrong.is_empty()
    });
    let who = setters(false, &names)?;
    violation("non-default capabilities", format!("{who} must not include {} in securityContext.capabilities.add", quoted(found)))
}

fn capabilities_restricted(subject: Subject<'_>) -> Option<Violation> {
    let dropped = |context: &SecurityContext| {
        context.capabilities.iter().flat_map(|capabilities| capabilities.drop.iter().flatten()).any(|capability| capability == "ALL")
    };
    let keeping: Vec<&str> =
        members(subject.spec).filter(|member| !member.context.is_some_and(dropped)).map(|member| member.name).collect();
    let mut found = BTreeSet::new();
    let adding = bad(subject.spec, |context| {
        let added = context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
        let wrong: Vec<&String> = added.filter(|capability| *capability != "NET_BIND_SERVICE").collect();
        found.extend(wrong.iter().copied());
        !wrong.is_empty()
    });
    let keeping = setters(false, &keeping).map(|who| format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    let adding = setters(false, &adding).map(|who| format!("{who} must not include {} in securityContext.capabilities.add", quoted(found)));
    let details: Vec<String> = keeping.into_iter().chain(adding).collect();
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

fn host_namespaces(subject: Subject<'_>) -> Option<Violation> {
    let spec = subject.spec;
    let all = [("hostNetwork=true", spec.host_network), ("hostPID=true", spec.host_pid), ("hostIPC=true", spec.host_ipc)];
    let set: Vec<&str> = all.into_iter().filter(|(_, set)| *set == Some(true)).map(|(text, _)| text).collect();
    if set.is_empty() { None } else { violation("host namespaces", set.join(", ")) }
}

fn volumes(spec: &PodSpec) -> impl Iterator<Item = &Volume> {
    spec.volumes.iter().flatten()
}

fn host_paths(subject: Subject<'_>) -> Option<Violation> {
    let names: Vec<&str> = volumes(subject.spec).filter(|volume| volume.host_path.is_some()).map(|volume| volume.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural(names.len(), "volume", "volumes"), quoted(names)))
}

fn host_ports(subject: Subject<'_>) -> Option<Violation> {
    let mut found = BTreeSet::new();
    let names: Vec<&str> = members(subject.spec)
        .filter(|member| {
            let ports: Vec<_> = member.ports.iter().filter_map(|port| port.host_port).filter(|port| *port != 0).collect();
            found.extend(ports.iter().map(ToString::to_string));
            !ports.is_empty()
        })
        .map(|member| member.name)
        .collect();
    let who = setters(false, &names)?;
    let (uses, what) = (plural(names.len(), "uses", "use"), plural(found.len(), "hostPort", "hostPorts"));
    violation("hostPort", format!("{who} {uses} {what} {}", found.into_iter().collect::<Vec<_>>().join(", ")))
}

fn host_probes(subject: Subject<'_>) -> Option<Violation> {
    let (mut names, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for member in members(subject.spec) {
        let handlers = member.lifecycle.into_iter().flat_map(|lifecycle| [lifecycle.post_start.as_ref(), lifecycle.pre_stop.as_ref()]);
        let of_handlers = handlers.flatten().map(|handler| (&handler.http_get, &handler.tcp_socket));
        let of_probes = member.probes.into_iter().flatten().map(|probe| (&probe.http_get, &probe.tcp_socket));
        for (http, tcp) in of_probes.chain(of_handlers) {
            let both = [http.as_ref().and_then(|http| http.host.as_deref()), tcp.as_ref().and_then(|tcp| tcp.host.as_deref())];
            for host in both.into_iter().flatten().filter(|host| !host.is_empty()) {
                names.insert(member.name);
                hosts.insert(host);
            }
        }
    }
    let names: Vec<&str> = names.into_iter().collect();
    let who = setters(false, &names)?;
    let what = plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts");
    violation("probe or lifecycle host", format!("{who} {} {what} {}", plural(names.len(), "uses", "use"), quoted(hosts)))
}

fn privileged(subject: Subject<'_>) -> Option<Violation> {
    let names = bad(subject.spec, |context| context.privileged == Some(true));
    let who = setters(false, &names)?;
    violation("privileged", format!("{who} must not set securityContext.privileged=true"))
}

fn proc_mount(subject: Subject<'_>) -> Option<Violation> {
    let mut found = BTreeSet::new();
    let names = bad(subject.spec, |context| {
        let mount = context.proc_mount.as_deref().filter(|mount| *mount != "Default");
        found.extend(mount);
        mount.is_some()
    });
    let who = setters(false, &names)?;
    violation("procMount", format!("{who} must not set securityContext.procMount to {}", quoted(found)))
}

fn se_linux(subject: Subject<'_>, types: &[&str]) -> Option<Violation> {
    use k8s_openapi::api::core::v1::SELinuxOptions;
    let (mut found, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut check = |options: &SELinuxOptions| {
        let kind = options.type_.as_deref().unwrap_or_default();
        let set = |part: &Option<String>| part.as_deref().is_some_and(|part| !part.is_empty());
        let wrong = !types.contains(&kind);
        if wrong {
            found.insert(kind.to_owned());
        }
        user |= set(&options.user);
        role |= set(&options.role);
        wrong || set(&options.user) || set(&options.role)
    };
    let pod = pod_context(subject).and_then(|context| context.se_linux_options.as_ref()).is_some_and(&mut check);
    let names = bad(subject.spec, |context| context.se_linux_options.as_ref().is_some_and(&mut check));
    let who = setters(pod, &names)?;
    let mut what = Vec::new();
    if !found.is_empty() {
        what.push(format!("{} {}", plural(found.len(), "type", "types"), quoted(&found)));
    }
    what.extend(user.then(|| "user may not be set".into()));
    what.extend(role.then(|| "role may not be set".into()));
    violation("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; ")))
}

fn seccomp_annotations(subject: Subject<'_>) -> Option<Violation> {
    let allowed = |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
    let of_containers =
        members(subject.spec).map(|member| format!("container.seccomp.security.alpha.kubernetes.io/{}", member.name)).collect::<Vec<_>>();
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod").chain(of_containers.iter().map(String::as_str));
    let value = |key: &str| subject.meta.annotations.as_ref().and_then(|all| all.get(key));
    let found: BTreeSet<String> =
        keys.filter_map(|key| value(key).filter(|value| !allowed(value)).map(|value| format!("{key}={value:?}"))).collect();
    if found.is_empty() {
        return None;
    }
    let what = plural(found.len(), "annotation", "annotations");
    violation("seccompProfile", format!("forbidden {what} {}", found.into_iter().collect::<Vec<_>>().join(", ")))
}

/// `required`: what is not set is bad, too.
fn seccomp(subject: Subject<'_>, required: bool) -> Option<Violation> {
    let allowed = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let of_pod = pod_context(subject).and_then(|context| context.seccomp_profile.as_ref()).map(|profile| profile.type_.as_str());
    let mut found: BTreeSet<&str> = of_pod.into_iter().filter(|kind| !allowed(kind)).collect();
    let pod_is_bad = !found.is_empty();
    let names = bad(subject.spec, |context| {
        let kind = context.seccomp_profile.as_ref().map(|profile| profile.type_.as_str()).filter(|kind| !allowed(kind));
        found.extend(kind);
        kind.is_some()
    });
    if let Some(who) = setters(pod_is_bad, &names) {
        return violation("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(found)));
    }
    if !required || of_pod.is_some() {
        return None;
    }
    let unset = members(subject.spec).filter(|member| member.context.is_none_or(|context| context.seccomp_profile.is_none()));
    let who = setters(false, &unset.map(|member| member.name).collect::<Vec<_>>())?;
    violation("seccompProfile", format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""))
}

fn sysctls(subject: Subject<'_>, allowed: &[&str]) -> Option<Violation> {
    let all = pod_context(subject).into_iter().flat_map(|context| context.sysctls.iter().flatten());
    let found: Vec<&str> = all.map(|sysctl| sysctl.name.as_str()).filter(|name| !allowed.contains(name)).collect();
    if found.is_empty() { None } else { violation("forbidden sysctls", found.join(", ")) }
}

fn windows_host_process(subject: Subject<'_>) -> Option<Violation> {
    let pod = pod_context(subject).and_then(|context| context.windows_options.as_ref()).is_some_and(|w| w.host_process == Some(true));
    let names = bad(subject.spec, |context| context.windows_options.as_ref().is_some_and(|w| w.host_process == Some(true)));
    let who = setters(pod, &names)?;
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn privilege_escalation(subject: Subject<'_>) -> Option<Violation> {
    let names: Vec<&str> = members(subject.spec)
        .filter(|member| member.context.and_then(|context| context.allow_privilege_escalation) != Some(false))
        .map(|member| member.name)
        .collect();
    let who = setters(false, &names)?;
    violation("allowPrivilegeEscalation != false", format!("{who} must set securityContext.allowPrivilegeEscalation=false"))
}

fn volume_types(subject: Subject<'_>) -> Option<Violation> {
    let allowed = |volume: &&Volume| {
        volume.config_map.is_some()
            || volume.csi.is_some()
            || volume.downward_api.is_some()
            || volume.empty_dir.is_some()
            || volume.ephemeral.is_some()
            || volume.persistent_volume_claim.is_some()
            || volume.projected.is_some()
            || volume.secret.is_some()
    };
    let wrong: Vec<&Volume> = volumes(subject.spec).filter(|volume| !allowed(volume)).collect();
    if wrong.is_empty() {
        return None;
    }
    let types: BTreeSet<&str> = wrong.iter().map(|volume| volume_type(volume)).collect();
    let names = wrong.iter().map(|volume| volume.name.as_str());
    let detail = format!(
        "{} {} {} {} {}",
        plural(wrong.len(), "volume", "volumes"),
        quoted(names),
        plural(wrong.len(), "uses", "use"),
        plural(types.len(), "restricted volume type", "restricted volume types"),
        quoted(types)
    );
    violation("restricted volume types", detail)
}

fn volume_type(volume: &Volume) -> &'static str {
    let all = [
        ("hostPath", volume.host_path.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("fc", volume.fc.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("storageos", volume.storageos.is_some()),
    ];
    all.into_iter().find(|(_, there)| *there).map_or("unknown", |(name, _)| name)
}

fn non_root(subject: Subject<'_>) -> Option<Violation> {
    let of_pod = pod_context(subject).and_then(|context| context.run_as_non_root);
    let names = bad(subject.spec, |context| context.run_as_non_root == Some(false));
    if let Some(who) = setters(of_pod == Some(false), &names) {
        return violation("runAsNonRoot != true", format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if of_pod == Some(true) {
        return None;
    }
    let unset = members(subject.spec).filter(|member| member.context.is_none_or(|context| context.run_as_non_root.is_none()));
    let who = setters(false, &unset.map(|member| member.name).collect::<Vec<_>>())?;
    violation("runAsNonRoot != true", format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

fn run_as_user(subject: Subject<'_>) -> Option<Violation> {
    let pod = pod_context(subject).is_some_and(|context| context.run_as_user == Some(0));
    let names = bad(subject.spec, |context| context.run_as_user == Some(0));
    let who = setters(pod, &names)?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
