//! Rules of security contexts that pods and containers share, and of a pod's own.

use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec, SeccompProfile, Sysctl};

use super::{MAX_INT32, os, volumes};
use crate::api::FieldError;
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

const MAX_SYSCTL: usize = 253;
const SYSCTL_TEXT: &str = "must have at most 253 characters and match regex \
     ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// The longest path that there can be.
const MAX_PROFILE: usize = 4095;

/// User and group ids.
pub fn id(errors: &mut Errors, path: &Path, value: Option<i64>) {
    if let Some(value) = value.filter(|value| !(0..=MAX_INT32).contains(value)) {
        errors.push(FieldError::invalid(path, value, format!("must be between 0 and {MAX_INT32}, inclusive")));
    }
}

/// A seccomp profile.
pub fn seccomp(errors: &mut Errors, path: &Path, profile: Option<&SeccompProfile>) {
    let Some(profile) = profile else { return };
    match profile.type_.as_str() {
        "" => errors.push(FieldError::required(path.at("type"), "type is required when seccompProfile is set")),
        other => rules::one_of(errors, &path.at("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
    let file = path.at("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => errors.push(FieldError::required(file, "must be set when seccomp type is Localhost")),
        ("Localhost", Some(text)) => volumes::local_path(errors, &file, text),
        (_, None) => {}
        (_, Some(_)) => errors.push(FieldError::invalid(file, profile, "can only be set when seccomp type is Localhost")),
    }
}

/// An AppArmor profile.
pub fn app_armor(errors: &mut Errors, path: &Path, profile: Option<&AppArmorProfile>) {
    let Some(profile) = profile else { return };
    let file = path.at("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => errors.push(FieldError::required(file, "must be set when AppArmor type is Localhost")),
        ("Localhost", Some(text)) => {
            if text.trim() != text {
                errors.push(FieldError::invalid(&file, text, "must not be padded with whitespace"));
            } else if text.is_empty() {
                errors.push(FieldError::required(&file, "must be set when AppArmor type is Localhost"));
            }
            if text.len() > MAX_PROFILE {
                errors.push(FieldError::too_long(file, MAX_PROFILE));
            }
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("RuntimeDefault" | "Unconfined", Some(text)) => {
            errors.push(FieldError::invalid(file, text, "can only be set when AppArmor type is Localhost"));
        }
        ("", _) => errors.push(FieldError::required(path.at("type"), "type is required when appArmorProfile is set")),
        (other, _) => rules::one_of(errors, &path.at("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

/// What holds for all containers of a pod.
pub fn security(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let Some(context) = &spec.security_context else { return };
    for (field, value) in [("fsGroup", context.fs_group), ("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)] {
        id(errors, &path.at(field), value);
    }
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(errors, &path.at("supplementalGroups").index(index), Some(*group));
    }
    let policies = [
        ("fsGroupChangePolicy", &context.fs_group_change_policy, &["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", &context.supplemental_groups_policy, &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &context.se_linux_change_policy, &["MountOption", "Recursive"]),
    ];
    for (field, policy, allowed) in policies {
        if let Some(policy) = policy {
            rules::one_of(errors, &path.at(field), policy, allowed);
        }
    }
    seccomp(errors, &path.at("seccompProfile"), context.seccomp_profile.as_ref());
    app_armor(errors, &path.at("appArmorProfile"), context.app_armor_profile.as_ref());
    os::windows_options(errors, &path.at("windowsOptions"), context.windows_options.as_ref());
    sysctls(errors, &path.at("sysctls"), context.sysctls.as_deref().unwrap_or_default(), spec);
}

fn sysctls(errors: &mut Errors, path: &Path, sysctls: &[Sysctl], spec: &PodSpec) {
    for (index, sysctl) in sysctls.iter().enumerate() {
        let (path, name) = (path.index(index).at("name"), sysctl.name.as_str());
        if rules::required(errors, &path, name) {
            if !is_sysctl(name) {
                errors.push(FieldError::invalid(&path, name, SYSCTL_TEXT));
            } else if sysctls[..index].iter().any(|other| other.name == name) {
                errors.push(FieldError::duplicate(&path, name));
            }
        }
        let dotted = name.replace('/', ".");
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            errors.push(FieldError::invalid(&path, name, "may not be specified when 'hostNetwork' is true"));
        }
        let of_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| dotted.starts_with(prefix)) || dotted == "kernel.sem";
        if spec.host_ipc == Some(true) && of_ipc {
            errors.push(FieldError::invalid(&path, name, "may not be specified when 'hostIPC' is true"));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let end = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let segment = |part: &str| {
        let bytes = part.as_bytes();
        matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if end(*first) && end(*last))
            && bytes.iter().all(|b| end(*b) || matches!(b, b'-' | b'_'))
    };
    name.len() <= MAX_SYSCTL && name.split(['.', '/']).all(segment)
}
