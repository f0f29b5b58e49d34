//! hostPath volumes: checks that the path is what was asked for, making it where the type says so.
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::VolumeError;

/// Checks, and for the `...OrCreate` types creates, the path.
pub fn set_up(source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    let io = |doing: &'static str| move |source| VolumeError::Io { doing, path: path.into(), source };
    let kind = source.type_.as_deref().unwrap_or_default();
    if kind.is_empty() {
        // As a container engine would: what is missing becomes a directory.
        return if path.exists() { Ok(()) } else { fs::create_dir_all(path).map_err(io("creating")) };
    }
    if !path.exists() {
        match kind {
            "DirectoryOrCreate" => {
                fs::create_dir_all(path).map_err(io("creating"))?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(io("changing the mode of"))?;
            }
            "FileOrCreate" => {
                fs::File::create(path).map_err(io("creating"))?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(io("changing the mode of"))?;
            }
            _ => {}
        }
    }
    let found = fs::metadata(path).map(|m| m.file_type()).map_err(io("looking at"))?;
    let (holds, wanted) = match kind {
        "Directory" | "DirectoryOrCreate" => (found.is_dir(), "a directory"),
        "File" | "FileOrCreate" => (found.is_file(), "a file"),
        "Socket" => (found.is_socket(), "a socket file"),
        "CharDevice" => (found.is_char_device(), "a character device"),
        "BlockDevice" => (found.is_block_device(), "a block device"),
        _ => return Err(VolumeError::Unsupported("hostPath of an unknown type")),
    };
    if holds { Ok(()) } else { Err(VolumeError::HostPath { path: source.path.clone(), wanted }) }
}
