//! emptyDir volumes: a directory of the pod's, or a tmpfs.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::{VolumeError, give_to};
use crate::agent::edge::is_mount;
use crate::agent::resources;

/// Makes it, open to all as upstream; with fsGroup it belongs to the group and hands that on to what is made inside.
pub fn set_up(
    source: &EmptyDirVolumeSource,
    path: &Path,
    group: Option<u32>,
    mount_tmpfs: fn(&Path, Option<i64>) -> std::io::Result<()>,
) -> Result<(), VolumeError> {
    let io = |doing: &'static str| move |source| VolumeError::Io { doing, path: path.into(), source };
    let in_memory = source.medium.as_deref() == Some("Memory");
    if if in_memory { is_mount(path) } else { path.exists() } {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(io("creating"))?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            let limit = source.size_limit.as_ref().and_then(|q| resources::value(&q.0)).filter(|v| *v > 0);
            mount_tmpfs(path, limit).map_err(io("mounting a tmpfs on"))?;
        }
        _ => return Err(VolumeError::Unsupported("emptyDir with a medium other than \"\" and Memory")),
    }
    give_to(path, group)?;
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io("changing the mode of"))
}
