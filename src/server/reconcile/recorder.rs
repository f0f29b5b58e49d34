//! The event recorder: `Op::Event` in, `v1` Events out.
//!
//! Equal events (same object, reason, message) become one object whose `count` and `lastTimestamp` grow, as client-go's
//! `tools/record` does. Events are a courtesy: one that can't be written is logged and dropped, and no reconciliation waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio::sync::mpsc;

use super::{EventType, Regarding, op};
use crate::server::registry::{Part, Patch, Registry, WriteOptions};

/// How many events may wait to be written before further ones are dropped.
const BACKLOG: usize = 4096;
/// How many distinct events are remembered for aggregation.
const REMEMBERED: usize = 4096;

/// One event to record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Report {
    pub(super) regarding: Regarding,
    pub(super) kind: EventType,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) component: &'static str,
}

/// Where reports are handed in. The writing task ends when all clones are dropped and the backlog is written.
#[derive(Clone)]
pub(super) struct Recorder(mpsc::Sender<Report>);

impl Recorder {
    /// Starts the writing task.
    pub(super) fn start(registry: Registry) -> (Recorder, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Recorder(sender), tokio::spawn(write_all(registry, receiver)))
    }

    /// Hands in a report.
    pub(super) fn record(&self, report: Report) {
        if let Err(error) = self.0.try_send(report) {
            tracing::warn!(%error, "an event was dropped: too many wait to be written");
        }
    }
}

/// Cuts a time to whole seconds, the precision of `metav1.Time`.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The memory of what was recorded.
#[derive(Default)]
struct Memory {
    known: HashMap<Report, (String, i32)>,
    order: VecDeque<Report>,
}

impl Memory {
    /// Name of the Event that holds this report already, and its new count.
    fn again(&mut self, report: &Report) -> Option<(String, i32)> {
        let (name, count) = self.known.get_mut(report)?;
        *count = count.saturating_add(1);
        Some((name.clone(), *count))
    }

    fn remember(&mut self, report: Report, name: String) {
        if self.known.insert(report.clone(), (name, 1)).is_none() {
            self.order.push_back(report);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

/// The namespace of an event: its object's, or `default`.
fn event_namespace(regarding: &Regarding) -> &str {
    if regarding.namespace.is_empty() { "default" } else { &regarding.namespace }
}

/// A name as upstream's: the object's, and the time in hexadecimal nanoseconds (made unique within this process).
fn event_name(regarding: &Regarding, now: Timestamp) -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let nanos = u64::try_from(now.as_nanosecond()).unwrap_or(0);
    let step = |last: u64| Some(nanos.max(last + 1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).unwrap_or(nanos);
    format!("{}.{:x}", regarding.name, nanos.max(last + 1))
}

fn event(report: &Report, name: String, now: Timestamp) -> Event {
    let regarding = &report.regarding;
    let at = Some(Time(whole_seconds(now)));
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(event_namespace(regarding).into()), ..ObjectMeta::default() },
        involved_object: ObjectReference {
            api_version: Some(regarding.api_version.into()),
            kind: Some(regarding.kind.into()),
            namespace: Some(regarding.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(regarding.name.clone()),
            uid: Some(regarding.uid.clone()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        },
        reason: Some(report.reason.into()),
        message: Some(bounded(&report.message)),
        type_: Some(report.kind.as_str().into()),
        count: Some(1),
        first_timestamp: at.clone(),
        last_timestamp: at,
        source: Some(EventSource { component: Some(report.component.into()), host: None }),
        reporting_component: Some(report.component.into()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    }
}

/// Upstream's limit of a message.
fn bounded(message: &str) -> String {
    const LIMIT: usize = 1024;
    match message.char_indices().find(|(at, c)| at + c.len_utf8() > LIMIT) {
        Some((end, _)) => message[..end].into(),
        None => message.into(),
    }
}

async fn write_all(registry: Registry, mut reports: mpsc::Receiver<Report>) {
    let options = op::options("system:kube-controller-manager".into());
    let mut memory = Memory::default();
    while let Some(report) = reports.recv().await {
        if let Err(status) = write(&registry, &mut memory, &report, &options).await
            && !status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")
        {
            tracing::warn!(regarding = %report.regarding.name, reason = report.reason, error = %status, "an event was not recorded");
        }
    }
}

async fn write(registry: &Registry, memory: &mut Memory, report: &Report, options: &WriteOptions) -> Result<(), crate::api::Status> {
    let now = Timestamp::now();
    if let Some((name, count)) = memory.again(report)
        && let Some(kind) = registry.kind("", "v1", "events")
    {
        let patch = serde_json::json!({"count": count, "lastTimestamp": Time(whole_seconds(now))});
        let patch = Patch::Merge(patch.to_string().into_bytes().into());
        match registry.patch(&kind, event_namespace(&report.regarding), &name, Part::Main, patch, options).await {
            Ok(_) => return Ok(()),
            // It was deleted meanwhile (events expire): begin anew.
            Err(status) if status.reason == "NotFound" => {}
            Err(status) => return Err(status),
        }
    }
    let name = event_name(&report.regarding, now);
    registry.create_object(Box::new(event(report, name.clone(), now)), options).await?;
    memory.remember(report.clone(), name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(namespace: &str, message: &str) -> Report {
        let regarding = Regarding { api_version: "v1", kind: "Pod", namespace: namespace.into(), name: "a".into(), uid: "u".into() };
        Report { regarding, kind: EventType::Normal, reason: "Pulled", message: message.into(), component: "kubelet" }
    }

    #[test]
    fn equal_events_are_counted() {
        let mut memory = Memory::default();
        assert_eq!(memory.again(&report("default", "x")), None);
        memory.remember(report("default", "x"), "a.1".into());
        assert_eq!(memory.again(&report("default", "x")), Some(("a.1".into(), 2)));
        assert_eq!(memory.again(&report("default", "x")), Some(("a.1".into(), 3)));
        assert_eq!(memory.again(&report("default", "y")), None);
        for i in 0..REMEMBERED {
            memory.remember(report("default", &i.to_string()), "b.1".into());
        }
        assert_eq!(memory.again(&report("default", "x")), None, "the memory is bounded");
        assert_eq!(memory.known.len(), REMEMBERED);
    }

    #[test]
    fn events_are_upstreams() {
        let now = Timestamp::from_millisecond(1_700_000_000_500).expect("a time");
        let made = event(&report("", &"é".repeat(600)), event_name(&report("", "").regarding, now), now);
        assert_eq!(made.metadata.namespace.as_deref(), Some("default"));
        assert!(made.metadata.name.as_deref().is_some_and(|name| name.starts_with("a.") && name.len() > 10));
        assert_eq!(made.involved_object.namespace, None);
        assert_eq!(made.message.map(|message| message.len()), Some(1024));
        assert_eq!(made.last_timestamp.map(|time| time.0.as_millisecond()), Some(1_700_000_000_000));
        assert_ne!(event_name(&report("", "").regarding, now), event_name(&report("", "").regarding, now));
    }
}
