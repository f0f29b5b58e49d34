//! What a worker tells: the status to the API, the pod to the other parts of the node; and what keeps volumes true.
use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::task::AbortHandle;

use super::{CONDITIONS, Done, Message, Worker};
use crate::agent::Context;
use crate::agent::actions::Job;
use crate::agent::observed::Image;
use crate::agent::plan::later;
use crate::agent::roles;
use crate::agent::status::{RESIZE, status};
use crate::agent::volumes::Mounted;
use crate::client::code;
use crate::runtime::Runtime;
impl<R: Runtime> Worker<R> {
    /// Watches the sources of the volumes, and mounts again when one changes or a token is due.
    pub(super) fn keep_fresh(&mut self, mounted: Mounted) {
        self.refresher.take().inspect(AbortHandle::abort);
        if mounted.sources.is_empty() && mounted.refresh.is_none() {
            return;
        }
        let (job, inbox) = (self.job.clone(), self.inbox.clone());
        let task = self.tasks.spawn(async move {
            let mut mounted = mounted;
            loop {
                stale(&mounted, &job.context).await;
                match job.mount_volumes(None).await {
                    Ok(fresh) => mounted = fresh,
                    Err(error) => {
                        tracing::warn!(%error, pod = job.uid(), "volumes can't be brought up to date");
                        tokio::time::sleep(Duration::from_secs(10)).await;
                    }
                }
                let _ = inbox.send(Message::Done(Box::new(Done::Stale)));
            }
        });
        self.refresher = Some(task);
    }

    /// The status as it should be now; only what this agent writes.
    pub(super) fn current_status(&self) -> PodStatus {
        let mut old = self.sent.clone();
        let foreign = self.job.pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let foreign = foreign.filter(|c| !CONDITIONS.contains(&&*c.type_)).cloned();
        old.conditions.get_or_insert_default().extend(foreign);
        own(status(&self.job.pod, &old, &self.have, self.job.context.config.node_ip, self.now()))
    }

    /// Whether somebody has said something else of the pod's health since this agent last did, such as the server that did not hear of the
    /// node for a while.
    fn is_contradicted(&self) -> bool {
        let held = self.job.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut held = held.filter(|condition| CONDITIONS.contains(&&*condition.type_));
        let said =
            |held: &PodCondition| self.sent.conditions.iter().flatten().any(|sent| sent.type_ == held.type_ && sent.status == held.status);
        revision(&self.job.pod) > self.sent_in && !held.all(said)
    }

    /// Tells the API and the other parts of the node what changed.
    pub(super) fn publish(&mut self) {
        self.pods.set(self.job.uid(), &self.job.pod, &self.have);
        let now = self.now();
        if self.sending || self.have.gone || self.have.finished || self.send_after.is_some_and(|at| at > now) {
            return;
        }
        self.send_after = None;
        let status = self.current_status();
        if status == self.sent && !self.is_contradicted() {
            return;
        }
        self.sending = true;
        let (job, before) = (self.job.clone(), self.sent.clone());
        self.spawn(async move {
            let result = send(&job, &status, &before).await;
            Done::Sent(Box::new(status), result)
        });
    }

    /// A failed pull was told: as upstream, the next thing said of it is that it backs off.
    pub(super) fn pulls_told(&mut self) {
        for container in roles::all(&self.job.pod) {
            let Some(seen) = self.have.containers.get_mut(&container.name) else { continue };
            let (sent, mut shown) = (&self.sent, Vec::new());
            for list in [&sent.container_statuses, &sent.init_container_statuses, &sent.ephemeral_container_statuses] {
                shown.extend(list.iter().flatten());
            }
            let told = |s: &ContainerStatus| {
                let waiting = s.state.as_ref().and_then(|s| s.waiting.as_ref());
                s.name == container.name && waiting.is_some_and(|w| w.reason.as_deref() == Some("ErrImagePull"))
            };
            if !seen.pull_told && matches!(seen.image, Image::Failed { .. }) && shown.into_iter().any(told) {
                seen.pull_told = true;
                let image = container.image.as_deref().unwrap_or_default();
                let message = format!("Back-off pulling image \"{image}\"");
                self.job.context.events.pod(&self.job.pod, Some(&container.name), false, "BackOff", message);
            }
        }
    }

    pub(super) fn was_sent(&mut self, status: PodStatus, result: Result<u64, kube::Error>) {
        self.sending = false;
        match result {
            Ok(rev) => {
                self.send_failures = 0;
                (self.sent, self.sent_in) = (status, rev);
                self.pulls_told();
            }
            // The pod is gone, or another one has its name: the watch tells.
            Err(error) if matches!(code(&error), Some(404 | 409)) => (self.sent, self.sent_in) = (status, revision(&self.job.pod)),
            Err(error) => {
                tracing::warn!(%error, pod = self.job.uid(), "a pod's status can't be sent, trying again");
                self.send_failures += 1;
                let wait = Duration::from_millis(200).saturating_mul(1 << self.send_failures.min(6));
                self.send_after = Some(later(self.now(), wait));
            }
        }
    }
}

/// Waits until payloads made from these are out of date.
async fn stale<R: Runtime>(mounted: &Mounted, context: &Context<R>) {
    let due = async {
        match mounted.refresh {
            Some(at) => tokio::time::sleep(Duration::try_from(at.duration_since(context.now())).unwrap_or_default()).await,
            None => std::future::pending().await,
        }
    };
    let changed = mounted.sources.iter().map(|(_, value)| {
        let mut value = value.clone();
        Box::pin(async move {
            if value.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    let changed: Vec<_> = changed.collect();
    let any = async {
        match changed.is_empty() {
            true => std::future::pending().await,
            false => drop(futures::future::select_all(changed).await),
        }
    };
    tokio::select! {
        () = due => {}
        () = any => {}
    }
}

/// A pod's revision; 0 if it has none.
pub(super) fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|rev| rev.parse().ok()).unwrap_or(0)
}

/// Without what others write.
pub(super) fn own(mut status: PodStatus) -> PodStatus {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| CONDITIONS.contains(&&*c.type_));
    }
    status
}

/// One PATCH of /status. The uid makes it fail with a conflict for a pod of the same name.
async fn send<R: Runtime>(job: &Job<R>, status: &PodStatus, before: &PodStatus) -> Result<u64, kube::Error> {
    let meta = &job.pod.metadata;
    let mut body = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    // A merge keeps what is not named: say what is no longer there.
    for (name, absent) in [("reason", status.reason.is_none()), ("message", status.message.is_none())] {
        let had = job.pod.status.as_ref().is_some_and(|s| if name == "reason" { s.reason.is_some() } else { s.message.is_some() });
        if absent && had {
            body[name] = serde_json::Value::Null;
        }
    }
    for condition in body["conditions"].as_array_mut().into_iter().flatten() {
        for name in ["reason", "message"] {
            if condition[name].is_null() {
                condition[name] = serde_json::Value::Null;
            }
        }
    }
    // Addresses are merged by themselves: of a node that was renumbered both would stay.
    for name in ["podIPs", "hostIPs"] {
        if let Some(addresses) = body[name].as_array_mut() {
            addresses.push(json!({"$patch": "replace"}));
        }
    }
    // And a condition that no longer holds is taken out.
    let held = job.pod.status.iter().chain([before]).flat_map(|status| status.conditions.iter().flatten());
    let held: BTreeSet<&str> = held.map(|condition| condition.type_.as_str()).collect();
    let gone = RESIZE.iter().filter(|name| held.contains(**name) && !status.conditions.iter().flatten().any(|c| c.type_ == **name));
    let gone: Vec<serde_json::Value> = gone.map(|name| json!({"type": name, "$patch": "delete"})).collect();
    if let Some(conditions) = body["conditions"].as_array_mut() {
        conditions.extend(gone);
    }
    let patch = json!({"metadata": {"uid": meta.uid}, "status": body});
    let api: Api<Pod> = Api::namespaced(job.context.client.clone(), meta.namespace.as_deref().unwrap_or_default());
    api.patch_status(meta.name.as_deref().unwrap_or_default(), &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .map(|pod| revision(&pod))
}
