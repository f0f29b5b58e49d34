//! networking.k8s.io but for Ingress and NetworkPolicy: classes and addresses.

use k8s_openapi::api::networking::v1::{IPAddress, IngressClass, IngressClassParametersReference, ServiceCIDR};

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

/// Bytes of a controller's name.
const MAX_CONTROLLER: usize = 250;

kind!(IngressClass: CLUSTER { singular: "ingressclass" }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        let controller = rules::str_of(&spec.controller);
        if controller.len() > MAX_CONTROLLER {
            errors.push(FieldError::too_long(path.at("controller"), MAX_CONTROLLER));
        }
        rules::domain_prefixed_path(&mut errors, &path.at("controller"), controller);
        if let Some(parameters) = &spec.parameters {
            check_parameters(&mut errors, &path.at("parameters"), parameters);
        }
        if let Some(old) = old {
            rules::immutable(&mut errors, &path.at("controller"), &spec.controller, &rules::part(&old.spec).controller);
        }
        errors
    }
    fn apply_defaults(&mut self) {
        if let Some(parameters) = self.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".into());
        }
    }
    columns!(IngressClass;
        "Controller" string: "Who acts on it." => |class, _| print::opt(&rules::part(&class.spec).controller),
        "Parameters" string: "Its parameters." => |class, _| print::text(rules::part(&class.spec).parameters.as_ref().map_or_else(
            || print::NONE.into(), |to| match &to.api_group {
                Some(group) => format!("{}.{group}/{}", to.kind, to.name),
                None => format!("{}/{}", to.kind, to.name),
            })),
        "Age" string: "Time since creation." => print::age);
);

fn check_parameters(errors: &mut Errors, path: &Path, to: &IngressClassParametersReference) {
    rules::reference(errors, path, to.api_group.as_deref(), &to.kind, &to.name);
    match (rules::str_of(&to.scope), &to.namespace) {
        ("Namespace", None) => errors.push(FieldError::required(path.at("namespace"), "`parameters.scope` is set to 'Namespace'")),
        ("Namespace", Some(namespace)) => rules::syntax(errors, &path.at("namespace"), namespace, names::label),
        ("Cluster", Some(_)) => errors.push(FieldError::forbidden(path.at("namespace"), "`parameters.scope` is set to 'Cluster'")),
        ("Cluster", None) => {}
        (other, _) => rules::one_of(errors, &path.at("scope"), other, &["Cluster", "Namespace"]),
    }
}

kind!(ServiceCIDR: CLUSTER { singular: "servicecidr", generation: false, subresources: &[Subresource::Status] }
    separate_status!();
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec").at("cidrs"), rules::part(&self.spec));
        let cidrs = spec.cidrs.as_deref().unwrap_or_default();
        if cidrs.is_empty() {
            errors.push(FieldError::required(&path, "at least one CIDR required"));
        }
        if cidrs.len() > 2 {
            errors.push(FieldError::invalid(&path, cidrs, "may only hold up to 2 values"));
        }
        for (index, cidr) in cidrs.iter().enumerate() {
            rules::syntax(&mut errors, &path.index(index), cidr, names::cidr);
        }
        if let Some(old) = old {
            rules::immutable(&mut errors, &path, &spec.cidrs, &rules::part(&old.spec).cidrs);
        }
        errors
    }
    columns!(ServiceCIDR;
        "CIDRs" string: "The ranges." => |one, _| print::text(rules::part(&one.spec).cidrs.clone().unwrap_or_default().join(",")),
        "Age" string: "Time since creation." => print::age);
);

kind!(IPAddress: CLUSTER { singular: "ipaddress", short: &["ip"], generation: false }
    const FIELDS: &'static [&'static str] = &["spec.parentRef.name"];
    fn field(&self, path: &str) -> Option<String> {
        (path == "spec.parentRef.name").then(|| self.spec.parent_ref.name.clone())
    }
    fn validate_name(name: &str) -> Result<(), String> {
        match name.parse::<std::net::IpAddr>() {
            Ok(ip) if ip.to_string() == name => Ok(()),
            Ok(_) => Err("must be in canonical format".into()),
            Err(_) => names::ip(name),
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec").at("parentRef"), &self.spec);
        rules::required(&mut errors, &path.at("resource"), &spec.parent_ref.resource);
        rules::required(&mut errors, &path.at("name"), &spec.parent_ref.name);
        if let Some(old) = old {
            rules::immutable(&mut errors, &path, &spec.parent_ref, &old.spec.parent_ref);
        }
        errors
    }
    columns!(IPAddress;
        "ParentRef" string: "Who uses it." => |one, _| {
            let spec = &one.spec;
            let parent = &spec.parent_ref;
            let resource = crate::api::status::qualified(rules::str_of(&parent.group), &parent.resource);
            print::text(match rules::str_of(&parent.namespace) {
                "" => format!("{resource}/{}", parent.name),
                namespace => format!("{resource}/{namespace}/{}", parent.name),
            })
        },
        "Age" string: "Time since creation." => print::age,
    );
);
