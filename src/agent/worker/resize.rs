//! What a worker does about resizes: asks the node for room, keeps a record for the agent that comes after, and tells how far it got.
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::Worker;
use crate::agent::observed::{Instance, Sandbox};
use crate::agent::plan::{containers, later};
use crate::agent::resize::{Allotted, DEFERRED, Given, Pending, Verdict, is_due, is_group_due, told};
use crate::agent::resources::qos_class;
use crate::runtime::Runtime;

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is written down in the pod's directory.
#[derive(Serialize, Deserialize)]
struct Record {
    /// The pod's generation that was granted last, while that is in progress.
    granted: Option<i64>,
    allotted: Allotted,
    given: Given,
}

impl<R: Runtime> Worker<R> {
    fn record_path(&self) -> PathBuf {
        self.job.context.config.pod_dir(self.job.uid()).join("resources.json")
    }

    /// Takes up what an agent before this one wrote down. Without that a pod is allotted what it wants.
    pub(super) fn recall_resources(&mut self) {
        let record = match std::fs::read(self.record_path()) {
            Ok(bytes) => match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) => record,
                Err(error) => return tracing::warn!(%error, pod = self.job.uid(), "the record of a pod's resources can't be read"),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if matches!(self.have.sandbox, Sandbox::Ready { .. }) {
                    let all = Allotted::of(&self.job.pod);
                    self.have.given = Given { containers: all.containers.clone(), group: Some(all) };
                }
                return;
            }
            Err(error) => return tracing::warn!(%error, pod = self.job.uid(), "the record of a pod's resources can't be read"),
        };
        self.job.pod = Arc::new(record.allotted.on(&self.wanted));
        (self.have.given, self.have.resize.granted) = (record.given, record.granted);
    }

    /// Writes down what the pod is allotted and what its groups were given. Pods of the class BestEffort have nothing that could change.
    pub(super) fn record_resources(&mut self) {
        if qos_class(&self.job.pod) == "BestEffort" {
            return;
        }
        let record = Record { granted: self.have.resize.granted, allotted: Allotted::of(&self.job.pod), given: self.have.given.clone() };
        let bytes = serde_json::to_vec(&record).expect("API types have string keys only, so they always encode");
        if bytes == self.recorded {
            return;
        }
        let path = self.record_path();
        let write = || {
            let (new, dir) = (path.with_extension("new"), path.parent().unwrap_or(&path));
            std::fs::create_dir_all(dir)?;
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o750))?;
            std::fs::write(&new, &bytes)?;
            std::fs::rename(&new, &path)
        };
        match write() {
            Ok(()) => self.recorded = bytes,
            Err(error) => tracing::warn!(%error, path = %path.display(), "a pod's resources can't be written down"),
        }
    }

    /// Gives the pod what it wants, if there is room for that, and otherwise leaves it what it has.
    pub(super) fn consider(&mut self) {
        let (wanted, job) = (self.wanted.clone(), self.job.clone());
        let verdict = match wanted.metadata.deletion_timestamp.is_some() || crate::agent::plan::is_terminal(&wanted) {
            // Nothing of it is changed any more.
            true => {
                self.pods.withdraw(job.uid());
                None
            }
            false => Some(self.pods.allot(job.uid(), &wanted, &job.pod, &job.context.capacity, self.now())),
        };
        match verdict {
            Some(Verdict::Same) => {
                self.job.pod = wanted;
                self.have.resize.pending = None;
            }
            Some(Verdict::Grant) => {
                let generation = wanted.metadata.generation;
                let message = told("started", &wanted, generation, None);
                self.job.context.events.pod(&wanted, None, false, "ResizeStarted", message);
                self.job.pod = wanted;
                (self.have.resize.pending, self.have.resize.error) = (None, None);
                self.have.resize.granted = generation.or(Some(0));
                self.record_resources();
                self.settle();
            }
            Some(Verdict::Refuse(pending)) => {
                self.keep(&wanted);
                self.refused(pending);
            }
            None => self.keep(&wanted),
        }
        let waits = self.have.resize.pending.as_ref().is_some_and(|pending| pending.reason == DEFERRED);
        self.room = match (waits, self.room.take()) {
            (false, _) => None,
            (true, Some(room)) => Some(room),
            (true, None) => Some(self.pods.room()),
        };
    }

    /// The pod is another now, but what it is allotted stays.
    fn keep(&mut self, wanted: &Pod) {
        let pod = Allotted::of(&self.job.pod).on(wanted);
        // The same one stays: others are told of each new one.
        if *self.job.pod != pod {
            self.job.pod = Arc::new(pod);
        }
    }

    fn refused(&mut self, pending: Pending) {
        let before = self.have.resize.pending.replace(pending.clone());
        if before.is_some_and(|before| before.reason == pending.reason && before.message == pending.message) {
            return;
        }
        let event = if pending.reason == DEFERRED { "ResizeDeferred" } else { "ResizeInfeasible" };
        let message = told(pending.reason, &self.wanted, pending.generation, Some(&pending.message));
        self.job.context.events.pod(&self.wanted, None, true, event, message);
    }

    /// Containers that run, with their IDs.
    pub(super) fn running(&self) -> Vec<(String, String)> {
        let alive = |(name, seen): (&String, &crate::agent::observed::Seen)| {
            let run = seen.current.as_ref().filter(|run| run.alive())?;
            Some((name.clone(), Instance::id(name, run.attempt)))
        };
        self.have.containers.iter().filter_map(alive).collect()
    }

    /// Groups were changed to what `pod` was allotted, but for containers that did not run.
    pub(super) fn resized(&mut self, pod: &Pod, running: &[(String, String)], result: Result<(), String>) {
        self.have.resize.doing = false;
        match result {
            Ok(()) => {
                self.have.resize.error = None;
                self.have.given.group = Some(Allotted::of(pod));
                for container in containers(pod).filter(|container| running.iter().any(|(name, _)| *name == container.name)) {
                    self.have.given.containers.insert(container.name.clone(), container.resources.clone().unwrap_or_default());
                }
                self.settle();
            }
            Err(why) => {
                let before = self.have.resize.error.replace((why.clone(), later(self.now(), RETRY)));
                if before.is_none_or(|(before, _)| before != why) {
                    let message = told("error", &self.job.pod, self.have.resize.granted, Some(&why));
                    self.job.context.events.pod(&self.job.pod, None, true, "ResizeError", message);
                }
            }
        }
    }

    /// Says that a resize is done when all that runs has what it is allotted, and writes that down.
    pub(super) fn settle(&mut self) {
        let running = self.running();
        let runs = |name: &str| running.iter().any(|(running, _)| running == name);
        let due = is_group_due(&self.job.pod, &self.have.given)
            || containers(&self.job.pod).any(|container| runs(&container.name) && is_due(container, &self.have.given));
        if !due && let Some(generation) = self.have.resize.granted.take() {
            let message = told("completed", &self.job.pod, Some(generation), None);
            self.job.context.events.pod(&self.job.pod, None, false, "ResizeCompleted", message);
        }
        self.record_resources();
    }
}
