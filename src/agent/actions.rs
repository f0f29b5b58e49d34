//! What steps do: each an async function over the [`Context`] that a worker spawns; the answer comes back to it as a message.
//! Nothing here decides what comes next.
mod create;
mod end;
mod image;
mod resize;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::Context;
use super::huge_pages::Pages;
use super::observed::Instance;
use super::resources;
use super::spec::{Facts, SpecError, files};
use super::volumes::{Maker, Mounted, VolumeError, mount_all};
use crate::runtime::image::Image;
use crate::runtime::{ContainerConfig, ContainerState, Runtime, SandboxConfig};

/// A pod with the agent it runs on.
pub struct Job<R: Runtime> {
    /// The agent.
    pub context: Arc<Context<R>>,
    /// The pod.
    pub pod: Arc<Pod>,
}

impl<R: Runtime> Clone for Job<R> {
    fn clone(&self) -> Self {
        Job { context: self.context.clone(), pod: self.pod.clone() }
    }
}

/// An image that can't be had.
#[derive(Clone, Debug)]
pub struct ImageFailure {
    /// `ErrImagePull`, `ErrImageNeverPull` or `InvalidImageName`.
    pub reason: &'static str,
    /// Why.
    pub message: String,
}

/// A start that failed.
#[derive(Clone, Debug)]
pub struct StartFailure {
    /// `CreateContainerConfigError`, `CreateContainerError` or `RunContainerError`.
    pub reason: &'static str,
    /// Why.
    pub message: String,
    /// The runtime would not run what it was given, and won't when asked again.
    pub is_final: bool,
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

impl<R: Runtime> Job<R> {
    /// uid of the pod: also the ID of its sandbox.
    pub fn uid(&self) -> &str {
        text(&self.pod.metadata.uid)
    }
    fn dir(&self) -> PathBuf {
        self.context.config.pod_dir(self.uid())
    }
    fn host_network(&self) -> bool {
        self.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true)
    }
    /// Facts for env and downward API.
    pub fn facts(&self, ip: Option<IpAddr>) -> Facts {
        Facts {
            node_name: self.context.config.node_name.clone(),
            node_ip: self.context.config.node_ip,
            pod_ip: ip,
            node_memory: self.context.capacity.memory,
            node_cpu: self.context.capacity.cpu,
            huge_pages: self.context.capacity.huge_pages.clone(),
        }
    }
    fn event(&self, container: Option<&str>, warning: bool, reason: &'static str, message: String) {
        self.context.events.pod(&self.pod, container, warning, reason, message);
    }

    /// Starts the shim and gives it its network.
    pub async fn create_sandbox(&self) -> Result<(i32, Option<IpAddr>), String> {
        let result = async {
            let config = sandbox_config(&self.pod, self.context.config.pod_pids, &self.context.capacity.huge_pages)?;
            let sandbox = self.context.runtime.create_sandbox(&config).await.map_err(|e| e.to_string())?;
            match self.attach(sandbox.pid).await {
                Ok(ip) => Ok((sandbox.pid, ip)),
                Err(why) => {
                    if let Err(error) = self.context.runtime.remove_sandbox(self.uid()).await {
                        tracing::warn!(%error, pod = self.uid(), "a sandbox without network can't be removed");
                    }
                    Err(why)
                }
            }
        };
        result.await.inspect_err(|why| self.event(None, true, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {why}")))
    }

    /// Address of the pod, given now or before.
    pub async fn attach(&self, pid: i32) -> Result<Option<IpAddr>, String> {
        if self.host_network() {
            return Ok(Some(self.context.config.node_ip));
        }
        let attachment = self.context.net.attach(self.uid(), pid).await;
        attachment.map(|a| Some(IpAddr::V4(a.address))).map_err(|error| format!("failed to set up the pod's network: {error}"))
    }

    /// Removes sandbox, network, tmpfs mounts and files. Every part is tried; the first failure is told.
    pub async fn remove_sandbox(&self) -> Result<(), String> {
        let removed = self.context.runtime.remove_sandbox(self.uid()).await.map_err(|e| e.to_string());
        let detached = match self.host_network() {
            true => Ok(()),
            false => self.context.net.detach(self.uid()).await.map_err(|e| e.to_string()),
        };
        removed.and(detached)?;
        let (dir, unmount) = (self.dir(), self.context.unmount);
        match tokio::task::spawn_blocking(move || super::volumes::clean_up(&dir, unmount)).await {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sets up the volumes, or brings them up to date.
    pub async fn mount_volumes(&self, ip: Option<IpAddr>) -> Result<Mounted, VolumeError> {
        let maker = Maker { context: &*self.context, pod: &self.pod, facts: self.facts(ip) };
        let dir = self.dir();
        let shm = dir.join("shm");
        if !super::edge::is_mount(&shm) {
            // Secrets lie below: nobody else on the node may look.
            let made = std::fs::create_dir_all(&shm).and_then(|()| std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o750)));
            made.map_err(|source| VolumeError::Io { doing: "creating", path: shm.clone(), source })?;
            let io = |source| VolumeError::Io { doing: "mounting a tmpfs on", path: shm.clone(), source };
            (self.context.mount_tmpfs)(&shm, Some(64 << 20)).map_err(io)?;
        }
        mount_all(&maker, &self.dir()).await.map_err(|(name, error)| {
            self.event(None, true, "FailedMount", format!("MountVolume.SetUp failed for volume \"{name}\" : {error}"));
            error
        })
    }

    /// Makes a run of a container; its process then waits for [`Job::start`]. `joins` is the run whose processes it shares.
    pub async fn create(
        &self,
        container: &Container,
        attempt: u32,
        image: &Image,
        ip: Option<IpAddr>,
        volumes: &BTreeMap<String, PathBuf>,
        joins: Result<Option<String>, SpecError>,
    ) -> Result<(), StartFailure> {
        let name = Some(container.name.as_str());
        let config = async {
            let config = self.container_config(container, attempt, image, ip, volumes).await?;
            Ok::<_, SpecError>(ContainerConfig { joins: joins?, ..config })
        };
        let config = match config.await {
            Ok(config) => config,
            Err(error) => {
                self.event(name, true, "Failed", format!("Error: {error}"));
                return Err(StartFailure { reason: "CreateContainerConfigError", message: error.to_string(), is_final: false });
            }
        };
        if let Err(error) = self.context.runtime.create_container(self.uid(), &config).await {
            self.event(name, true, "Failed", format!("Error: {error}"));
            let is_final = matches!(error, crate::runtime::Error::Container(_));
            return Err(StartFailure { reason: "CreateContainerError", message: error.to_string(), is_final });
        }
        self.event(name, false, "Created", "Container created".into());
        Ok(())
    }

    /// Starts what [`Job::create`] made, and looks at it.
    pub async fn start(&self, container: &Container, attempt: u32) -> Result<ContainerState, StartFailure> {
        let name = Some(container.name.as_str());
        let id = Instance::id(&container.name, attempt);
        let result = async {
            self.context.runtime.start_container(self.uid(), &id).await?;
            let all = self.context.runtime.containers(self.uid()).await?;
            all.into_iter().find(|c| c.id == id).ok_or(crate::runtime::Error::NotFound(id.clone()))
        };
        match result.await {
            Ok(state) => {
                self.event(name, false, "Started", "Container started".into());
                Ok(state)
            }
            Err(error) => {
                self.event(name, true, "Failed", format!("Error: {error}"));
                if let Err(error) = self.context.runtime.remove_container(self.uid(), &id).await {
                    tracing::warn!(%error, container = id, "a container that did not start can't be removed");
                }
                Err(StartFailure { reason: "RunContainerError", message: error.to_string(), is_final: true })
            }
        }
    }
}

/// What the sandbox of a pod is made of, with at most so many processes.
fn sandbox_config(pod: &Pod, processes: Option<i64>, pages: &[Pages]) -> Result<SandboxConfig, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let meta = &pod.metadata;
    let resources = serde_json::from_value(resources::pod_limits(pod, processes, pages)).map_err(|e| e.to_string())?;
    let labels = [("uid", &meta.uid), ("name", &meta.name), ("namespace", &meta.namespace)];
    let host_network = spec.host_network == Some(true);
    Ok(SandboxConfig {
        id: text(&meta.uid).to_owned(),
        hostname: if host_network { String::new() } else { files::hostname(pod) },
        cgroup: resources::cgroup(pod),
        resources,
        host_network,
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_processes: spec.share_process_namespace == Some(true),
        sysctls: spec.security_context.and_then(|c| c.sysctls).into_iter().flatten().map(|s| (s.name, s.value)).collect(),
        labels: labels.into_iter().map(|(k, v)| (k.to_owned(), text(v).to_owned())).collect(),
    })
}
