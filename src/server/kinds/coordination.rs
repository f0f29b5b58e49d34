//! coordination.k8s.io: leases.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::coordination::v1beta1::LeaseCandidate;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};

kind!(Lease: NAMESPACED { singular: "lease", generation: false, update_may_create: true }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), rules::part(&self.spec));
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.push(FieldError::invalid(path.at("leaseDurationSeconds"), seconds, "must be greater than 0"));
        }
        rules::optional_non_negative(&mut errors, &path.at("leaseTransitions"), spec.lease_transitions);
        if let Some(strategy) = &spec.strategy {
            check_strategy(&mut errors, &path.at("strategy"), strategy);
        }
        if spec.preferred_holder.as_ref().is_some_and(|holder| !holder.is_empty()) && spec.strategy.as_ref().is_none_or(String::is_empty) {
            errors.push(FieldError::forbidden(path.at("preferredHolder"), "may only be specified if `strategy` is defined"));
        }
        errors
    }
    columns!(Lease;
        "Holder" string: "Who holds it." => |lease, _| print::opt(&rules::part(&lease.spec).holder_identity),
        "Age" string: "Time since creation." => print::age);
);

/// Kubernetes' own strategy, or one with a domain. Upstream names the field twice.
fn check_strategy(errors: &mut Errors, path: &Path, strategy: &str) {
    if strategy.contains('/') {
        rules::syntax(errors, &path.at("strategy"), strategy, names::qualified);
    } else {
        rules::one_of(errors, &path.at("strategy"), strategy, &["OldestEmulationVersion"]);
    }
}

kind!(LeaseCandidate: NAMESPACED { singular: "leasecandidate", generation: false, update_may_create: true }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), &self.spec);
        rules::required_syntax(&mut errors, &path.at("leaseName"), &spec.lease_name, names::subdomain);
        rules::required(&mut errors, &path.at("binaryVersion"), &spec.binary_version);
        if rules::required(&mut errors, &path.at("strategy"), &spec.strategy) {
            check_strategy(&mut errors, &path.at("strategy"), &spec.strategy);
        }
        if let Some(old) = old {
            rules::immutable(&mut errors, &path.at("leaseName"), &spec.lease_name, &old.spec.lease_name);
        }
        errors
    }
    columns!(LeaseCandidate;
        "LeaseName" string: "The lease it stands for." => |one, _| print::text(&one.spec.lease_name),
        "BinaryVersion" string: "Its version." => |one, _| print::text(&one.spec.binary_version),
        "EmulationVersion" string: "The version it imitates." => |one, _| print::opt(&one.spec.emulation_version),
        "Strategy" string: "How the holder is chosen." => |one, _| print::text(&one.spec.strategy),
        "Age" string: "Time since creation." => print::age);
);
