//! Rules of a pod's operating system: what belongs to the other one may not be set. And of what a pod shares with its host.

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext, WindowsSecurityContextOptions};

use crate::api::pod::as_container;
use crate::api::{FieldError, names};
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

const NOT_FOR_WINDOWS: &str = "cannot be set for a windows pod";
const NOT_FOR_LINUX: &str = "windows options cannot be set for a linux pod";
const MAX_CREDENTIALS: usize = 64 * 1024;
const MAX_DOMAIN: usize = 256;
const MAX_USER: usize = 104;

/// The system that a pod names, its user namespace, and its Windows host processes.
pub fn check(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    host_processes(errors, path, spec);
    if spec.host_users == Some(false) {
        let shared = [("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc)];
        for (field, _) in shared.into_iter().filter(|(_, shared)| *shared == Some(true)) {
            errors.push(FieldError::forbidden(path.at(field), "when `pod.Spec.HostUsers` is false"));
        }
    }
    match spec.os.as_ref().map(|os| os.name.as_str()) {
        None => {}
        Some("") => errors.push(FieldError::required(path.at("os.name"), "cannot be empty")),
        Some("linux") => linux(errors, path, spec),
        Some("windows") => windows(errors, path, spec),
        Some(other) => rules::one_of(errors, &path.at("os"), other, &["linux", "windows"]),
    }
}

/// All containers with their places, as upstream visits them.
fn containers(path: &Path, spec: &PodSpec) -> Vec<(Path, Container)> {
    let init = spec.init_containers.iter().flatten().enumerate().map(|(index, one)| (path.at("initContainers").index(index), one.clone()));
    let main = spec.containers.iter().enumerate().map(|(index, one)| (path.at("containers").index(index), one.clone()));
    let ephemeral = spec.ephemeral_containers.iter().flatten().enumerate();
    let ephemeral = ephemeral.map(|(index, one)| (path.at("ephemeralContainers").index(index), as_container(one)));
    init.chain(main).chain(ephemeral).collect()
}

fn contexts(path: &Path, spec: &PodSpec) -> Vec<(Path, SecurityContext)> {
    let all = containers(path, spec).into_iter();
    all.filter_map(|(path, container)| Some((path.at("securityContext"), container.security_context?))).collect()
}

fn linux(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    if spec.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
        errors.push(FieldError::forbidden(path.at("securityContext.windowsOptions"), NOT_FOR_LINUX));
    }
    for (path, _) in contexts(path, spec).into_iter().filter(|(_, context)| context.windows_options.is_some()) {
        errors.push(FieldError::forbidden(path.at("windowsOptions"), NOT_FOR_LINUX));
    }
}

fn windows(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let context = rules::part(&spec.security_context);
    let set = [
        ("securityContext.appArmorProfile", context.app_armor_profile.is_some()),
        ("securityContext.seLinuxOptions", context.se_linux_options.is_some()),
        ("hostUsers", spec.host_users.is_some()),
        ("hostPID", spec.host_pid == Some(true)),
        ("hostIPC", spec.host_ipc == Some(true)),
        ("securityContext.seccompProfile", context.seccomp_profile.is_some()),
        ("securityContext.fsGroup", context.fs_group.is_some()),
        ("securityContext.fsGroupChangePolicy", context.fs_group_change_policy.is_some()),
        ("securityContext.sysctls", context.sysctls.as_ref().is_some_and(|sysctls| !sysctls.is_empty())),
        ("shareProcessNamespace", spec.share_process_namespace.is_some()),
        ("securityContext.runAsUser", context.run_as_user.is_some()),
        ("securityContext.runAsGroup", context.run_as_group.is_some()),
        ("securityContext.supplementalGroups", context.supplemental_groups.is_some()),
        ("securityContext.supplementalGroupsPolicy", context.supplemental_groups_policy.is_some()),
        ("securityContext.seLinuxChangePolicy", context.se_linux_change_policy.is_some()),
    ];
    let mut refuse = |path: &Path, set: &[(&str, bool)]| {
        errors.extend(set.iter().filter(|(_, set)| *set).map(|(field, _)| FieldError::forbidden(path.at(field), NOT_FOR_WINDOWS)));
    };
    refuse(path, &set);
    for (path, context) in contexts(path, spec) {
        refuse(
            &path,
            &[
                ("appArmorProfile", context.app_armor_profile.is_some()),
                ("seLinuxOptions", context.se_linux_options.is_some()),
                ("seccompProfile", context.seccomp_profile.is_some()),
                ("capabilities", context.capabilities.is_some()),
                ("readOnlyRootFilesystem", context.read_only_root_filesystem.is_some()),
                ("privileged", context.privileged.is_some()),
                ("allowPrivilegeEscalation", context.allow_privilege_escalation.is_some()),
                ("procMount", context.proc_mount.is_some()),
                ("runAsUser", context.run_as_user.is_some()),
                ("runAsGroup", context.run_as_group.is_some()),
            ],
        );
    }
}

/// Either all containers are processes of a Windows host, or none.
fn host_processes(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let asked = |options: Option<&WindowsSecurityContextOptions>| options.and_then(|options| options.host_process);
    let pod = asked(spec.security_context.as_ref().and_then(|context| context.windows_options.as_ref()));
    let all = containers(path, spec);
    let mut count = 0;
    for (path, container) in &all {
        let own = asked(container.security_context.as_ref().and_then(|context| context.windows_options.as_ref()));
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(FieldError::invalid(path.at("securityContext.windowsOptions.hostProcess"), own, why));
        }
        count += usize::from(own.or(pod) == Some(true));
    }
    if count == 0 {
        return;
    }
    if count != all.len() {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(path, "", why));
    }
    if spec.host_network != Some(true) {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(path.at("hostNetwork"), false, why));
    }
}

/// What a security context says for Windows.
pub fn windows_options(errors: &mut Errors, path: &Path, options: Option<&WindowsSecurityContextOptions>) {
    let Some(options) = options else { return };
    let mut invalid = |field: &str, value: &str, why: String| errors.push(FieldError::invalid(path.at(field), value, why));
    if let Some(name) = &options.gmsa_credential_spec_name
        && let Err(why) = names::subdomain(name)
    {
        invalid("gmsaCredentialSpecName", name, why);
    }
    match &options.gmsa_credential_spec {
        Some(text) if text.is_empty() => invalid("gmsaCredentialSpec", text, "gmsaCredentialSpec cannot be an empty string".into()),
        Some(text) if text.len() > MAX_CREDENTIALS => {
            invalid("gmsaCredentialSpec", text, "gmsaCredentialSpec size must be under 64 KiB".into());
        }
        _ => {}
    }
    for why in options.run_as_user_name.iter().flat_map(|name| user_faults(name)) {
        invalid("runAsUserName", rules::str_of(&options.run_as_user_name), why);
    }
}

/// What is wrong with `DOMAIN\USER` or `USER`.
fn user_faults(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        _ if name.is_empty() => return vec!["runAsUserName cannot be an empty string".into()],
        _ if name.chars().any(|c| c.is_ascii_control()) => return vec!["runAsUserName cannot contain control characters".into()],
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec!["runAsUserName cannot contain more than one backslash".into()],
    };
    let dns = |domain: &str| {
        let label = |label: &str| label.len() <= 63 && names::label(&label.to_ascii_lowercase()).is_ok();
        domain.split('.').all(label)
    };
    let net_bios = |domain: &str| {
        (1..=15).contains(&domain.chars().count())
            && !domain.starts_with('.')
            && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
    };
    let checks = [
        (
            domain.is_some_and(|domain| domain.len() >= MAX_DOMAIN),
            format!("runAsUserName's Domain length must be under {MAX_DOMAIN} characters"),
        ),
        (
            domain.is_some_and(|domain| !net_bios(domain) && !dns(domain)),
            "runAsUserName's Domain doesn't match the NetBios nor the DNS format".into(),
        ),
        (user.is_empty(), "runAsUserName's User cannot be empty".into()),
        (user.len() > MAX_USER, format!("runAsUserName's User length must not be longer than {MAX_USER} characters")),
        (
            !user.is_empty() && user.chars().all(|c| c == '.' || c == ' '),
            "runAsUserName's User cannot contain only periods or spaces".into(),
        ),
        (
            user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']),
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]".into(),
        ),
    ];
    checks.into_iter().filter(|(holds, _)| *holds).map(|(_, why)| why).collect()
}
