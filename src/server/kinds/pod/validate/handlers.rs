//! Rules of probes and lifecycle hooks: exactly one handler, well formed.

use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, PodSpec, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::{FieldError, names};
use crate::server::kinds::support::path::{Errors, Path};
use crate::server::kinds::support::rules;

/// The hooks and probes of one container.
pub fn check_all(errors: &mut Errors, path: &Path, container: &Container, pod: &PodSpec) {
    let grace = pod.termination_grace_period_seconds;
    if let Some(lifecycle) = &container.lifecycle {
        for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(hook) = hook {
                lifecycle_handler(errors, &path.at("lifecycle").at(field), hook, grace);
            }
        }
    }
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    for (field, probe) in probes {
        let Some(probe) = probe else { continue };
        let path = path.at(field);
        check_probe(errors, &path, probe);
        if field == "readinessProbe" {
            if let Some(seconds) = probe.termination_grace_period_seconds {
                let why = "must not be set for readinessProbes";
                errors.push(FieldError::invalid(path.at("terminationGracePeriodSeconds"), seconds, why));
            }
        } else if let Some(threshold) = probe.success_threshold.filter(|threshold| *threshold != 1) {
            errors.push(FieldError::invalid(path.at("successThreshold"), threshold, "must be 1"));
        }
    }
}

#[derive(Default)]
struct Handlers<'a> {
    exec: Option<&'a ExecAction>,
    http: Option<&'a HTTPGetAction>,
    tcp: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<i64>,
    /// How long the pod may take to end, which sleeping may not pass.
    grace: Option<i64>,
}

fn lifecycle_handler(errors: &mut Errors, path: &Path, hook: &LifecycleHandler, grace: Option<i64>) {
    let sleep = hook.sleep.as_ref().map(|sleep| sleep.seconds);
    let (exec, http, tcp) = (hook.exec.as_ref(), hook.http_get.as_ref(), hook.tcp_socket.as_ref());
    let all = Handlers { exec, http, tcp, grpc: None, sleep, grace };
    handlers(errors, path, &all);
}

fn check_probe(errors: &mut Errors, path: &Path, probe: &Probe) {
    let all = Handlers {
        exec: probe.exec.as_ref(),
        http: probe.http_get.as_ref(),
        tcp: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        ..Handlers::default()
    };
    handlers(errors, path, &all);
    let counts = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, value) in counts {
        rules::optional_non_negative(errors, &path.at(field), value);
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid(path.at("terminationGracePeriodSeconds"), seconds, "must be greater than 0"));
    }
}

fn handlers(errors: &mut Errors, path: &Path, all: &Handlers<'_>) {
    let mut count = 0;
    let mut first = |errors: &mut Errors, field: &str, there: bool| {
        count += usize::from(there);
        if there && count > 1 {
            errors.push(FieldError::forbidden(path.at(field), "may not specify more than 1 handler type"));
        }
        there && count == 1
    };
    if first(errors, "exec", all.exec.is_some()) && all.exec.is_some_and(|exec| exec.command.as_ref().is_none_or(Vec::is_empty)) {
        errors.push(FieldError::required(path.at("exec.command"), ""));
    }
    if first(errors, "httpGet", all.http.is_some())
        && let Some(action) = all.http
    {
        http(errors, &path.at("httpGet"), action);
    }
    if first(errors, "tcpSocket", all.tcp.is_some())
        && let Some(action) = all.tcp
    {
        port(errors, &path.at("tcpSocket.port"), &action.port);
    }
    if first(errors, "grpc", all.grpc.is_some())
        && let Some(action) = all.grpc
    {
        rules::port_number(errors, &path.at("grpc.port"), action.port);
    }
    if first(errors, "sleep", all.sleep.is_some())
        && let Some(seconds) = all.sleep
    {
        let grace = all.grace.unwrap_or(i64::MAX);
        if !(0..=grace).contains(&seconds) {
            let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            errors.push(FieldError::invalid(path.at("sleep"), seconds, why));
        }
    }
    if count == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http(errors: &mut Errors, path: &Path, action: &HTTPGetAction) {
    rules::required(errors, &path.at("path"), rules::str_of(&action.path));
    port(errors, &path.at("port"), &action.port);
    rules::one_of(errors, &path.at("scheme"), rules::str_of(&action.scheme), &["HTTP", "HTTPS"]);
    for header in action.http_headers.iter().flatten() {
        let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if header.name.is_empty() || !header.name.bytes().all(token) {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for \
                       validation is '[-A-Za-z0-9]+')";
            errors.push(FieldError::invalid(path.at("httpHeaders"), &header.name, why));
        }
    }
}

fn port(errors: &mut Errors, path: &Path, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => rules::port_number(errors, path, *number),
        IntOrString::String(name) => rules::syntax(errors, path, name, names::port_name),
    }
}
