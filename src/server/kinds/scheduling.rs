//! scheduling.k8s.io and node.k8s.io: priorities, groups of pods, runtimes.

use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::scheduling::v1beta1::{PodGroup, Workload};

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

const HIGHEST_USER_PRIORITY: i32 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
const SYSTEM_CLASSES: &[(&str, i32)] =
    &[("system-node-critical", 2 * HIGHEST_USER_PRIORITY + 1000), ("system-cluster-critical", 2 * HIGHEST_USER_PRIORITY)];

kind!(PriorityClass: CLUSTER { singular: "priorityclass", short: &["pc"] }
    fn apply_defaults(&mut self) { self.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".into()); }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (name, value) = (self.metadata.name.as_deref().unwrap_or_default(), self.value.unwrap_or_default());
        match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
            Some((_, known)) if *known != value => {
                errors.push(FieldError::forbidden("metadata.name", format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: \
                     value of {name} PriorityClass must be {known}"
                )));
            }
            None if name.starts_with(SYSTEM_PREFIX) => errors.push(FieldError::forbidden("metadata.name", format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: \
                 {name} is not a known system priority class"
            ))),
            None if value > HIGHEST_USER_PRIORITY => errors.push(FieldError::forbidden("value", format!(
                "maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
            ))),
            _ => {}
        }
        rules::optional_one_of(&mut errors, &Path::new("preemptionPolicy"), &self.preemption_policy, &["Never", "PreemptLowerPriority"]);
        if let Some(old) = old {
            if self.value.unwrap_or_default() != old.value.unwrap_or_default() {
                errors.push(FieldError::forbidden("value", "may not be changed in an update."));
            }
            rules::immutable(&mut errors, &Path::new("preemptionPolicy"), &self.preemption_policy, &old.preemption_policy);
        }
        errors
    }
    columns!(PriorityClass;
        "Value" integer: "The priority of its pods." => |class, _| print::int(class.value),
        "Global-Default" boolean: "Whether pods without a class get it." =>
            |class, _| print::text(class.global_default.unwrap_or_default().to_string()),
        "Age" string: "Time since creation." => print::age,
        "PreemptionPolicy" string: "Whether its pods displace others." => |class, _| print::opt(&class.preemption_policy),
    );
);

kind!(PodGroup: NAMESPACED { singular: "podgroup", subresources: &[Subresource::Status] }
    separate_status!();
    columns!(PodGroup; "Age" string: "Time since creation." => print::age);
);

kind!(Workload: NAMESPACED { singular: "workload", short: &["wl"] }
    columns!(Workload; "Age" string: "Time since creation." => print::age);
);

kind!(RuntimeClass: CLUSTER { singular: "runtimeclass", generation: false }
    fn apply_defaults(&mut self) {
        for toleration in self.scheduling.iter_mut().flat_map(|scheduling| scheduling.tolerations.iter_mut().flatten()) {
            toleration.operator.get_or_insert_with(|| "Equal".into());
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        rules::syntax(&mut errors, &Path::new("handler"), &self.handler, names::label);
        if let Some(overhead) = &self.overhead {
            rules::resource_list(&mut errors, &Path::new("overhead").at("podFixed"), overhead.pod_fixed.as_ref());
        }
        if let Some(scheduling) = &self.scheduling {
            rules::labels(&mut errors, &Path::new("scheduling").at("nodeSelector"), scheduling.node_selector.as_ref());
        }
        if let Some(old) = old {
            rules::immutable(&mut errors, &Path::new("handler"), &self.handler, &old.handler);
        }
        errors
    }
    columns!(RuntimeClass;
        "Handler" string: "What the agent calls it." => |class, _| print::text(&class.handler),
        "Age" string: "Time since creation." => print::age);
);
