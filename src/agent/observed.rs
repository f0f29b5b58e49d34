//! What is known of a pod on this node: the `have` of [`plan`](super::plan::plan) and the input of [`status`](super::status::status).
//!
//! Plain data, changed only by the pod's worker. An *instance* is one run of a container; its *attempt* counts up from 0 and is
//! what the API calls restartCount.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::resize::{Given, Resize};
use crate::runtime::Phase;

/// The sandbox, as far as it got.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Sandbox {
    /// There is none.
    #[default]
    Absent,
    /// Being made.
    Creating,
    /// There, with its network.
    Ready {
        /// The shim.
        pid: i32,
        /// Address of the pod (the node's with host network).
        ip: Option<IpAddr>,
    },
    /// Could not be made; try again then.
    Failed {
        /// When to try again.
        retry: Timestamp,
    },
    /// Being removed.
    Removing,
}

/// The volumes, as far as they got.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Volumes {
    /// Not set up.
    #[default]
    Absent,
    /// Being set up.
    Mounting,
    /// All there.
    Ready,
    /// Could not be set up; try again then.
    Failed {
        /// When to try again.
        retry: Timestamp,
    },
}

/// The image of a container's next start.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Image {
    /// Not looked at for this start.
    #[default]
    Unknown,
    /// Looked up or pulled.
    Present,
    /// Not to be had; try again then.
    Failed {
        /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`.
        reason: &'static str,
        /// Why.
        message: String,
        /// When to try again.
        retry: Timestamp,
    },
}

/// What the worker is doing with a container right now; nothing else is begun until it is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Doing {
    /// Looking up or pulling its image.
    Image,
    /// Creating and starting it, with its postStart hook.
    Starting,
    /// preStop hook, signal, waiting, kill.
    Stopping {
        /// When it is killed.
        deadline: Timestamp,
    },
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Which run.
    pub attempt: u32,
    /// Its life.
    pub phase: Phase,
    /// Termination message, once ended.
    pub message: Option<String>,
    /// Reason of the end where it is not simply Completed, Error or OOMKilled.
    pub reason: Option<String>,
    /// As the pod names its image.
    pub image: String,
    /// Digest or ID of the image it runs.
    pub image_id: String,
    /// Hash of the container's spec it was made from.
    pub hash: String,
}

impl Instance {
    /// The runtime's ID of it, in its sandbox.
    pub fn id(name: &str, attempt: u32) -> String {
        format!("{name}-{attempt}")
    }
    /// Whether its process runs (or is about to).
    pub fn alive(&self) -> bool {
        !matches!(self.phase, Phase::Exited { .. })
    }
    /// Exit code, once ended.
    pub fn code(&self) -> Option<i32> {
        match self.phase {
            Phase::Exited { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// A container as its worker knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The newest run.
    pub current: Option<Instance>,
    /// The run before it.
    pub last: Option<Instance>,
    /// Image of the next start.
    pub image: Image,
    /// Failures to get the image in a row.
    pub pull_failures: u32,
    /// The failure to get the image has been told; from then on the container is said to back off.
    pub pull_told: bool,
    /// What is under way.
    pub doing: Option<Doing>,
    /// The last start failed before there was a process.
    pub error: Option<StartFailure>,
    /// Restarts in a row without ten good minutes between.
    pub crashes: u32,
    /// The startup probe passed, or there is none.
    pub started: bool,
    /// The readiness probe passes, or there is none.
    pub ready: bool,
    /// It was stopped to be made anew with other resources.
    pub again: bool,
    /// It must be stopped and restarted: why, and with which grace.
    pub restart: Option<Restart>,
}

/// An order to restart a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    /// For the Killing event.
    pub why: String,
    /// The probe's own grace period.
    pub grace: Option<Duration>,
}

/// A start that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct StartFailure {
    /// `CreateContainerConfigError`, `CreateContainerError`, `RunContainerError`.
    pub reason: &'static str,
    /// Why.
    pub message: String,
    /// When to try again.
    pub retry: Timestamp,
}

/// Everything known of a pod on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Its sandbox.
    pub sandbox: Sandbox,
    /// Its volumes.
    pub volumes: Volumes,
    /// Its containers, init containers included.
    pub containers: BTreeMap<String, Seen>,
    /// What its groups were given.
    pub given: Given,
    /// How far a resize got.
    pub resize: Resize,
    /// When the node took the pod up.
    pub start_time: Option<Timestamp>,
    /// The pod is no longer in the API.
    pub gone: bool,
    /// The pod was failed as a whole, for instance DeadlineExceeded: reason and message.
    pub failed: Option<(String, String)>,
    /// Nothing more to do: cleaned up and, where deletion was asked for, deleted.
    pub finished: bool,
    /// Deletion from the API is under way.
    pub finishing: bool,
}

impl Observed {
    /// A container's state; that of one never seen is empty.
    pub fn container(&self, name: &str) -> Option<&Seen> {
        self.containers.get(name)
    }
    /// Address of the pod.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.sandbox {
            Sandbox::Ready { ip, .. } => ip,
            _ => None,
        }
    }
}
