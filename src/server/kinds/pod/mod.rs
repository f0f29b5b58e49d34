//! Pod, and what all kinds with a pod template share: defaults and rules of a pod's spec.

pub mod columns;
pub mod defaults;
mod subresources;
mod update;
pub mod validate;

use k8s_openapi::api::core::v1::{Pod, PodCondition};

use super::support::path::Errors;
use super::support::rules;
use crate::api::pod::qos_class;
use crate::server::registry::strategy::{Column, Info, Strategy, Subresource};

/// Upstream's grace period where the pod names none.
const DEFAULT_GRACE: i64 = 30;

impl Strategy for Pod {
    const INFO: Info = Info {
        returns_deleted: true,
        singular: "pod",
        short: &["po"],
        categories: &["all"],
        subresources: &[Subresource::Status],
        ..Info::NAMESPACED
    };

    const FIELDS: &'static [&'static str] = &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ];

    fn field(&self, path: &str) -> Option<String> {
        let (spec, status) = (rules::part(&self.spec), rules::part(&self.status));
        let value = match path {
            "spec.nodeName" => &spec.node_name,
            "spec.restartPolicy" => &spec.restart_policy,
            "spec.schedulerName" => &spec.scheduler_name,
            "spec.serviceAccountName" => &spec.service_account_name,
            "spec.hostNetwork" => return Some(spec.host_network.unwrap_or_default().to_string()),
            "status.phase" => &status.phase,
            "status.podIP" => &status.pod_ip,
            "status.nominatedNodeName" => &status.nominated_node_name,
            _ => return None,
        };
        Some(value.clone().unwrap_or_default())
    }

    fn apply_defaults(&mut self) {
        defaults::spec(self.spec.get_or_insert_default());
    }

    fn prepare_create(&mut self) {
        let spec = rules::part(&self.spec);
        let qos = qos_class(&spec);
        let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
        let status = self.status.insert(Default::default());
        status.phase = Some("Pending".into());
        status.qos_class = Some(qos.into());
        if gated {
            status.conditions = Some(vec![PodCondition {
                type_: "PodScheduled".into(),
                status: "False".into(),
                reason: Some("SchedulingGated".into()),
                message: Some("Scheduling is blocked due to non-empty scheduling gates".into()),
                ..Default::default()
            }]);
        }
    }

    fn prepare_update(&mut self, old: &Self) {
        self.status = old.status.clone();
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec = old.spec.clone();
        // The class is decided once; agents that send a status without it do not unset it.
        if let (Some(new), Some(old)) = (&mut self.status, &old.status)
            && new.qos_class.is_none()
        {
            new.qos_class = old.qos_class.clone();
        }
    }

    fn validate(&self, old: Option<&Self>) -> Errors {
        match old {
            None => validate::pod(self),
            Some(old) => update::check(self, old),
        }
    }

    fn validate_status(&self, old: &Self) -> Errors {
        update::check_status(self, old)
    }

    fn prepare_subresource(&mut self, old: &Self, name: &str) {
        subresources::prepare(self, old, name);
    }

    fn validate_subresource(&self, old: &Self, name: &str) -> Errors {
        subresources::check(self, old, name)
    }

    fn columns() -> &'static [Column<Self>] {
        columns::POD
    }

    fn grace(&self, requested: Option<i64>) -> Option<i64> {
        let (spec, status) = (rules::part(&self.spec), rules::part(&self.status));
        let finished = matches!(rules::str_of(&status.phase), "Succeeded" | "Failed");
        if rules::str_of(&spec.node_name).is_empty() || finished {
            return Some(0);
        }
        let seconds = requested.or(spec.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE);
        // A negative period means "at once, but as if graceful", as upstream.
        Some(if seconds < 0 { 1 } else { seconds })
    }
}
