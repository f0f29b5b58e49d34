//! `describe`: an object, what belongs to it, and its events, for people.
//!
//! One row of [`DESCRIBERS`] per kind; all other kinds have a generic form. A description is a pure function of objects and the time.
//! Follows `kubectl/pkg/describe/describe.go`.

mod generic;
mod node;
mod pod;
mod service;
mod text;
mod workload;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::error::Result;
use super::objects::{Found, Selection};
use super::pods;
use super::session::Session;
use super::verb::Verb;
use text::Text;

/// Flags of `describe`.
#[derive(Args, Clone, Debug)]
pub struct Describe {
    #[command(flatten)]
    pub selection: Selection,
    /// Show events too
    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub show_events: bool,
}

/// Other objects that a description needs: a type and how they are selected.
enum Need {
    /// Pods that the object's selector selects.
    SelectedPods,
    /// Pods bound to this node.
    PodsOfNode,
    /// Replica sets of this deployment.
    ReplicaSets,
    /// Endpoint slices of this service.
    Slices,
}

/// How one kind is described.
struct Describer {
    kind: &'static str,
    group: &'static str,
    need: Option<Need>,
    write: fn(&mut Text, &Value, &[Value], Timestamp),
}

const DESCRIBERS: &[Describer] = &[
    Describer { kind: "Pod", group: "", need: None, write: pod::pod },
    Describer { kind: "Deployment", group: "apps", need: Some(Need::ReplicaSets), write: workload::deployment },
    Describer { kind: "ReplicaSet", group: "apps", need: Some(Need::SelectedPods), write: workload::replica_set },
    Describer { kind: "Service", group: "", need: Some(Need::Slices), write: service::service },
    Describer { kind: "Node", group: "", need: Some(Need::PodsOfNode), write: node::node },
    Describer { kind: "Namespace", group: "", need: None, write: generic::namespace },
];

impl Verb for Describe {
    const NAME: &'static str = "describe";
    const ABOUT: &'static str = "Show details of a specific resource or group of resources";

    async fn run(mut self, session: &Session) -> Result<i32> {
        // A type alone means all of its objects.
        let files = !self.selection.files.filename.is_empty();
        if !files && matches!(super::target::parse(&self.selection.words)?, super::target::Words::Types(_)) {
            self.selection.all = true;
        }
        let found = self.selection.fetch(session).await?;
        if found.is_empty() {
            session.note(&format!("No resources found in {} namespace.", session.namespace().await?));
        }
        for (at, found) in found.iter().enumerate() {
            let describer = DESCRIBERS.iter().find(|row| row.kind == found.resource.kind && row.group == found.resource.group);
            let related = match describer.and_then(|row| row.need.as_ref()) {
                Some(need) => fetch(session, found, need).await?,
                None => Vec::new(),
            };
            let events = if self.show_events { Some(events(session, found).await?) } else { None };
            let write = describer.map_or(generic::object as _, |row| row.write);
            let text = render(write, &found.object, &related, events.as_deref(), Timestamp::now());
            session.print(&format!("{}{text}", if at > 0 { "\n\n" } else { "" }))?;
        }
        Ok(0)
    }
}

type Write = fn(&mut Text, &Value, &[Value], Timestamp);

fn render(write: Write, object: &Value, related: &[Value], events: Option<&[Value]>, now: Timestamp) -> String {
    let mut text = Text::default();
    write(&mut text, object, related, now);
    if let Some(events) = events {
        text.events(events, now);
    }
    text.finish()
}

async fn list(session: &Session, word: &str, namespace: Option<&str>, query: &[(&str, &str)]) -> Result<Vec<Value>> {
    let resource = session.catalog().await?.resolve(word)?.clone();
    let list = session.list(&resource.path(namespace, None), query).await?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

async fn fetch(session: &Session, found: &Found, need: &Need) -> Result<Vec<Value>> {
    let namespace = found.namespace.as_deref();
    match need {
        Need::SelectedPods => match pods::selector(&found.object) {
            Some(selector) => list(session, "pods", namespace, &[("labelSelector", &selector)]).await,
            None => Ok(Vec::new()),
        },
        Need::PodsOfNode => list(session, "pods", None, &[("fieldSelector", &format!("spec.nodeName={}", found.name))]).await,
        Need::Slices => {
            list(
                session,
                "endpointslices.discovery.k8s.io",
                namespace,
                &[("labelSelector", &format!("kubernetes.io/service-name={}", found.name))],
            )
            .await
        }
        Need::ReplicaSets => {
            let mut sets = list(session, "replicasets.apps", namespace, &[]).await?;
            let uid = &found.object["metadata"]["uid"];
            sets.retain(|set| set["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|owner| owner["uid"] == *uid));
            Ok(sets)
        }
    }
}

async fn events(session: &Session, found: &Found) -> Result<Vec<Value>> {
    let mut selector = format!("involvedObject.name={},involvedObject.kind={}", found.name, found.resource.kind);
    // Nodes report about themselves under their name, not their uid.
    if let (Some(uid), false) = (found.object["metadata"]["uid"].as_str(), found.resource.kind == "Node") {
        selector.push_str(&format!(",involvedObject.uid={uid}"));
    }
    if let Some(namespace) = &found.namespace {
        selector.push_str(&format!(",involvedObject.namespace={namespace}"));
    }
    list(session, "events.v1.", found.namespace.as_deref(), &[("fieldSelector", &selector)]).await
}

/// A pod template, indented: also what `rollout history` shows.
pub fn pod_template(template: &Value, level: usize) -> String {
    let mut text = Text::default();
    pod::template(&mut text, template, level);
    text.finish()
}

#[cfg(test)]
mod tests;
