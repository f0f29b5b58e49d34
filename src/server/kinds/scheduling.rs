//! scheduling.k8s.io and node.k8s.io: priorities, groups of pods, runtimes.

use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::scheduling::v1beta1::{PodGroup, Workload};

use super::pod;
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
        // What these are about can't be changed, or is not looked at again.
        if old.is_none() {
            let reserved = |why: String| {
                let text = format!("priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}");
                FieldError::forbidden("metadata.name", text)
            };
            match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
                Some((_, known)) if *known != value => errors.push(reserved(format!("value of {name} PriorityClass must be {known}"))),
                Some(_) if self.global_default == Some(true) => {
                    errors.push(reserved(format!("globalDefault of {name} PriorityClass must be false")));
                }
                None if name.starts_with(SYSTEM_PREFIX) => errors.push(reserved(format!("{name} is not a known system priority class"))),
                None if value > HIGHEST_USER_PRIORITY => {
                    let why = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
                    errors.push(FieldError::forbidden("value", why));
                }
                _ => {}
            }
            let policy = rules::str_of(&self.preemption_policy);
            rules::required_one_of(&mut errors, &Path::new("preemptionPolicy"), policy, &["Never", "PreemptLowerPriority"]);
        }
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
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        if let Some(old) = old {
            rules::immutable(&mut errors, &Path::new("handler"), &self.handler, &old.handler);
            return errors;
        }
        rules::syntax(&mut errors, &Path::new("handler"), &self.handler, names::label);
        if let Some(overhead) = &self.overhead {
            pod::validate::overhead(&mut errors, &Path::new("overhead"), &overhead.pod_fixed);
        }
        if let Some(scheduling) = &self.scheduling {
            let path = Path::new("scheduling");
            rules::labels(&mut errors, &path.at("nodeSelector"), scheduling.node_selector.as_ref());
            pod::validate::tolerations(&mut errors, &path.at("tolerations"), scheduling.tolerations.as_deref().unwrap_or_default());
        }
        errors
    }
    columns!(RuntimeClass;
        "Handler" string: "What the agent calls it." => |class, _| print::text(&class.handler),
        "Age" string: "Time since creation." => print::age);
);
