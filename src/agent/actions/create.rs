//! The configuration of one run of a container, with the files it is given.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Job, text};
use crate::agent::observed::Instance;
use crate::agent::sources;
use crate::agent::spec::env::{self, Fetched};
use crate::agent::spec::{self, Bind, Facts, SpecError, files, user};
use crate::agent::volumes::subpath;
use crate::runtime::image::Image;
use crate::runtime::{ContainerConfig, Runtime};
impl<R: Runtime> Job<R> {
    pub(super) async fn container_config(
        &self,
        container: &Container,
        attempt: u32,
        image: &Image,
        ip: Option<IpAddr>,
        volumes: &BTreeMap<String, PathBuf>,
    ) -> Result<ContainerConfig, SpecError> {
        let id = Instance::id(&container.name, attempt);
        let facts = self.facts(ip);
        let env = self.environment(container, image, &facts).await?;
        let want = user::wanted(&self.pod, container);
        let (passwd, group) = (user::image_file(&image.layers, "etc/passwd")?, user::image_file(&image.layers, "etc/group")?);
        let image_user = image.config.user().clone().unwrap_or_default();
        let user = user::resolve(&container.name, &want, &image_user, &passwd, &group)?;
        let mut binds = self.pod_files(ip)?;
        binds.push(self.termination_log(container, attempt)?);
        binds.extend(self.volume_binds(container, volumes, &env::map(&env))?);
        // The longest targets last, so that a mount below another one is not hidden by it.
        binds.sort_by_key(|b| b.target.split('/').filter(|p| !p.is_empty()).count());
        // What a volume puts in place of a file of ours wins.
        let mut seen = std::collections::BTreeSet::new();
        binds.reverse();
        binds.retain(|b| seen.insert(b.target.clone()));
        binds.reverse();
        let host_ipc = self.pod.spec.as_ref().and_then(|s| s.host_ipc) == Some(true);
        let parts = spec::Parts {
            image,
            env,
            user,
            binds,
            shm: if host_ipc { "/dev/shm".into() } else { self.dir().join("shm") },
            id: &id,
            profile: self.localhost_profile(container)?,
            facts: &facts,
        };
        let spec = spec::spec(&self.pod, container, &parts)?;
        let meta = &self.pod.metadata;
        let log_path = self.context.config.log_path(text(&meta.namespace), text(&meta.name), self.uid(), &container.name, attempt);
        if let Some(dir) = log_path.parent() {
            std::fs::create_dir_all(dir).map_err(|source| SpecError::Io { what: dir.display().to_string(), source })?;
        }
        let signal = container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()).or(image.config.stop_signal().clone());
        let image_id = image.repo_digests.first().unwrap_or(&image.id).clone();
        let labels = [
            ("container", container.name.clone()),
            ("attempt", attempt.to_string()),
            ("image", text(&container.image).to_owned()),
            ("image-id", image_id),
            ("hash", hash(container)),
            ("stop-signal", signal.unwrap_or_else(|| "SIGTERM".into())),
        ];
        Ok(ContainerConfig {
            id,
            spec,
            layers: image.layers.clone(),
            log_path,
            log_max_bytes: self.context.config.log_max_bytes,
            log_files: self.context.config.log_files,
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            joins: None,
            labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        })
    }

    pub(super) async fn environment(&self, container: &Container, image: &Image, facts: &Facts) -> Result<Vec<String>, SpecError> {
        let namespace = text(&self.pod.metadata.namespace).to_owned();
        let client = &self.context.client;
        let fetch = env::references(container).into_iter().map(|(kind, name)| {
            let id = (kind, namespace.clone(), name);
            async move { sources::fetch_env(client, &id).await.map(|data| ((id.0, id.2), data)) }
        });
        let fetched: Fetched = futures::future::try_join_all(fetch).await.map_err(|e| SpecError::Env(e.to_string()))?.into_iter().collect();
        let links = self.pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
        let mut services = self.context.services.clone();
        let known = match services.wait_for(Option::is_some).await {
            Ok(known) => known.clone().unwrap_or_default(),
            Err(_) => return Err(SpecError::Env("services have not yet been read at least once, cannot construct envvars".into())),
        };
        let service_env = env::services(&known.environment(&namespace), &namespace, links);
        env::environment(&self.pod, container, image.config.env().as_deref().unwrap_or_default(), service_env, &fetched, facts)
    }

    /// /etc/hosts, /etc/hostname and /etc/resolv.conf, written for the pod.
    pub(super) fn pod_files(&self, ip: Option<IpAddr>) -> Result<Vec<Bind>, SpecError> {
        let config = &self.context.config;
        let dir = self.dir();
        let read = |path: &Path| match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            other => other.map_err(|source| SpecError::Io { what: path.display().to_string(), source }),
        };
        let own = if self.host_network() { Some(read(Path::new("/etc/hosts"))?) } else { None };
        let hosts = files::hosts(&self.pod, ip, &config.cluster_domain, own.as_deref());
        let resolv = files::resolv_conf(&self.pod, config.cluster_dns, &config.cluster_domain, &read(&config.resolv_conf)?);
        let mut table = vec![("etc-hosts", "/etc/hosts", hosts), ("resolv.conf", "/etc/resolv.conf", resolv)];
        if !self.host_network() {
            table.push(("hostname", "/etc/hostname", files::hostname(&self.pod) + "\n"));
        }
        let mut binds = Vec::new();
        for (file, target, content) in table {
            let source = dir.join(file);
            // Written once: a container may have changed its copy, which is shared by the pod.
            if !source.exists() {
                std::fs::create_dir_all(&dir)
                    .and_then(|()| std::fs::write(&source, content))
                    .and_then(|()| std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o644)))
                    .map_err(|error| SpecError::Io { what: source.display().to_string(), source: error })?;
            }
            binds.push(Bind { source, target: target.into(), read_only: false, propagation: None });
        }
        Ok(binds)
    }

    pub(super) fn termination_file(&self, container: &str, attempt: u32) -> PathBuf {
        self.dir().join("containers").join(container).join(attempt.to_string())
    }

    pub(super) fn termination_log(&self, container: &Container, attempt: u32) -> Result<Bind, SpecError> {
        let source = self.termination_file(&container.name, attempt);
        let made = source.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&source, ""));
        made.and_then(|()| std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o666)))
            .map_err(|error| SpecError::Io { what: source.display().to_string(), source: error })?;
        let target = container.termination_message_path.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "/dev/termination-log".into());
        Ok(Bind { source, target, read_only: false, propagation: None })
    }

    pub(super) fn volume_binds(
        &self,
        container: &Container,
        volumes: &BTreeMap<String, PathBuf>,
        vars: &BTreeMap<String, String>,
    ) -> Result<Vec<Bind>, SpecError> {
        let mut binds = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            let volume = volumes.get(&mount.name).ok_or_else(|| {
                SpecError::Mount(format!("cannot find volume \"{}\" to mount into container \"{}\"", mount.name, container.name))
            })?;
            let expression = mount.sub_path_expr.as_deref().filter(|s| !s.is_empty()).map(|s| env::expand(s, vars));
            let sub = mount.sub_path.clone().filter(|s| !s.is_empty()).or(expression);
            let source = match &sub {
                None => volume.clone(),
                Some(sub) => subpath::resolve(volume, sub)
                    .map_err(|e| SpecError::Mount(format!("failed to prepare subPath for volumeMount \"{}\": {e}", mount.name)))?,
            };
            binds.push(Bind {
                source,
                target: mount.mount_path.clone(),
                read_only: mount.read_only == Some(true),
                propagation: mount.mount_propagation.clone(),
            });
        }
        if container.volume_devices.iter().flatten().next().is_some() {
            return Err(SpecError::Mount("volumeDevices are not supported by this node agent".into()));
        }
        Ok(binds)
    }

    pub(super) fn localhost_profile(&self, container: &Container) -> Result<Option<Value>, SpecError> {
        let profile = spec::seccomp_profile(&self.pod, container);
        if profile.type_ != "Localhost" {
            return Ok(None);
        }
        let name = profile.localhost_profile.unwrap_or_default();
        let path = self.context.config.seccomp_dir.join(&name);
        let fail = |why: String| SpecError::Seccomp { path: path.clone(), why };
        if name.is_empty() || Path::new(&name).components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
            return Err(fail("localhostProfile must be a descending relative path".into()));
        }
        let bytes = std::fs::read(&path).map_err(|e| fail(e.to_string()))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|e| fail(e.to_string()))
    }
}

fn hash(container: &Container) -> String {
    let bytes = serde_json::to_vec(container).expect("API types have string keys only, so they always encode");
    Sha256::digest(bytes).iter().take(8).map(|b| format!("{b:02x}")).collect()
}
