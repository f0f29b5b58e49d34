//! `delete`: removes objects and, unless told otherwise, waits until they are gone.
//!
//! Follows `kubectl/pkg/cmd/delete/delete.go`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::{DryRun, duration};
use super::objects::{Found, Selection, located};
use super::session::{Session, with_query};
use super::target;
use super::verb::Verb;
use super::wait::{Goal, until};

/// What becomes of dependents.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cascade {
    /// Removed afterwards.
    #[default]
    #[value(alias = "true")]
    Background,
    /// Removed before.
    Foreground,
    /// Left alone.
    #[value(alias = "false")]
    Orphan,
}

/// Flags of `delete`.
#[derive(Args, Clone, Debug, Default)]
pub struct Delete {
    #[command(flatten)]
    pub selection: Selection,
    /// What becomes of dependents
    #[arg(long, value_enum, default_value = "background", num_args = 0..=1, default_missing_value = "background")]
    pub cascade: Cascade,
    /// Seconds to terminate; negative: what the object says; 0 needs --force
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub grace_period: i64,
    /// With --grace-period=0: remove at once, without waiting for processes to end
    #[arg(long)]
    pub force: bool,
    /// Terminate in one second
    #[arg(long)]
    pub now: bool,
    /// Wait until the objects are gone
    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub wait: bool,
    /// How long to wait; 0 waits for ever
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub timeout: Duration,
    /// A missing object is no error
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Only show what would be deleted (client), or have the server check (server)
    #[arg(long, value_enum, default_value = "none", num_args = 0..=1, default_missing_value = "client", require_equals = true)]
    pub dry_run: DryRun,
    /// Output: name
    #[arg(short = 'o', long)]
    pub output: Option<String>,
}

impl Verb for Delete {
    const NAME: &'static str = "delete";
    const ABOUT: &'static str = "Delete resources by file name, standard input, name, or label";

    async fn run(self, session: &Session) -> Result<i32> {
        let options = self.options(session)?;
        let mut failed = false;
        let found = self.found(session, &mut failed).await?;
        if found.is_empty() && !failed {
            session.line("No resources found")?;
            return Ok(0);
        }
        let mut waiting = Vec::new();
        for found in found {
            let answer = match self.dry_run {
                DryRun::Client => Ok(Value::Null),
                dry_run => {
                    let query: Vec<_> = dry_run.query().into_iter().collect();
                    session.change(Method::DELETE, &with_query(&found.path(), &query), &options).await
                }
            };
            match answer {
                Ok(answer) => {
                    self.tell(session, &found)?;
                    waiting.push(with_uid(found, &answer));
                }
                Err(error) if error.is_not_found() && self.is_missing_fine() => {}
                Err(error) if error.status().is_some() => {
                    session.note(&error.to_string());
                    failed = true;
                }
                Err(error) => return Err(error),
            }
        }
        if self.wait && self.dry_run == DryRun::None {
            let limit = if self.timeout.is_zero() { Duration::MAX } else { self.timeout };
            for found in &waiting {
                until(session, found, &Goal::Deleted, limit).await?;
            }
        }
        Ok(i32::from(failed))
    }
}

/// The uid is in the answer: of the object, or of the details of a status.
fn with_uid(mut found: Found, answer: &Value) -> Found {
    let uid = answer["details"]["uid"].as_str().or(answer["metadata"]["uid"].as_str());
    if let Some(uid) = uid {
        found.object = json!({"metadata": {"uid": uid}});
    } else {
        found.object = Value::Null;
    }
    found
}

impl Delete {
    fn is_missing_fine(&self) -> bool {
        self.ignore_not_found || self.selection.all || self.selection.selector.is_some() || self.selection.field_selector.is_some()
    }

    fn options(&self, session: &Session) -> Result<Value> {
        let mut grace = self.grace_period;
        if self.now {
            if grace != -1 {
                return Error::usage("--now and --grace-period cannot be specified together");
            }
            grace = 1;
        }
        if self.force && grace > 0 {
            return Error::usage("--force and --grace-period greater than 0 cannot be specified together");
        }
        if self.force {
            grace = 0;
            session.note(
                "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may \
                 continue to run on the cluster indefinitely.",
            );
        } else if grace == 0 {
            // Without --force, upstream gives the shortest period that still waits for the processes.
            grace = 1;
        }
        let policy = match self.cascade {
            Cascade::Background => "Background",
            Cascade::Foreground => "Foreground",
            Cascade::Orphan => "Orphan",
        };
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        if grace >= 0 {
            options["gracePeriodSeconds"] = grace.into();
        }
        Ok(options)
    }

    /// Objects by name are not fetched first; those of a selector are listed.
    async fn found(&self, session: &Session, failed: &mut bool) -> Result<Vec<Found>> {
        let selection = &self.selection;
        if !selection.files.filename.is_empty() || selection.files.kustomize.is_some() {
            return located(session, &selection.files).await;
        }
        let query = selection.query()?;
        let all = selection.all || !query.is_empty();
        let mut found = Vec::new();
        for target in target::resolve(session, &selection.words, selection.all_namespaces).await? {
            match (&target.name, all) {
                (Some(_), true) => return Error::usage("name cannot be provided when a selector is specified"),
                (None, false) => return Error::usage("resource(s) were provided, but no name was specified"),
                (Some(name), false) => found.push(Found {
                    name: name.clone(),
                    namespace: target.namespace.clone(),
                    resource: target.resource.clone(),
                    object: Value::Null,
                }),
                (None, true) => match session.list(&target.path(), &query).await {
                    Ok(mut list) => {
                        let items = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
                        found.extend(items.into_iter().map(|item| Found::new(&target.resource, item)));
                    }
                    Err(error) if error.status().is_some() => {
                        session.note(&error.to_string());
                        *failed = true;
                    }
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(found)
    }

    fn tell(&self, session: &Session, found: &Found) -> Result<()> {
        if self.output.as_deref() == Some("name") {
            return session.line(&found.title());
        }
        let kind = found.resource.kind.to_lowercase();
        let kind = if found.resource.group.is_empty() { kind } else { format!("{kind}.{}", found.resource.group) };
        let force = if self.force { "force deleted" } else { "deleted" };
        let place = found.namespace.as_ref().map(|namespace| format!(" from {namespace} namespace")).unwrap_or_default();
        session.line(&format!("{kind} {:?} {force}{place}{}", found.name, self.dry_run.suffix()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    async fn run(line: &str, answers: &[(&str, &str)]) -> (Result<i32>, String, Vec<String>) {
        let (session, record) = support::session(answers);
        let matches =
            <Delete as Args>::augment_args(clap::Command::new("delete")).get_matches_from(std::iter::once("delete").chain(line.split(' ')));
        let result = <Delete as clap::FromArgMatches>::from_arg_matches(&matches).unwrap().run(&session).await;
        (result, record.output(), record.requests())
    }

    const POD: &str = "/api/v1/namespaces/default/pods/a";

    #[tokio::test]
    async fn waits_until_the_object_is_gone() {
        let answers = [
            ("DELETE /api/v1/namespaces/default/pods/a", "{kind: Status, details: {uid: u}}"),
            (
                "GET /api/v1/namespaces/default/pods",
                "{kind: PodList, metadata: {resourceVersion: '1'}, items: [{metadata: {name: a, uid: another}}]}",
            ),
        ];
        let (code, out, requests) = run("pod a --grace-period=0 --cascade=foreground", &answers).await;
        assert_eq!((code.unwrap(), out.as_str()), (0, "pod \"a\" deleted from default namespace\n"));
        let options = r#"{"apiVersion":"v1","gracePeriodSeconds":1,"kind":"DeleteOptions","propagationPolicy":"Foreground"}"#;
        assert_eq!(requests[0], format!("DELETE {POD} {options}"));
        assert!(requests[1].starts_with("GET /api/v1/namespaces/default/pods?fieldSelector=metadata.name%3Da"), "{requests:?}");
    }

    #[tokio::test]
    async fn what_is_missing() {
        let (code, out, _) = run("pod a", &[]).await;
        assert_eq!((code.unwrap(), out.as_str()), (1, ""));
        let (code, _, _) = run("pod a --ignore-not-found", &[]).await;
        assert_eq!(code.unwrap(), 0);
        for line in ["pods", "pod a --now --grace-period=3", "pod a --force --grace-period=3", "pod a --all"] {
            assert!(run(line, &[]).await.0.is_err(), "{line}");
        }
    }
}
