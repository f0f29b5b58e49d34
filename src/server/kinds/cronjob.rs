//! CronJob: jobs by the clock.

use k8s_openapi::api::batch::v1::CronJob;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use super::{cron_rules, job_rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

/// Jobs are named after their CronJob, with eleven more characters.
const MAX_NAME: usize = 52;

kind!(CronJob: NAMESPACED { singular: "cronjob", short: &["cj"], categories: &["all"], subresources: &[Subresource::Status] }
    separate_status!();
    fn apply_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.concurrency_policy.get_or_insert_with(|| "Allow".into());
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        let template = spec.job_template.spec.get_or_insert_default();
        // Only what upstream defaults in a template of jobs: the pods', and nothing that each job decides for itself.
        super::pod::defaults::template(&mut template.template);
    }
    fn validate_name(name: &str) -> Result<(), String> {
        names::subdomain(name)?;
        if name.len() > MAX_NAME { Err(format!("must be no more than {MAX_NAME} characters")) } else { Ok(()) }
    }
    fn validate(&self, old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), &self.spec);
        let zone = spec.time_zone.as_deref();
        if rules::required(&mut errors, &path.at("schedule"), &spec.schedule) {
            let had_zone = old.is_some_and(|old| old.spec.schedule.contains("TZ"));
            cron_rules::schedule(&mut errors, &path.at("schedule"), &spec.schedule, zone, had_zone);
        }
        // What was known once may be gone from a newer database.
        if let Some(zone) = zone.filter(|_| old.is_none_or(|old| old.spec.time_zone != spec.time_zone)) {
            cron_rules::time_zone(&mut errors, &path.at("timeZone"), zone);
        }
        rules::optional_non_negative(&mut errors, &path.at("startingDeadlineSeconds"), spec.starting_deadline_seconds);
        rules::optional_non_negative(&mut errors, &path.at("successfulJobsHistoryLimit"), spec.successful_jobs_history_limit);
        rules::optional_non_negative(&mut errors, &path.at("failedJobsHistoryLimit"), spec.failed_jobs_history_limit);
        let policy = rules::str_of(&spec.concurrency_policy);
        rules::required_one_of(&mut errors, &path.at("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"]);
        let template = rules::part(&spec.job_template.spec);
        let path = path.at("jobTemplate.spec");
        job_rules::check(&mut errors, &path, &template);
        if let Some(selector) = &template.selector {
            errors.push(FieldError::invalid(path.at("selector"), selector, "`selector` will be auto-generated"));
        }
        if template.manual_selector == Some(true) {
            errors.push(FieldError::not_supported(path.at("manualSelector"), true, &["nil", "false"]));
        }
        errors
    }
    columns!(CronJob;
        "Schedule" string: "When it runs." => |one, _| print::text(&one.spec.schedule),
        "Timezone" string: "By which clock." => |one, _| print::or_none(one.spec.time_zone.as_deref()),
        "Suspend" boolean: "Whether it is paused." => |one, _| print::text(match one.spec.suspend {
            Some(true) => "True", Some(false) => "False", None => print::UNSET,
        }),
        "Active" integer: "Jobs that run now." => |one, _| print::count(rules::part(&one.status).active.as_ref().map_or(0, Vec::len)),
        "Last Schedule" string: "When it last ran." =>
            |one, now| print::ago_or_none(rules::part(&one.status).last_schedule_time.as_ref(), now),
        "Age" string: "Time since creation." => print::age,
        "Containers" string wide: "Names of its containers." => |one, _| print::container_names(print::containers_of(
            one.spec.job_template.spec.as_ref().map(|job| &job.template))),
        "Images" string wide: "Their images." => |one, _| print::container_images(print::containers_of(
            one.spec.job_template.spec.as_ref().map(|job| &job.template))),
        "Selector" string wide: "Which pods are its." => |one, _| print::text(print::selector(
            one.spec.job_template.spec.as_ref().and_then(|job| job.selector.as_ref()))),
    );
);
