//! Events of pods and the node: recorded without waiting, sent in the background, the same one again raising a count. Bounded: a
//! flood is dropped and counted in the log rather than kept. Follows client-go's tools/record.
use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use tokio::sync::mpsc;

use super::roles::role;
use crate::client::Client;

/// How many wait to be sent.
const QUEUE: usize = 256;
/// How many are remembered for counting.
const REMEMBERED: usize = 1024;

/// Where events are recorded. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    send: mpsc::Sender<Note>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Note {
    about: (String, String, String, String, String),
    field: Option<String>,
    warning: bool,
    reason: &'static str,
    message: String,
}

impl Events {
    /// A recorder that sends to the API until all its clones are gone.
    pub fn new(client: Client, node: &str) -> Events {
        let (send, receive) = mpsc::channel(QUEUE);
        tokio::spawn(deliver(client, node.to_owned(), receive));
        Events { send }
    }

    /// Records something about a pod, or about one of its containers.
    pub fn pod(&self, pod: &Pod, container: Option<&str>, warning: bool, reason: &'static str, message: String) {
        let meta = &pod.metadata;
        let text = |s: &Option<String>| s.clone().unwrap_or_default();
        let field = container.map(|name| format!("spec.{}{{{name}}}", role(pod, name).list()));
        let about = ("Pod".to_owned(), text(&meta.namespace), text(&meta.name), text(&meta.uid), text(&meta.resource_version));
        self.note(Note { about, field, warning, reason, message });
    }

    /// Records something about the node.
    pub fn node(&self, node: &str, warning: bool, reason: &'static str, message: String) {
        let about = ("Node".to_owned(), String::new(), node.to_owned(), node.to_owned(), String::new());
        self.note(Note { about, field: None, warning, reason, message });
    }

    fn note(&self, mut note: Note) {
        const LIMIT: usize = 1024;
        if note.message.len() > LIMIT {
            let cut = (0..=LIMIT).rev().find(|at| note.message.is_char_boundary(*at)).unwrap_or(0);
            note.message.truncate(cut);
        }
        if let Err(error) = self.send.try_send(note) {
            tracing::warn!(%error, "an event was dropped");
        }
    }
}

async fn deliver(client: Client, node: String, mut receive: mpsc::Receiver<Note>) {
    let mut known: HashMap<Note, (String, i32)> = HashMap::new();
    while let Some(note) = receive.recv().await {
        let now = Timestamp::now();
        let namespace = if note.about.1.is_empty() { "default" } else { &note.about.1 };
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        let mut key = note.clone();
        // The same thing said of a later revision of the pod is still the same thing.
        key.about.4.clear();
        if let Some((name, count)) = known.get_mut(&key) {
            *count += 1;
            let patch = serde_json::json!({"count": *count, "lastTimestamp": Time(now)});
            match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => continue,
                // It expired; below it is made anew.
                Err(error) => tracing::debug!(%error, "an event can't be counted up"),
            }
        }
        let event = event(&note, namespace, &node, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(key, (name, 1));
            }
            Err(error) => tracing::warn!(%error, reason = note.reason, "an event can't be recorded"),
        }
    }
}

fn event(note: &Note, namespace: &str, node: &str, now: Timestamp) -> Event {
    let (kind, about_namespace, name, uid, version) = note.about.clone();
    let some = |text: String| (!text.is_empty()).then_some(text);
    let suffix = format!("{:x}", uuid::Uuid::new_v4().as_u64_pair().0);
    Event {
        metadata: ObjectMeta { name: Some(format!("{name}.{suffix}")), namespace: Some(namespace.into()), ..ObjectMeta::default() },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some(kind),
            namespace: some(about_namespace),
            name: Some(name),
            uid: some(uid),
            resource_version: some(version),
            field_path: note.field.clone(),
        },
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(note.reason.into()),
        message: Some(note.message.clone()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.into()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.into()),
        ..Event::default()
    }
}
