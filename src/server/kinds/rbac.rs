//! rbac.authorization.k8s.io: roles and their bindings.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Cell;

const GROUP: &str = "rbac.authorization.k8s.io";

kind!(Role: NAMESPACED { singular: "role", generation: false, update_may_create: true }
    columns!(Role; "Created At" date: "When the role was made." => |role, _| print::created_at(&role.metadata));
    fn validate_name(name: &str) -> Result<(), String> { names::path_segment(name) }
    fn validate(&self, _old: Option<&Self>) -> Errors { check_rules(self.rules.as_deref(), true) }
);

kind!(ClusterRole: CLUSTER { singular: "clusterrole", generation: false, update_may_create: true }
    columns!(ClusterRole; "Created At" date: "When the role was made." => |role, _| print::created_at(&role.metadata));
    fn validate_name(name: &str) -> Result<(), String> { names::path_segment(name) }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = check_rules(self.rules.as_deref(), false);
        let path = Path::new("aggregationRule").at("clusterRoleSelectors");
        if let Some(rule) = &self.aggregation_rule {
            let selectors = rule.cluster_role_selectors.as_deref().unwrap_or_default();
            if selectors.is_empty() {
                errors.push(FieldError::required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil"));
            }
            for (index, selector) in selectors.iter().enumerate() {
                rules::label_selector(&mut errors, &path.index(index), Some(selector));
            }
        }
        errors
    }
);

macro_rules! binding {
    ($type:ty, $base:ident, $singular:literal, namespaced: $namespaced:literal) => {
        kind!($type: $base { singular: $singular, generation: false, update_may_create: true }
            columns!($type;
                "Role" string: "The role that is granted." =>
                    |binding, _| print::text(format!("{}/{}", binding.role_ref.kind, binding.role_ref.name)),
                "Age" string: "Time since creation." => print::age,
                "Users" string wide: "Users in the binding." => |binding, _| subjects(binding.subjects.as_deref(), "User"),
                "Groups" string wide: "Groups in the binding." => |binding, _| subjects(binding.subjects.as_deref(), "Group"),
                "ServiceAccounts" string wide: "Service accounts in the binding." =>
                    |binding, _| subjects(binding.subjects.as_deref(), "ServiceAccount"),
            );
            fn apply_defaults(&mut self) { default_binding(&mut self.role_ref, self.subjects.as_mut()); }
            fn validate_name(name: &str) -> Result<(), String> { names::path_segment(name) }
            fn validate(&self, old: Option<&Self>) -> Errors {
                check_binding(&self.role_ref, old.map(|old| &old.role_ref), self.subjects.as_deref(), $namespaced)
            }
        );
    };
}

binding!(RoleBinding, NAMESPACED, "rolebinding", namespaced: true);
binding!(ClusterRoleBinding, CLUSTER, "clusterrolebinding", namespaced: false);

fn subjects(subjects: Option<&[Subject]>, kind: &str) -> Cell {
    let named = subjects.into_iter().flatten().filter(|subject| subject.kind == kind);
    let shown = named.map(|subject| match kind {
        "ServiceAccount" => format!("{}/{}", rules::str_of(&subject.namespace), subject.name),
        _ => subject.name.clone(),
    });
    print::text(shown.collect::<Vec<_>>().join(", "))
}

fn default_binding(role_ref: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    if rules::str_of(&role_ref.api_group).is_empty() {
        role_ref.api_group = Some(GROUP.into());
    }
    for subject in subjects.into_iter().flatten() {
        if rules::str_of(&subject.api_group).is_empty() && matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group = Some(GROUP.into());
        }
    }
}

fn check_rules(rules: Option<&[PolicyRule]>, namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let path = Path::new("rules").index(index);
        let (groups, resources) = (rule.api_groups.as_deref().unwrap_or_default(), rule.resources.as_deref().unwrap_or_default());
        let urls = rule.non_resource_urls.as_deref().unwrap_or_default();
        if rule.verbs.is_empty() {
            errors.push(FieldError::required(path.at("verbs"), "verbs must contain at least one value"));
        }
        if !urls.is_empty() {
            if namespaced {
                errors.push(FieldError::invalid(path.at("nonResourceURLs"), urls, "namespaced rules cannot apply to non-resource URLs"));
            }
            if !groups.is_empty() || !resources.is_empty() || rule.resource_names.as_ref().is_some_and(|names| !names.is_empty()) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(path.at("nonResourceURLs"), urls, why));
            }
            continue;
        }
        if groups.is_empty() {
            errors.push(FieldError::required(path.at("apiGroups"), "resource rules must supply at least one api group"));
        }
        if resources.is_empty() {
            errors.push(FieldError::required(path.at("resources"), "resource rules must supply at least one resource"));
        }
    }
    errors
}

fn check_binding(role_ref: &RoleRef, old: Option<&RoleRef>, subjects: Option<&[Subject]>, namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("roleRef");
    rules::one_of(&mut errors, &path.at("apiGroup"), rules::str_of(&role_ref.api_group), &[GROUP]);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    rules::one_of_listed(&mut errors, &path.at("kind"), &role_ref.kind, kinds);
    rules::required_syntax(&mut errors, &path.at("name"), &role_ref.name, names::path_segment);
    for (index, subject) in subjects.into_iter().flatten().enumerate() {
        check_subject(&mut errors, &Path::new("subjects").index(index), subject, namespaced);
    }
    if old.is_some_and(|old| old != role_ref) {
        errors.push(FieldError::invalid(&path, role_ref, "cannot change roleRef"));
    }
    errors
}

fn check_subject(errors: &mut Errors, path: &Path, subject: &Subject, namespaced: bool) {
    rules::required(errors, &path.at("name"), &subject.name);
    let group = rules::str_of(&subject.api_group);
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                rules::syntax(errors, &path.at("name"), &subject.name, names::subdomain);
            }
            rules::one_of(errors, &path.at("apiGroup"), group, &[""]);
            if !namespaced {
                rules::required(errors, &path.at("namespace"), rules::str_of(&subject.namespace));
            }
        }
        kind @ ("User" | "Group") => {
            if subject.name.is_empty() {
                let why = format!("{} name cannot be empty", kind.to_lowercase());
                errors.push(FieldError::invalid(path.at("name"), &subject.name, why));
            }
            rules::one_of(errors, &path.at("apiGroup"), group, &[GROUP]);
        }
        other => rules::one_of_listed(errors, &path.at("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}
