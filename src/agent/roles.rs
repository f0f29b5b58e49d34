//! The containers of a pod by what they are for. Their names are unique in the pod, so that a name says which it is. Pure.
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

use super::plan::is_sidecar;
use crate::api::pod::as_container;

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the others.
    Init,
    /// An init container that goes on beside the others.
    Sidecar,
    /// What the pod is there for.
    Main,
    /// Added to a pod that runs, for somebody who looks into it: runs once, and nothing waits for it.
    Ephemeral,
}

impl Role {
    /// The list of the pod's spec that it is in.
    pub fn list(self) -> &'static str {
        match self {
            Role::Init | Role::Sidecar => "initContainers",
            Role::Main => "containers",
            Role::Ephemeral => "ephemeralContainers",
        }
    }
}

/// What the container of this name is for.
pub fn role(pod: &Pod, name: &str) -> Role {
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).find(|container| container.name == name);
    match init {
        Some(container) if is_sidecar(container) => Role::Sidecar,
        Some(_) => Role::Init,
        None if ephemeral(pod).any(|container| container.name == name) => Role::Ephemeral,
        None => Role::Main,
    }
}

/// The ephemeral containers of a pod.
pub fn ephemeral(pod: &Pod) -> impl Iterator<Item = &EphemeralContainer> {
    pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten())
}

/// The container of a pod by name, of any role.
pub fn find(pod: &Pod, name: &str) -> Option<Container> {
    let usual = super::plan::containers(pod).find(|container| container.name == name).cloned();
    usual.or_else(|| ephemeral(pod).find(|container| container.name == name).map(as_container))
}

/// All containers of a pod, of any role.
pub fn all(pod: &Pod) -> impl Iterator<Item = Container> {
    super::plan::containers(pod).cloned().chain(ephemeral(pod).map(as_container))
}

/// The container whose processes an ephemeral one joins.
pub fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let container = ephemeral(pod).find(|container| container.name == name)?;
    container.target_container_name.as_deref().filter(|target| !target.is_empty())
}
