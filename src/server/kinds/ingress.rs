//! Ingress: HTTP routes into the cluster.

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressTLS};

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

kind!(Ingress: NAMESPACED { singular: "ingress", short: &["ing"], subresources: &[Subresource::Status] }
    separate_status!();
    fn validate(&self, old: Option<&Self>) -> Errors { check(self, old) }
    fn validate_status(&self, _old: &Self) -> Errors { check_status(self) }
    columns!(Ingress;
        "Class" string: "Who serves it." => |ingress, _| {
            let annotation = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS));
            let spec = rules::part(&ingress.spec);
            print::or_none(spec.ingress_class_name.as_ref().or(annotation).map(String::as_str))
        },
        "Hosts" string: "Hosts it answers for." => |ingress, _| print::text(hosts(ingress)),
        "Address" string: "Where it is reached." => |ingress, _| {
            let status = rules::part(&ingress.status);
            let points = status.load_balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
            let mut all: Vec<&str> = points.filter_map(|point| point.ip.as_deref().or(point.hostname.as_deref())).collect();
            all.sort_unstable();
            all.dedup();
            print::text(all.join(","))
        },
        "Ports" string: "Its ports." => |ingress, _| {
            let tls = rules::part(&ingress.spec).tls.as_ref().is_some_and(|tls| !tls.is_empty());
            print::text(if tls { "80, 443" } else { "80" })
        },
        "Age" string: "Time since creation." => print::age,
    );
);

fn hosts(ingress: &Ingress) -> String {
    let spec = rules::part(&ingress.spec);
    let hosts: Vec<String> = spec.rules.iter().flatten().filter_map(|rule| rule.host.clone()).filter(|host| !host.is_empty()).collect();
    if hosts.is_empty() { "*".into() } else { print::first_three(&hosts) }
}

/// The annotation that named a class before there was a field.
const CLASS: &str = "kubernetes.io/ingress.class";

fn check(ingress: &Ingress, old: Option<&Ingress>) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), rules::part(&ingress.spec));
    let no_rules = spec.rules.as_ref().is_none_or(Vec::is_empty);
    if no_rules && spec.default_backend.is_none() {
        errors.push(FieldError::invalid(&path, &*spec, "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(backend) = &spec.default_backend {
        check_backend(&mut errors, &path.at("defaultBackend"), backend);
    }
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        let path = path.at("rules").index(index);
        check_host(&mut errors, &path.at("host"), rules::str_of(&rule.host));
        let Some(http) = &rule.http else { continue };
        if http.paths.is_empty() {
            errors.push(FieldError::required(path.at("http.paths"), ""));
        }
        for (index, route) in http.paths.iter().enumerate() {
            check_route(&mut errors, &path.at("http.paths").index(index), route);
        }
    }
    // A wrong name that is stored already may stay.
    let lenient = old.and_then(|old| old.spec.as_ref()).is_some_and(|old| old.tls.iter().flatten().any(|tls| secret_name(tls).is_err()));
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        check_tls(&mut errors, &path.at("tls").index(index), tls, lenient);
    }
    let class = spec.ingress_class_name.as_deref();
    if let Some(class) = class {
        rules::syntax(&mut errors, &path.at("ingressClassName"), class, names::subdomain);
    }
    let annotated = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS));
    if let (None, Some(annotated), Some(class)) = (old, annotated, class)
        && annotated != class
    {
        let why = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(Path::new("annotations").at(CLASS), annotated, why));
    }
    errors
}

fn check_status(ingress: &Ingress) -> Errors {
    let mut errors = Errors::new();
    let status = rules::part(&ingress.status);
    let points = status.load_balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    for (index, point) in points.enumerate() {
        let path = Path::new("status").at("loadBalancer.ingress").index(index);
        rules::optional_syntax(&mut errors, &path.at("ip"), &point.ip, names::ip);
        rules::optional_syntax(&mut errors, &path.at("hostname"), &point.hostname, names::subdomain);
        if let Some(host) = point.hostname.as_deref().filter(|host| host.parse::<std::net::IpAddr>().is_ok()) {
            errors.push(FieldError::invalid(path.at("hostname"), host, "must be a DNS name, not an IP address"));
        }
    }
    errors
}

fn check_host(errors: &mut Errors, path: &Path, host: &str) {
    if host.parse::<std::net::IpAddr>().is_ok() {
        errors.push(FieldError::invalid(path, host, "must be a DNS name, not an IP address"));
    }
    match host {
        "" => {}
        wild if wild.contains('*') => rules::syntax(errors, path, wild, names::wildcard_subdomain),
        plain => rules::syntax(errors, path, plain, names::subdomain),
    }
}

fn secret_name(tls: &IngressTLS) -> Result<(), String> {
    tls.secret_name.as_deref().filter(|name| !name.is_empty()).map_or(Ok(()), names::subdomain)
}

fn check_tls(errors: &mut Errors, path: &Path, tls: &IngressTLS, lenient: bool) {
    for (index, host) in tls.hosts.iter().flatten().enumerate() {
        let rule = if host.contains('*') { names::wildcard_subdomain } else { names::subdomain };
        rules::syntax(errors, &path.at("hosts").index(index), host, rule);
    }
    if let (Err(why), false) = (secret_name(tls), lenient) {
        errors.push(FieldError::invalid(path.at("secretName"), &tls.secret_name, why));
    }
}

fn check_route(errors: &mut Errors, path: &Path, route: &HTTPIngressPath) {
    let (text, kind) = (rules::str_of(&route.path), route.path_type.as_str());
    match kind {
        "" => {
            errors.push(FieldError::required(path.at("pathType"), "pathType must be specified"));
            return;
        }
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(FieldError::invalid(path.at("path"), text, "must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(bad) {
                    errors.push(FieldError::invalid(path.at("path"), text, format!("must not contain '{bad}'")));
                }
            }
            for bad in ["/..", "/."] {
                if text.ends_with(bad) {
                    errors.push(FieldError::invalid(path.at("path"), text, format!("cannot end with '{bad}'")));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.push(FieldError::invalid(path.at("path"), text, "must be an absolute path"));
            }
        }
        other => rules::one_of(errors, &path.at("pathType"), other, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    check_backend(errors, &path.at("backend"), &route.backend);
}

fn check_backend(errors: &mut Errors, path: &Path, backend: &IngressBackend) {
    match (&backend.service, &backend.resource) {
        (Some(_), Some(_)) => errors.push(FieldError::invalid(path, "", "cannot set both resource and service backends")),
        (None, None) => errors.push(FieldError::invalid(path, "", "resource or service backend is required")),
        (None, Some(resource)) => {
            rules::reference(errors, &path.at("resource"), resource.api_group.as_deref(), &resource.kind, &resource.name);
        }
        (Some(service), None) => {
            rules::required_syntax(errors, &path.at("service.name"), &service.name, names::dns1035_label);
            let port = rules::part(&service.port);
            match (rules::str_of(&port.name), port.number.unwrap_or_default()) {
                ("", 0) => errors.push(FieldError::required(path, "port name or number is required")),
                ("", number) => rules::port_number(errors, &path.at("service.port.number"), number),
                (name, 0) => rules::syntax(errors, &path.at("service.port.name"), name, names::port_name),
                _ => errors.push(FieldError::invalid(path, "", "cannot set both port name & port number")),
            }
        }
    }
}
