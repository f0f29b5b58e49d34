//! CronJob: jobs by the clock.

use k8s_openapi::api::batch::v1::CronJob;

use super::job_rules;
use super::support::path::{Errors, Path};
use super::support::{print, rules};
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
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let (path, spec) = (Path::new("spec"), &self.spec);
        if rules::required(&mut errors, &path.at("schedule"), &spec.schedule) {
            check_schedule(&mut errors, &path.at("schedule"), &spec.schedule);
        }
        if spec.time_zone.as_deref() == Some("") {
            errors.push(FieldError::invalid(path.at("timeZone"), "", "timeZone must be nil or non-empty string"));
        } else if let Some(zone) = &spec.time_zone && (zone.eq_ignore_ascii_case("local") || zone.starts_with('/') || zone.contains("..")) {
            let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
            errors.push(FieldError::invalid(path.at("timeZone"), zone, why));
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

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Upstream's cron parser: five fields, or a descriptor.
fn check_schedule(errors: &mut Errors, path: &Path, schedule: &str) {
    if schedule.contains("TZ") {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(path, schedule, why));
        return;
    }
    if let Err(why) = parse_schedule(schedule) {
        errors.push(FieldError::invalid(path, schedule, why));
    }
}

fn parse_schedule(schedule: &str) -> Result<(), String> {
    const DESCRIPTORS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if schedule.starts_with('@') {
        let every = schedule.strip_prefix("@every ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        return if every || DESCRIPTORS.contains(&schedule) { Ok(()) } else { Err(format!("unrecognized descriptor: {schedule}")) };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let bounds: [(u32, u32, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, MONTHS), (0, 6, DAYS)];
    fields
        .iter()
        .zip(bounds)
        .flat_map(|(field, bounds)| field.split(',').map(move |part| (part, bounds)))
        .try_for_each(|(part, bounds)| parse_part(part, bounds))
}

fn parse_part(part: &str, (low, high, named): (u32, u32, &[&str])) -> Result<(), String> {
    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    if let Some(step) = step {
        let step: u32 = step.parse().map_err(|_| format!("failed to parse int from {step}"))?;
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
    }
    if range == "*" || range == "?" {
        return Ok(());
    }
    let base = if low == 1 { 1 } else { 0 };
    let number = |text: &str| match named.iter().position(|name| text.eq_ignore_ascii_case(name)) {
        Some(index) => Ok(u32::try_from(index).unwrap_or(u32::MAX) + base),
        None => text.parse::<u32>().map_err(|_| format!("failed to parse int from {text}")),
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    match () {
        () if first < low => Err(format!("beginning of range ({first}) below minimum ({low}): {part}")),
        () if last > high => Err(format!("end of range ({last}) above maximum ({high}): {part}")),
        () if first > last => Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}")),
        () => Ok(()),
    }
}
