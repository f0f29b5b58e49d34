//! StatefulSet: pods with names and claims that stay; and ControllerRevision, its history.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};

use super::support::path::{Errors, Path};
use super::support::{intstr, print, rules};
use super::{pod, volume, workload};
use crate::api::FieldError;
use crate::server::registry::strategy::{Scale, Subresource};

const FROZEN: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
     'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

kind!(StatefulSet: NAMESPACED {
        singular: "statefulset", short: &["sts"], categories: &["all"], subresources: &[Subresource::Status, Subresource::Scale],
    }
    separate_status!();
    fn apply_defaults(&mut self) {
        let spec = &mut self.spec;
        pod::defaults::template(&mut spec.template);
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.pod_management_policy.get_or_insert_with(|| "OrderedReady".into());
        let strategy = spec.update_strategy.get_or_insert_default();
        if strategy.type_.get_or_insert_with(|| "RollingUpdate".into()) == "RollingUpdate" {
            strategy.rolling_update.get_or_insert_default().partition.get_or_insert(0);
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        retention.when_deleted.get_or_insert_with(|| "Retain".into());
        retention.when_scaled.get_or_insert_with(|| "Retain".into());
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            claim.spec.iter_mut().for_each(volume::default_claim);
            claim.status.get_or_insert_default().phase.get_or_insert_with(|| "Pending".into());
        }
    }
    fn validate(&self, old: Option<&Self>) -> Errors { check(self, old) }
    fn scale(&self) -> Option<Scale> {
        let spec = &self.spec;
        Some(Scale {
            replicas: spec.replicas.unwrap_or_default(),
            observed: rules::part(&self.status).replicas,
            selector: workload::selector_text(&spec.selector),
        })
    }
    fn set_scale(&mut self, replicas: i32) { self.spec.replicas = Some(replicas); }
    columns!(StatefulSet;
        "Ready" string: "Ready pods of the wanted." => |one, _| print::text(format!(
            "{}/{}", rules::part(&one.status).ready_replicas.unwrap_or_default(), one.spec.replicas.unwrap_or_default())),
        "Age" string: "Time since creation." => print::age,
        "Containers" string wide: "Names of its containers." =>
            |one, _| print::container_names(print::containers_of(Some(&one.spec.template))),
        "Images" string wide: "Their images." => |one, _| print::container_images(print::containers_of(Some(&one.spec.template))),
    );
);

kind!(ControllerRevision: NAMESPACED { singular: "controllerrevision", generation: false }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        rules::optional_non_negative(&mut errors, &Path::new("revision"), self.revision);
        if let Some(old) = old && self.data != old.data {
            errors.push(FieldError::invalid("data", &self.data, rules::IMMUTABLE));
        }
        errors
    }
    columns!(ControllerRevision;
        "Controller" string: "Whose revision it is." => |one, _| print::text(crate::api::meta::controller_of(&one.metadata).map_or_else(
            || print::NONE.into(),
            |owner| match owner.api_version.split_once('/') {
                Some((group, _)) => format!("{}.{group}/{}", owner.kind.to_lowercase(), owner.name),
                None => format!("{}/{}", owner.kind.to_lowercase(), owner.name),
            })),
        "Revision" integer: "Its number." => |one, _| crate::server::registry::strategy::Cell::Int(one.revision.unwrap_or_default()),
        "Age" string: "Time since creation." => print::age);
);

fn check(set: &StatefulSet, old: Option<&StatefulSet>) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &set.spec);
    workload::counts(
        &mut errors,
        &path,
        &[("replicas", spec.replicas), ("minReadySeconds", spec.min_ready_seconds), ("revisionHistoryLimit", spec.revision_history_limit)],
    );
    workload::selector_and_template(&mut errors, &path, &spec.selector, &spec.template, "statefulset");
    workload::always_restarts(&mut errors, &path, &spec.template, "StatefulSet");
    rules::required_one_of(
        &mut errors,
        &path.at("podManagementPolicy"),
        rules::str_of(&spec.pod_management_policy),
        &["OrderedReady", "Parallel"],
    );
    if let Some(strategy) = &spec.update_strategy {
        let path = path.at("updateStrategy");
        rules::required_one_of(&mut errors, &path.at("type"), rules::str_of(&strategy.type_), &["OnDelete", "RollingUpdate"]);
        if let Some(rolling) = &strategy.rolling_update {
            if strategy.type_.as_deref() == Some("OnDelete") {
                let why = "only allowed for updateStrategy 'RollingUpdate'";
                errors.push(FieldError::invalid(path.at("rollingUpdate"), rolling, why));
            }
            rules::optional_non_negative(&mut errors, &path.at("rollingUpdate.partition"), rolling.partition);
            if let Some(value) = &rolling.max_unavailable {
                intstr::check(&mut errors, &path.at("rollingUpdate.maxUnavailable"), value);
                if intstr::is_zero(Some(value)) {
                    errors.push(FieldError::invalid(path.at("rollingUpdate.maxUnavailable"), value, "cannot be 0"));
                }
            }
        }
    }
    if let Some(retention) = &spec.persistent_volume_claim_retention_policy {
        let path = path.at("persistentVolumeClaimRetentionPolicy");
        for (field, value) in [("whenDeleted", &retention.when_deleted), ("whenScaled", &retention.when_scaled)] {
            rules::optional_one_of(&mut errors, &path.at(field), value, &["Delete", "Retain"]);
        }
    }
    if let Some(old) = old {
        let (mut new, old) = (spec.clone(), &old.spec);
        new.replicas = old.replicas;
        new.ordinals = old.ordinals.clone();
        new.template = old.template.clone();
        new.update_strategy = old.update_strategy.clone();
        new.revision_history_limit = old.revision_history_limit;
        new.persistent_volume_claim_retention_policy = old.persistent_volume_claim_retention_policy.clone();
        new.min_ready_seconds = old.min_ready_seconds;
        if new != *old {
            errors.push(FieldError::forbidden(&path, FROZEN));
        }
    }
    errors
}
