//! Runs that are over: ended, lost with their sandbox, found after a restart of the agent, or told of by the API alone.
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus};
use tokio::task::AbortHandle;

use super::{Done, Worker};
use crate::agent::observed::{Image, Instance, Sandbox};
use crate::agent::plan::{is_terminal, restart_at, restart_policy};
use crate::agent::roles::{Role, find, role};
use crate::agent::status::full_name;
use crate::runtime::{ContainerState, Phase, Runtime};
impl<R: Runtime> Worker<R> {
    /// The sandbox went away by itself: all its containers with it.
    pub(super) fn lost(&mut self) {
        if matches!(self.have.sandbox, Sandbox::Removing | Sandbox::Absent) {
            return;
        }
        self.job.context.events.pod(
            &self.job.pod,
            None,
            false,
            "SandboxChanged",
            "Pod sandbox changed, it will be killed and re-created.".into(),
        );
        let now = self.now();
        let names: Vec<String> = self.have.containers.keys().cloned().collect();
        for name in names {
            let seen = self.seen(&name);
            if let Some(current) = seen.current.as_mut().filter(|i| i.alive()) {
                let started = if let Phase::Running { started, .. } = current.phase { started } else { now };
                current.phase = Phase::Exited { code: 137, oom_killed: false, started, finished: now };
                current.reason = Some("ContainerStatusUnknown".into());
                current.message = Some("The container could not be located when the pod was terminated".into());
            }
            self.ended(&name);
            let init = matches!(role(&self.job.pod, &name), Role::Init | Role::Sidecar);
            let seen = self.seen(&name);
            if init {
                // They run again in the new sandbox.
                seen.last = seen.current.take().or(seen.last.take());
            }
        }
        self.have.sandbox = Sandbox::Removing;
        let job = self.job.clone();
        // Only the shim died: cgroup, mounts and address are still to be freed. The volumes stay.
        self.spawn(async move {
            while let Err(error) = job.context.runtime.remove_sandbox(job.uid()).await {
                tracing::warn!(%error, pod = job.uid(), "what a lost sandbox left can't be removed, trying again");
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Done::Removed(Ok(()))
        });
    }

    /// What was found after a restart of the agent.
    pub(super) fn adopt(&mut self, mut found: Vec<ContainerState>) {
        found.sort_by_key(|c| c.labels.get("attempt").and_then(|a| a.parse::<u32>().ok()).unwrap_or(0));
        let told = self.job.pod.status.clone().unwrap_or_default();
        for state in found {
            let Some(name) = state.labels.get("container").cloned() else { continue };
            let Some(instance) = instance(&state) else { continue };
            if instance.phase == Phase::Created {
                // Half made when the agent went: made again.
                self.forget(&name, instance.attempt);
                continue;
            }
            let container = find(&self.job.pod, &name);
            let all = told.container_statuses.iter().flatten().chain(told.init_container_statuses.iter().flatten());
            let before = all.into_iter().find(|s| s.name == name && s.restart_count == i32::try_from(instance.attempt).unwrap_or(-1));
            let (was_started, was_ready) = (before.is_some_and(|s| s.started == Some(true)), before.is_some_and(|s| s.ready));
            let seen = self.seen(&name);
            let old = seen.current.replace(instance);
            if let Some(old) = old
                && let Some(dead) = seen.last.replace(old)
            {
                self.forget(&name, dead.attempt);
            }
            let seen = self.seen(&name);
            let has = |pick: fn(&Container) -> bool| container.as_ref().is_some_and(pick);
            seen.started = was_started || !has(|c| c.startup_probe.is_some());
            seen.ready = was_ready || (seen.started && !has(|c| c.readiness_probe.is_some()));
            self.ends.insert(name.clone(), Default::default());
            if self.have.container(&name).and_then(|s| s.current.as_ref()).is_some_and(|i| !i.alive()) {
                self.ended(&name);
            } else {
                self.probe(&name);
            }
        }
    }

    /// The API tells of runs that left no trace here (the node was restarted): they have ended, and the count of runs goes on.
    pub(super) fn recall(&mut self) {
        let told = self.job.pod.status.clone().unwrap_or_default();
        if is_terminal(&self.job.pod) {
            return;
        }
        let now = self.now();
        for status in told.init_container_statuses.iter().flatten().chain(told.container_statuses.iter().flatten()) {
            if let Some(run) = told_of(status, now) {
                self.seen(&status.name).last = Some(run);
            }
        }
    }

    /// Ephemeral containers that the API tells of and that are not here have had their run, in a sandbox that is gone.
    pub(super) fn recall_ephemeral(&mut self) {
        let told = self.job.pod.status.as_ref().and_then(|status| status.ephemeral_container_statuses.clone());
        let now = self.now();
        for status in told.iter().flatten() {
            let seen = self.seen(&status.name);
            if seen.current.is_none() {
                seen.current = told_of(status, now);
            }
        }
    }

    /// Looks at the containers after one ended.
    pub(super) async fn refresh(&mut self) {
        let states = match self.job.context.runtime.containers(self.job.uid()).await {
            Ok(states) => states,
            // Its own Exit tells.
            Err(crate::runtime::Error::ShimGone(_) | crate::runtime::Error::NotFound(_)) => return,
            Err(error) => return tracing::warn!(%error, pod = self.job.uid(), "containers can't be looked at"),
        };
        for state in states {
            let Some(name) = state.labels.get("container").cloned() else { continue };
            let Some(seen) = self.have.containers.get_mut(&name) else { continue };
            let Some(current) = seen.current.as_mut() else { continue };
            if Instance::id(&name, current.attempt) == state.id && current.phase != state.phase {
                current.phase = state.phase;
                if !current.alive() {
                    self.ended(&name);
                }
            }
        }
    }

    /// A run is over: its probes, its waiters, its last words, its next image.
    pub(super) fn ended(&mut self, name: &str) {
        self.probes.remove(name).inspect(AbortHandle::abort);
        if let Some((ended, _)) = self.ends.remove(name) {
            ended.cancel();
        }
        let job = self.job.clone();
        let Some(container) = find(&job.pod, name) else { return };
        let is_ephemeral = role(&job.pod, name) == Role::Ephemeral;
        let now = self.now();
        let seen = self.seen(name);
        (seen.started, seen.ready, seen.restart, seen.image) = (false, false, None, Image::Unknown);
        if let Some(current) = seen.current.as_mut()
            && let Some(code) = current.code()
            && current.message.is_none()
        {
            current.message = job.termination_message(&container, current.attempt, code);
        }
        if !is_ephemeral && restart_at(seen).is_some_and(|at| at > now) && restart_policy(&job.pod) != "Never" {
            let message = format!("Back-off restarting failed container {name} in pod {}", full_name(&job.pod));
            job.context.events.pod(&job.pod, Some(name), true, "BackOff", message);
        }
    }
}

/// A run that left no trace here, from what the API says of it; none if it was never started. It has ended.
fn told_of(status: &ContainerStatus, now: Timestamp) -> Option<Instance> {
    status.container_id.as_ref().filter(|id| !id.is_empty())?;
    let ended = status.state.as_ref().and_then(|s| s.terminated.as_ref());
    let started = status.state.as_ref().and_then(|s| s.running.as_ref()).and_then(|r| r.started_at.as_ref()).map_or(now, |t| t.0);
    let phase = match ended {
        Some(t) => Phase::Exited {
            code: t.exit_code,
            oom_killed: false,
            started: t.started_at.as_ref().map_or(now, |t| t.0),
            finished: t.finished_at.as_ref().map_or(now, |t| t.0),
        },
        None => Phase::Exited { code: 137, oom_killed: false, started, finished: now },
    };
    let unknown = || Some("ContainerStatusUnknown".to_owned());
    Some(Instance {
        attempt: u32::try_from(status.restart_count).unwrap_or(0),
        phase,
        message: ended.and_then(|t| t.message.clone()),
        reason: ended.map_or_else(unknown, |t| t.reason.clone()),
        image: status.image.clone(),
        image_id: status.image_id.clone(),
        hash: String::new(),
    })
}

/// A run, from what the runtime says of it.
pub(super) fn instance(state: &ContainerState) -> Option<Instance> {
    let label = |name: &str| state.labels.get(name).cloned();
    Some(Instance {
        attempt: label("attempt")?.parse().ok()?,
        phase: state.phase.clone(),
        message: None,
        reason: None,
        image: label("image").unwrap_or_default(),
        image_id: label("image-id").unwrap_or_default(),
        hash: label("hash").unwrap_or_default(),
    })
}
