//! `scale`: sets the number of replicas through the scale subresource.

use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::json;

use super::error::{Error, Result};
use super::flags::{Change, DryRun, duration};
use super::objects::Selection;
use super::output;
use super::session::{JSON, Session, with_query};
use super::verb::Verb;
use super::wait::{Goal, until};

/// Flags of `scale`.
#[derive(Args, Clone, Debug)]
pub struct Scale {
    #[command(flatten)]
    pub selection: Selection,
    /// How many
    #[arg(long)]
    pub replicas: u32,
    /// Only if there are this many now
    #[arg(long)]
    pub current_replicas: Option<i64>,
    /// Only if the object has this version
    #[arg(long)]
    pub resource_version: Option<String>,
    /// Wait until the status says so; 0 does not wait
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub change: Change,
}

impl Verb for Scale {
    const NAME: &'static str = "scale";
    const ABOUT: &'static str = "Set a new size for a deployment, replica set, or stateful set";

    async fn run(self, session: &Session) -> Result<i32> {
        for found in self.selection.fetch(session).await? {
            if !found.resource.subresources.iter().any(|sub| sub == "scale") {
                return Error::usage(format!("could not find a scale subresource for {}", found.resource.qualified()));
            }
            let path = format!("{}/scale", found.path());
            let mut scale = session.get(&path, JSON).await?;
            let now = scale["spec"]["replicas"].as_i64().unwrap_or(0);
            if let Some(expected) = self.current_replicas.filter(|expected| *expected >= 0 && *expected != now) {
                return Error::usage(format!("Expected replicas to be {expected}, was {now}"));
            }
            if let Some(version) = &self.resource_version
                && scale["metadata"]["resourceVersion"] != version.as_str()
            {
                return Error::usage(format!("Expected resource version to be {version}, was {}", scale["metadata"]["resourceVersion"]));
            }
            scale["spec"]["replicas"] = self.replicas.into();
            if self.change.dry_run != DryRun::Client {
                // Without a precondition the newest object is scaled, whatever happened to it meanwhile.
                if self.current_replicas.is_none() && self.resource_version.is_none() {
                    let patch = json!({"spec": {"replicas": self.replicas}});
                    session
                        .change_as(Method::PATCH, &with_query(&path, &self.change.query()), "application/merge-patch+json", &patch)
                        .await?;
                } else {
                    session.change(Method::PUT, &with_query(&path, &self.change.query()), &scale).await?;
                }
            }
            let mut object = found.object.clone();
            object["spec"]["replicas"] = self.replicas.into();
            output::report(session, &self.change, &found.title(), &object, "scaled")?;
            if !self.timeout.is_zero() && self.change.dry_run == DryRun::None {
                let goal = format!("jsonpath={{.status.replicas}}={}", self.replicas);
                // The server leaves a zero out of the status.
                let goal = if self.replicas == 0 { Goal::parse("jsonpath={.spec.replicas}=0")? } else { Goal::parse(&goal)? };
                until(session, &found, &goal, self.timeout).await?;
            }
        }
        Ok(0)
    }
}
