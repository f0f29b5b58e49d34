//! `wait`: until a condition holds, a value is there, or an object is gone.
//!
//! Follows `kubectl/pkg/cmd/wait`.

use std::time::Duration;

use clap::Args;
use futures::TryStreamExt;
use serde_json::Value;

use super::error::{Error, Result};
use super::flags::duration;
use super::objects::{Found, Selection};
use super::session::{JSON, Session, with_query};
use super::verb::Verb;
use crate::api::jsonpath::{Template, show};

/// Flags of `wait`.
#[derive(Args, Clone, Debug)]
pub struct Wait {
    #[command(flatten)]
    pub selection: Selection,
    /// condition=NAME[=VALUE], delete, create, or jsonpath={PATH}[=VALUE]
    #[arg(long = "for", required = true)]
    pub goal: Vec<String>,
    /// How long; a negative one waits a week
    #[arg(long, default_value = "30s", value_parser = duration, allow_hyphen_values = true)]
    pub timeout: Duration,
}

/// What is waited for.
#[derive(Debug)]
pub enum Goal {
    /// The object is gone.
    Deleted,
    /// The object is there.
    Created,
    /// A condition has this status.
    Condition {
        /// Its type.
        name: String,
        /// Its status.
        status: String,
    },
    /// A path leads to this value, or to any.
    Path {
        /// Where.
        path: Box<Template>,
        /// Which.
        value: Option<String>,
    },
}

impl Goal {
    /// Reads `--for`.
    pub fn parse(text: &str) -> Result<Goal> {
        let lower = text.to_lowercase();
        if lower == "delete" {
            return Ok(Goal::Deleted);
        }
        if lower == "create" {
            return Ok(Goal::Created);
        }
        if let Some(condition) = text.strip_prefix("condition=") {
            let (name, status) = condition.split_once('=').unwrap_or((condition, "true"));
            return Ok(Goal::Condition { name: name.into(), status: status.into() });
        }
        let Some(path) = text.strip_prefix("jsonpath=") else {
            return Error::usage(format!("unrecognized condition: {text:?}"));
        };
        let end = path.rfind('}').map_or(path.len(), |end| end + 1);
        let (path, rest) = path.split_at(end);
        let value = match rest {
            "" => None,
            rest => match rest.strip_prefix('=').map(|value| value.trim_matches(['"', '\''])) {
                Some(value) if !value.is_empty() => Some(value.to_string()),
                _ => {
                    return Error::usage(
                        "jsonpath wait value must be of the form --for=jsonpath='{.path}'=value, with a value that is not empty",
                    );
                }
            },
        };
        Ok(Goal::Path { path: Box::new(Template::relaxed(path)?), value })
    }

    /// Whether it is reached; `None` stands for an object that is not there.
    pub fn reached(&self, object: Option<&Value>) -> Result<bool> {
        let Some(object) = object else { return Ok(matches!(self, Goal::Deleted)) };
        match self {
            Goal::Deleted => Ok(false),
            Goal::Created => Ok(true),
            Goal::Condition { name, status } => {
                let conditions = object["status"]["conditions"].as_array();
                let found = conditions
                    .into_iter()
                    .flatten()
                    .find(|condition| condition["type"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name)));
                // A condition about an older spec says nothing of this one.
                let observed =
                    found.and_then(|found| found["observedGeneration"].as_i64()).or(object["status"]["observedGeneration"].as_i64());
                let stale = observed.zip(object["metadata"]["generation"].as_i64()).is_some_and(|(seen, now)| seen < now);
                Ok(!stale && found.is_some_and(|found| found["status"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(status))))
            }
            Goal::Path { path, value } => {
                let found = path.values(object)?;
                match (found.as_slice(), value) {
                    ([], _) => Ok(false),
                    (_, None) => Ok(true),
                    ([one], Some(value)) => Ok(show(one) == *value),
                    _ => Error::usage("given jsonpath expression matches more than one value"),
                }
            }
        }
    }
}

/// Waits until `goal` is reached for one object. For deletion, another object of the same name counts as gone.
pub async fn until(session: &Session, found: &Found, goal: &Goal, timeout: Duration) -> Result<()> {
    let title = format!(" on {}/{}", found.resource.name, found.name);
    let limit = timeout.min(Duration::from_secs(7 * 86_400));
    tokio::time::timeout(limit, watch(session, found, goal)).await.map_err(|_| Error::TimedOut(title))?
}

async fn watch(session: &Session, found: &Found, goal: &Goal) -> Result<()> {
    let uid = found.object["metadata"]["uid"].as_str();
    let all = found.resource.path(found.namespace.as_deref(), None);
    let selector = format!("metadata.name={}", found.name);
    let is_ours = |object: &Value| uid.is_none() || !matches!(goal, Goal::Deleted) || object["metadata"]["uid"].as_str() == uid;
    // A watch may end at any time; then everything starts anew.
    loop {
        let list = session.get(&with_query(&all, &[("fieldSelector", &selector)]), JSON).await?;
        let object = list["items"].as_array().into_iter().flatten().find(|object| is_ours(object));
        if goal.reached(object)? {
            return Ok(());
        }
        if object.is_none() && !matches!(goal, Goal::Deleted | Goal::Created) {
            return Err(gone(found));
        }
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let query = [("fieldSelector", selector.as_str()), ("resourceVersion", version), ("timeoutSeconds", "300")];
        let mut events = session.watch(&all, &query, JSON).await?;
        while let Some(event) = events.try_next().await? {
            let object = Some(&event.object).filter(|object| event.kind != "DELETED" && is_ours(object));
            if event.kind == "BOOKMARK" {
                continue;
            }
            if goal.reached(object)? {
                return Ok(());
            }
            if event.kind == "DELETED" && !matches!(goal, Goal::Created) {
                return Err(gone(found));
            }
        }
    }
}

fn gone(found: &Found) -> Error {
    Error::Api(Box::new(k8s_openapi::apimachinery::pkg::apis::meta::v1::Status {
        reason: Some("NotFound".into()),
        message: Some(format!("{} {:?} not found", found.resource.qualified(), found.name)),
        ..Default::default()
    }))
}

impl Verb for Wait {
    const NAME: &'static str = "wait";
    const ABOUT: &'static str = "Wait for a condition on one or many resources";

    async fn run(self, session: &Session) -> Result<i32> {
        let goals = self.goal.iter().map(|goal| Goal::parse(goal)).collect::<Result<Vec<_>>>()?;
        let found = match self.selection.fetch(session).await {
            Ok(found) => found,
            // What is gone already need not be waited for.
            Err(error) if error.is_not_found() && goals.iter().all(|goal| matches!(goal, Goal::Deleted)) => return Ok(0),
            Err(error) if error.is_not_found() && goals.iter().any(|goal| matches!(goal, Goal::Created)) => self.absent(session).await?,
            Err(error) => return Err(error),
        };
        if found.is_empty() {
            return Error::usage("no matching resources found");
        }
        let deadline = tokio::time::Instant::now().checked_add(self.timeout.min(Duration::from_secs(7 * 86_400)));
        let mut failed = false;
        for found in &found {
            for goal in &goals {
                let left = deadline.map_or(self.timeout, |deadline| deadline.saturating_duration_since(tokio::time::Instant::now()));
                match until(session, found, goal, left).await {
                    Ok(()) => session.line(&format!(
                        "{} {}",
                        found.title(),
                        if matches!(goal, Goal::Deleted) { "deleted" } else { "condition met" }
                    ))?,
                    Err(error @ (Error::TimedOut(_) | Error::Api(_))) => {
                        session.note(&error.to_string());
                        failed = true;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(i32::from(failed))
    }
}

impl Wait {
    /// Objects by name that are not there yet.
    async fn absent(&self, session: &Session) -> Result<Vec<Found>> {
        let targets = super::target::resolve(session, &self.selection.words, false).await?;
        let found = |target: super::target::Target| {
            Some(Found { name: target.name?, namespace: target.namespace, resource: target.resource, object: Value::Null })
        };
        Ok(targets.into_iter().filter_map(found).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals() {
        let object = "{metadata: {generation: 2}, status: {observedGeneration: 2, phase: Running, conditions: [{type: Ready, status: 'True'}, {type: Old, status: 'True', observedGeneration: 1}], n: 3}}";
        let object: Value = serde_yaml::from_str(object).unwrap();
        for (goal, present, absent) in [
            ("condition=Ready", true, false),
            ("condition=ready=true", true, false),
            ("condition=Ready=False", false, false),
            ("condition=Old", false, false),
            ("condition=Missing", false, false),
            ("delete", false, true),
            ("create", true, false),
            ("jsonpath={.status.phase}=Running", true, false),
            ("jsonpath={.status.n}=3", true, false),
            ("jsonpath={.status.phase}", true, false),
            ("jsonpath={.status.nope}", false, false),
        ] {
            let parsed = Goal::parse(goal).unwrap();
            assert_eq!((parsed.reached(Some(&object)).unwrap(), parsed.reached(None).unwrap()), (present, absent), "{goal}");
        }
        for bad in ["nonsense", "jsonpath={.a}=", "jsonpath={.a}x"] {
            assert!(Goal::parse(bad).is_err(), "{bad}");
        }
    }
}
