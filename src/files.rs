//! Private files, written whole or not at all: keys, identities, tokens, whichever part of the program has them.
//!
//! Never: shows what is in a file in an error.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What failed, and on which file.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {source}")]
pub struct FileError {
    /// What was being done.
    pub action: &'static str,
    /// To what.
    pub path: PathBuf,
    /// Why not.
    pub source: std::io::Error,
}

fn io<T>(action: &'static str, path: &Path, result: std::io::Result<T>) -> Result<T, FileError> {
    result.map_err(|source| FileError { action, path: path.into(), source })
}

/// A directory that only its owner may enter, with its parents.
pub fn make_private_dir(path: &Path) -> Result<(), FileError> {
    io("creating", path, fs::DirBuilder::new().recursive(true).mode(0o700).create(path))
}

/// The file's text; `None` when there is no such file.
pub fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => io("reading", path, Err(error)),
    }
}

/// Replaces `path` by `bytes`, mode 0600, so that a crash leaves the old file or the new one. Makes the parent directory.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    io("creating", parent, fs::create_dir_all(parent))?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // A leftover of a crash could have another mode; it is ours to remove.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => io("removing", &temporary, Err(error))?,
        _ => {}
    }
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    io("writing", &temporary, write())?;
    io("renaming into place", path, fs::rename(&temporary, path))?;
    // The rename itself must survive a crash too.
    io("syncing", parent, File::open(parent).and_then(|dir| dir.sync_all()))
}
