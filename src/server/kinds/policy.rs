//! policy: PodDisruptionBudget.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::support::path::{Errors, Path};
use super::support::{intstr, print, rules};
use crate::api::FieldError;
use crate::server::registry::strategy::Subresource;

kind!(PodDisruptionBudget: NAMESPACED { singular: "poddisruptionbudget", short: &["pdb"], subresources: &[Subresource::Status] }
    separate_status!();
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            errors.push(FieldError::invalid(&path, &*spec, "minAvailable and maxUnavailable cannot be both set"));
        }
        for (field, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
            if let Some(value) = value {
                intstr::check(&mut errors, &path.at(field), value);
                intstr::check_at_most_100(&mut errors, &path.at(field), value);
            }
        }
        rules::label_selector(&mut errors, &path.at("selector"), spec.selector.as_ref());
        rules::optional_one_of(
            &mut errors, &path.at("unhealthyPodEvictionPolicy"), &spec.unhealthy_pod_eviction_policy, &["AlwaysAllow", "IfHealthyBudget"],
        );
        errors
    }
    fn validate_status(&self, _old: &Self) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (path, status) = (Path::new("status"), rules::part(&self.status));
        rules::conditions(&mut errors, &path.at("conditions"), status.conditions.as_deref().unwrap_or_default());
        let counts = [
            ("disruptionsAllowed", status.disruptions_allowed), ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy), ("expectedPods", status.expected_pods),
        ];
        for (field, value) in counts {
            rules::optional_non_negative(&mut errors, &path.at(field), value);
        }
        errors
    }
    columns!(PodDisruptionBudget;
        "Min Available" string: "How many must stay." => |one, _| print::text(or_na(&rules::part(&one.spec).min_available)),
        "Max Unavailable" string: "How many may be gone." => |one, _| print::text(or_na(&rules::part(&one.spec).max_unavailable)),
        "Allowed Disruptions" integer: "How many may go now." => |one, _| print::int(rules::part(&one.status).disruptions_allowed),
        "Age" string: "Time since creation." => print::age,
    );
);

fn or_na(value: &Option<IntOrString>) -> String {
    value.as_ref().map_or_else(|| "N/A".into(), print::int_or_string)
}
