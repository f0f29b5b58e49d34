//! `rollout`: the progress and the history of deployments, daemon sets and stateful sets.
//!
//! Follows `kubectl/pkg/cmd/rollout` and `polymorphichelpers`.

mod history;
mod status;

use std::time::Duration;

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use http::Method;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::{Change, DryRun, duration};
use super::objects::{Found, Selection};
use super::output;
use super::session::{JSON, Session, with_query};
use super::verb::Verb;

/// Flags of `rollout`.
#[derive(Args, Clone, Debug)]
pub struct Rollout {
    #[command(subcommand)]
    pub action: Action,
}

/// What is asked.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Show the status of the rollout
    Status {
        #[command(flatten)]
        selection: Selection,
        /// Wait until it is done
        #[arg(short = 'w', long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
        watch: bool,
        /// Watch this revision; it is an error if another takes over
        #[arg(long, default_value_t = 0)]
        revision: i64,
        /// How long; 0 waits for ever
        #[arg(long, default_value = "0s", value_parser = duration)]
        timeout: Duration,
    },
    /// View the history
    History {
        #[command(flatten)]
        selection: Selection,
        /// Show the pod template of this revision
        #[arg(long, default_value_t = 0)]
        revision: i64,
        /// Output: yaml, json
        #[arg(short = 'o', long)]
        output: Option<String>,
    },
    /// Go back to a former revision
    Undo {
        #[command(flatten)]
        selection: Selection,
        /// Which; 0: the one before
        #[arg(long, default_value_t = 0)]
        to_revision: i64,
        #[command(flatten)]
        change: Change,
    },
    /// Replace all pods
    Restart {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        change: Change,
    },
    /// Stop acting on changes of the template
    Pause {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        change: Change,
    },
    /// Act on changes of the template again
    Resume {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        change: Change,
    },
}

impl Verb for Rollout {
    const NAME: &'static str = "rollout";
    const ABOUT: &'static str = "Manage the rollout of a resource";

    async fn run(self, session: &Session) -> Result<i32> {
        match self.action {
            Action::Status { selection, watch, revision, timeout } => {
                let limit = if timeout.is_zero() { Duration::MAX } else { timeout };
                for found in selection.fetch(session).await? {
                    let follow = follow(session, &found, watch, revision);
                    tokio::time::timeout(limit.min(Duration::from_secs(7 * 86_400)), follow)
                        .await
                        .map_err(|_| Error::TimedOut(String::new()))??;
                }
            }
            Action::History { selection, revision, output } => {
                for found in selection.fetch(session).await? {
                    let revisions = history::fetch(session, &found).await?;
                    session.print(&history::show(&found, &revisions, revision, output.as_deref())?)?;
                }
            }
            Action::Undo { selection, to_revision, change } => {
                for found in selection.fetch(session).await? {
                    undo(session, &found, to_revision, &change).await?;
                }
            }
            Action::Restart { selection, change } => {
                for found in selection.fetch(session).await? {
                    restart(session, &found, &change).await?;
                }
            }
            Action::Pause { selection, change } => pause(session, &selection, &change, true).await?,
            Action::Resume { selection, change } => pause(session, &selection, &change, false).await?,
        }
        Ok(0)
    }
}

/// Prints each new state until the rollout is done.
async fn follow(session: &Session, found: &Found, watch: bool, revision: i64) -> Result<()> {
    let all = found.resource.path(found.namespace.as_deref(), None);
    let selector = format!("metadata.name={}", found.name);
    let mut said = String::new();
    let mut tell = |object: &Value| -> Result<bool> {
        let state = status::of(object, revision)?;
        if state.text != said {
            session.line(&state.text)?;
            said = state.text;
        }
        Ok(state.done || !watch)
    };
    loop {
        let list = session.get(&with_query(&all, &[("fieldSelector", &selector)]), JSON).await?;
        let Some(object) = list["items"].as_array().and_then(|items| items.first()) else {
            return Error::usage(format!("{} {:?} was deleted while its rollout was watched", found.resource.qualified(), found.name));
        };
        if tell(&Found::new(&found.resource, object.clone()).object)? {
            return Ok(());
        }
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let query = [("fieldSelector", selector.as_str()), ("resourceVersion", version), ("timeoutSeconds", "300")];
        let mut events = session.watch(&all, &query, JSON).await?;
        while let Some(event) = events.try_next().await? {
            match event.kind.as_str() {
                "BOOKMARK" => {}
                "DELETED" => return Error::usage("object has been deleted"),
                _ if tell(&Found::new(&found.resource, event.object).object)? => return Ok(()),
                _ => {}
            }
        }
    }
}

async fn undo(session: &Session, found: &Found, to: i64, change: &Change) -> Result<()> {
    if found.object["spec"]["paused"] == true {
        return Error::usage(format!(
            "cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again: {}",
            found.title()
        ));
    }
    let revisions = history::fetch(session, found).await?;
    let target = history::target(&revisions, to)?;
    let (content_type, patch) = target.patch(&found.object);
    if target.is_current(&found.object) {
        return output::report(
            session,
            change,
            &found.title(),
            &found.object,
            &format!("skipped rollback (current template already matches revision {})", target.number),
        );
    }
    let object = match change.dry_run {
        DryRun::Client => found.object.clone(),
        _ => session.change_as(Method::PATCH, &with_query(&found.path(), &change.query()), content_type, &patch).await?,
    };
    output::report(session, change, &found.title(), &object, "rolled back")
}

async fn restart(session: &Session, found: &Found, change: &Change) -> Result<()> {
    if !["Deployment", "DaemonSet", "StatefulSet"].contains(&found.resource.kind.as_str()) {
        return Error::usage(format!("{} {:?} restarting is not supported", found.resource.qualified(), found.name));
    }
    if found.object["spec"]["paused"] == true {
        return Error::usage(format!("{} can't restart paused deployment (run rollout resume first)", found.title()));
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}});
    change_spec(session, found, change, &patch, "restarted").await
}

async fn pause(session: &Session, selection: &Selection, change: &Change, paused: bool) -> Result<()> {
    let word = if paused { "paused" } else { "resumed" };
    for found in selection.fetch(session).await? {
        if found.resource.kind != "Deployment" {
            return Error::usage(format!("{} {:?}: only deployments can be {word}", found.resource.qualified(), found.name));
        }
        if (found.object["spec"]["paused"] == true) == paused {
            let state = if paused { "already paused" } else { "not paused" };
            return Error::usage(format!("{} {:?} is {state}", found.resource.qualified(), found.name));
        }
        let patch = json!({"spec": {"paused": if paused { Value::Bool(true) } else { Value::Null }}});
        change_spec(session, &found, change, &patch, word).await?;
    }
    Ok(())
}

async fn change_spec(session: &Session, found: &Found, change: &Change, patch: &Value, done: &str) -> Result<()> {
    let object = match change.dry_run {
        DryRun::Client => {
            let mut object = found.object.clone();
            json_patch::merge(&mut object, patch);
            object
        }
        _ => session.change_as(Method::PATCH, &with_query(&found.path(), &change.query()), "application/merge-patch+json", patch).await?,
    };
    output::report(session, change, &found.title(), &object, done)
}
