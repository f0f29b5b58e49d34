//! Volumes of pods, one file per type. Two sorts: *places* (emptyDir, hostPath) are a directory and nothing more; *payloads*
//! (configMap, secret, downwardAPI, projected) are files written by [`atomic`] and written again when their source changes.
//!
//! Never mounts anything but tmpfs, and never follows a symbolic link that a container could have made (see [`subpath`]).
pub mod atomic;
pub mod config_map;
pub mod downward_api;
pub mod empty_dir;
pub mod host_path;
pub mod projected;
pub mod secret;
pub mod subpath;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{KeyToPath, Pod, Volume};

use super::Context;
use super::sources::{Changes, Source};
use super::spec::env::SourceKind;
use super::spec::{Facts, SpecError};
use crate::runtime::Runtime;

/// Why a volume can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// This agent does not know the type.
    #[error("volume type {0} is not supported by this node agent")]
    Unsupported(&'static str),
    /// A ConfigMap or Secret that is not optional does not exist.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// Which sort.
        kind: &'static str,
        /// Which.
        name: String,
    },
    /// A key that is not optional does not exist.
    #[error("references non-existent config key: {0}")]
    NoKey(String),
    /// A path leaves the volume.
    #[error("invalid path {0:?}: must be relative and not contain '..'")]
    BadPath(String),
    /// hostPath is not of the type that was asked for.
    #[error("hostPath type check failed: {path} is not {wanted}")]
    HostPath {
        /// The path.
        path: String,
        /// The type.
        wanted: &'static str,
    },
    /// The API server did not answer as needed.
    #[error("fetching {what}: {source}")]
    Api {
        /// Such as `secret "a"`.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// A field can't be read.
    #[error(transparent)]
    Field(#[from] SpecError),
    /// The disk.
    #[error("{doing} {path}: {source}")]
    Io {
        /// Such as `writing`.
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// One file of a payload.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Content.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Relative paths and their files.
pub type Payload = BTreeMap<String, File>;

/// A payload with what keeps it true.
#[derive(Default)]
pub struct Made {
    /// The files.
    pub payload: Payload,
    /// Whose change makes it stale.
    pub sources: Vec<(Arc<Source>, Changes)>,
    /// When it must be made anew in any case (tokens).
    pub refresh: Option<jiff::Timestamp>,
}

/// Everything that payloads need.
pub struct Maker<'a, R: Runtime> {
    /// The agent.
    pub context: &'a Context<R>,
    /// The pod.
    pub pod: &'a Pod,
    /// Facts of pod and node.
    pub facts: Facts,
}

impl<R: Runtime> Maker<'_, R> {
    /// Namespace of the pod.
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Adds the chosen keys of a ConfigMap or Secret.
    pub async fn keys(
        &self,
        made: &mut Made,
        kind: SourceKind,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: u32,
    ) -> Result<(), VolumeError> {
        let source = self.context.sources.get(kind, self.namespace(), name).await;
        let (data, changes) = source.value().await?;
        made.sources.push((source, changes));
        match data {
            Some(data) => choose(&mut made.payload, &data, items, optional, mode),
            None if optional => Ok(()),
            None => Err(VolumeError::NotFound { kind: kind.noun(), name: name.into() }),
        }
    }
}

/// Keys to files: all, or those of `items` with their paths and modes.
pub fn choose(
    payload: &mut Payload,
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: u32,
) -> Result<(), VolumeError> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        payload.extend(data.iter().map(|(key, data)| (key.clone(), File { data: data.clone(), mode })));
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(data) => payload.insert(item.path.clone(), File { data: data.clone(), mode: mode_of(item.mode, mode) }),
            None if optional => continue,
            None => return Err(VolumeError::NoKey(item.key.clone())),
        };
    }
    Ok(())
}

/// A file mode from the API.
pub fn mode_of(mode: Option<i32>, default: u32) -> u32 {
    mode.and_then(|m| u32::try_from(m).ok()).map_or(default, |m| m & 0o777)
}

/// What a pod's volumes came to.
#[derive(Default)]
pub struct Mounted {
    /// Directory (or file, for some hostPaths) of each volume.
    pub paths: BTreeMap<String, PathBuf>,
    /// Whose change makes payloads stale.
    pub sources: Vec<(Arc<Source>, Changes)>,
    /// When a token is due.
    pub refresh: Option<jiff::Timestamp>,
}

/// Directory of the volumes of a pod below its own directory.
pub fn volumes_dir(pod_dir: &Path) -> PathBuf {
    pod_dir.join("volumes")
}

/// Sets up all volumes side by side; called again, brings the payloads up to date. The failed volume's name comes with its error.
pub async fn mount_all<R: Runtime>(maker: &Maker<'_, R>, pod_dir: &Path) -> Result<Mounted, (String, VolumeError)> {
    let list = maker.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let all = list.map(|volume| async move { mount(maker, volume, pod_dir).await.map_err(|error| (volume.name.clone(), error)) });
    let mut mounted = Mounted::default();
    for (name, path, made) in futures::future::try_join_all(all).await? {
        mounted.paths.insert(name, path);
        mounted.sources.extend(made.sources);
        mounted.refresh = [mounted.refresh, made.refresh].into_iter().flatten().min();
    }
    Ok(mounted)
}

async fn mount<R: Runtime>(maker: &Maker<'_, R>, volume: &Volume, pod_dir: &Path) -> Result<(String, PathBuf, Made), VolumeError> {
    let group = maker.pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
    let group = group.and_then(|g| u32::try_from(g).ok());
    let dir = |kind: &str| volumes_dir(pod_dir).join(kind).join(&volume.name);
    let name = volume.name.clone();
    if let Some(source) = &volume.empty_dir {
        let path = dir("empty-dir");
        empty_dir::set_up(source, &path, group, maker.context.mount_tmpfs)?;
        return Ok((name, path, Made::default()));
    }
    if let Some(source) = &volume.host_path {
        host_path::set_up(source)?;
        return Ok((name, PathBuf::from(&source.path), Made::default()));
    }
    let (kind, made) = if let Some(source) = &volume.config_map {
        ("configmap", config_map::make(maker, source).await?)
    } else if let Some(source) = &volume.secret {
        ("secret", secret::make(maker, source).await?)
    } else if let Some(source) = &volume.downward_api {
        ("downward-api", downward_api::make(maker, source)?)
    } else if let Some(source) = &volume.projected {
        ("projected", projected::make(maker, source).await?)
    } else {
        return Err(VolumeError::Unsupported(unsupported(volume)));
    };
    let path = dir(kind);
    atomic::write(&path, &made.payload, group)?;
    Ok((name, path, made))
}

/// The field that names the type of a volume this agent can't set up.
fn unsupported(volume: &Volume) -> &'static str {
    let table = [
        (volume.persistent_volume_claim.is_some(), "persistentVolumeClaim"),
        (volume.csi.is_some(), "csi"),
        (volume.ephemeral.is_some(), "ephemeral"),
        (volume.nfs.is_some(), "nfs"),
        (volume.image.is_some(), "image"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.fc.is_some(), "fc"),
        (volume.git_repo.is_some(), "gitRepo"),
        (volume.cephfs.is_some(), "cephfs"),
        (volume.rbd.is_some(), "rbd"),
        (volume.flex_volume.is_some(), "flexVolume"),
    ];
    table.iter().find(|(set, _)| *set).map_or("unknown", |(_, name)| name)
}

/// Ends what [`mount_all`] made: tmpfs mounts first, then the files. Idempotent.
pub fn clean_up(pod_dir: &Path, unmount: fn(&Path) -> std::io::Result<()>) -> Result<(), VolumeError> {
    let io = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| VolumeError::Io { doing, path, source }
    };
    let empty = volumes_dir(pod_dir).join("empty-dir");
    let mut places = vec![pod_dir.join("shm")];
    match std::fs::read_dir(&empty) {
        Ok(entries) => places.extend(entries.flatten().map(|e| e.path())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io("listing", &empty)(error)),
    }
    for place in places {
        unmount(&place).map_err(io("unmounting", &place))?;
    }
    match std::fs::remove_dir_all(pod_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("removing", pod_dir)(error)),
        _ => Ok(()),
    }
}

/// Gives a path to a group, as fsGroup wants it.
pub fn give_to(path: &Path, group: Option<u32>) -> Result<(), VolumeError> {
    let Some(group) = group else { return Ok(()) };
    std::os::unix::fs::lchown(path, None, Some(group)).map_err(|source| VolumeError::Io {
        doing: "changing the group of",
        path: path.into(),
        source,
    })
}
