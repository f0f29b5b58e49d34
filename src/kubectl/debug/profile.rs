//! What a container to debug with may do, and what a copied pod keeps. Pure; follows `kubectl/pkg/cmd/debug/profiles.go`.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

/// The profiles of upstream.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// As before there were profiles.
    Legacy,
    /// May trace processes.
    General,
    /// What the baseline standard of pod security allows.
    Baseline,
    /// What the restricted standard allows.
    Restricted,
    /// May change the network.
    Netadmin,
    /// Privileged.
    Sysadmin,
}

/// What a copy keeps of its pod.
#[derive(Args, Clone, Debug)]
pub struct Keep {
    /// With --copy-to: keep the labels
    #[arg(long)]
    pub keep_labels: bool,
    /// With --copy-to: keep the annotations
    #[arg(long)]
    pub keep_annotations: bool,
    /// With --copy-to: keep liveness probes
    #[arg(long)]
    pub keep_liveness: bool,
    /// With --copy-to: keep readiness probes
    #[arg(long)]
    pub keep_readiness: bool,
    /// With --copy-to: keep startup probes
    #[arg(long)]
    pub keep_startup: bool,
    /// With --copy-to: run the init containers
    #[arg(long, num_args = 0..=1, default_value = "true", default_missing_value = "true", require_equals = true)]
    pub keep_init_containers: bool,
}

impl Profile {
    /// Gives a container what the profile allows.
    pub fn apply(self, container: &mut Value) {
        let mut grant = |names: &[&str]| {
            let had = container["securityContext"]["capabilities"]["add"].as_array().cloned().unwrap_or_default();
            let all: Vec<Value> = had.into_iter().chain(names.iter().map(|name| (*name).into())).collect();
            container["securityContext"]["capabilities"]["add"] = Value::Array(all);
        };
        match self {
            Profile::Legacy => {}
            Profile::General => grant(&["SYS_PTRACE"]),
            Profile::Netadmin => grant(&["NET_ADMIN", "NET_RAW"]),
            Profile::Sysadmin => container["securityContext"]["privileged"] = true.into(),
            Profile::Baseline => drop(container.as_object_mut().map(|fields| fields.remove("securityContext"))),
            Profile::Restricted => {
                container["securityContext"] = json!({
                    "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false,
                    "seccompProfile": {"type": "RuntimeDefault"},
                });
            }
        }
    }

    /// Gives a pod what the profile allows of its node: its namespaces, and its files at `/host` in the container. The general profile adds no
    /// capability there.
    pub fn open_node(self, spec: &mut Value, container: &mut Value) {
        if self != Profile::General {
            self.apply(container);
        }
        if matches!(self, Profile::Baseline | Profile::Restricted) {
            return;
        }
        for namespace in ["hostNetwork", "hostPID", "hostIPC"] {
            spec[namespace] = true.into();
        }
        if self != Profile::Netadmin {
            spec["volumes"] = json!([{"name": "host-root", "hostPath": {"path": "/"}}]);
            container["volumeMounts"] = json!([{"mountPath": "/host", "name": "host-root"}]);
        }
    }

    /// Takes from a copy what it is not to keep, so that it does not stand in for its pod. All but the oldest profile share processes.
    pub fn strip(self, copy: &mut Value, keep: &Keep) {
        let remove = |from: &mut Value, field: &str| drop(from.as_object_mut().map(|fields| fields.remove(field)));
        if self == Profile::Legacy {
            return remove(&mut copy["metadata"], "labels");
        }
        for (kept, field) in [(keep.keep_labels, "labels"), (keep.keep_annotations, "annotations")] {
            if !kept {
                remove(&mut copy["metadata"], field);
            }
        }
        let probes = [(keep.keep_liveness, "livenessProbe"), (keep.keep_readiness, "readinessProbe"), (keep.keep_startup, "startupProbe")];
        for container in copy["spec"]["containers"].as_array_mut().into_iter().flatten() {
            probes.iter().filter(|(kept, _)| !kept).for_each(|(_, field)| remove(container, field));
        }
        if !keep.keep_init_containers {
            remove(&mut copy["spec"], "initContainers");
        }
        if copy["spec"]["shareProcessNamespace"].is_null() {
            copy["spec"]["shareProcessNamespace"] = true.into();
        }
    }
}
