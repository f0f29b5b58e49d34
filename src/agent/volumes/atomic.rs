//! Writes a set of files so that a reader sees the old set or the new one, never a mixture: files go to a fresh directory,
//! `..data` is a symbolic link to it that is renamed into place, and each visible name links through `..data`. The layout is
//! upstream's (pkg/volume/util/atomic_writer.go), which programs that watch their configuration rely on.
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use super::{Payload, VolumeError, give_to};

const DATA: &str = "..data";

fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> VolumeError + 'a {
    move |source| VolumeError::Io { doing, path: path.into(), source }
}

/// Makes `dir` show exactly this payload; does nothing if it does already.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> Result<(), VolumeError> {
    for path in payload.keys() {
        let plain = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
        if !plain || path.is_empty() || path.starts_with("..") {
            return Err(VolumeError::BadPath(path.clone()));
        }
    }
    fs::create_dir_all(dir).map_err(io("creating", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).map_err(io("changing the mode of", dir))?;
    let data = dir.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(target) => Some(target),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(io("reading", &data)(error)),
    };
    if old.is_some() && shows(&data, payload) {
        return Ok(());
    }
    let fresh = format!("..{}", uuid::Uuid::new_v4().simple());
    let target = dir.join(&fresh);
    fill(&target, payload, group)?;
    let temporary = dir.join("..data_tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("removing", &temporary)(error)),
        _ => {}
    }
    symlink(&fresh, &temporary).map_err(io("linking", &temporary))?;
    fs::rename(&temporary, &data).map_err(io("renaming", &data))?;
    link(dir, payload)?;
    if let Some(old) = old {
        let old = dir.join(old);
        fs::remove_dir_all(&old).map_err(io("removing", &old))?;
    }
    Ok(())
}

fn fill(target: &Path, payload: &Payload, group: Option<u32>) -> Result<(), VolumeError> {
    let make = |path: &Path| -> Result<(), VolumeError> {
        fs::create_dir_all(path).map_err(io("creating", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(io("changing the mode of", path))?;
        give_to(path, group)
    };
    make(target)?;
    for (name, file) in payload {
        let path = target.join(name);
        if let Some(parent) = path.parent().filter(|p| *p != target) {
            make(parent)?;
        }
        fs::write(&path, &file.data).map_err(io("writing", &path))?;
        // A group that owns the volume must be able to read it, whatever the mode says.
        let mode = if group.is_some() { file.mode | 0o040 } else { file.mode };
        give_to(&path, group)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(io("changing the mode of", &path))?;
    }
    Ok(())
}

fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn link(dir: &Path, payload: &Payload) -> Result<(), VolumeError> {
    let visible: BTreeSet<&str> = payload.keys().map(|p| first(p)).collect();
    for name in &visible {
        let path = dir.join(name);
        match symlink(Path::new(DATA).join(name), &path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io("linking", &path)(error)),
            _ => {}
        }
    }
    for entry in fs::read_dir(dir).map_err(io("listing", dir))? {
        let entry = entry.map_err(io("listing", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !visible.contains(&*name) {
            fs::remove_file(entry.path()).map_err(io("removing", &entry.path()))?;
        }
    }
    Ok(())
}

/// Whether the files below are these already.
fn shows(data: &Path, payload: &Payload) -> bool {
    fn count(dir: &Path) -> std::io::Result<usize> {
        let mut files = 0;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            files += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
        }
        Ok(files)
    }
    let same = |(name, file): (&String, &super::File)| fs::read(data.join(name)).is_ok_and(|have| have == file.data);
    // Unreadable counts as different: it is then written anew.
    count(data).is_ok_and(|n| n == payload.len()) && payload.iter().all(same)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::File;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files.iter().map(|(name, text)| (name.to_string(), File { data: text.as_bytes().to_vec(), mode: 0o644 })).collect()
    }

    #[test]
    fn swaps_whole_sets() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("v");
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!((read("a"), read("sub/b")), (Some("1".into()), Some("2".into())));
        assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
        let before = fs::read_link(dir.join(DATA)).unwrap();
        write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
        assert_eq!(fs::read_link(dir.join(DATA)).unwrap(), before, "an unchanged payload is not written again");
        write(&dir, &payload(&[("a", "3"), ("c", "4")]), None).unwrap();
        assert_eq!((read("a"), read("c"), read("sub/b")), (Some("3".into()), Some("4".into()), None));
        assert!(!dir.join(before).exists(), "the old set is removed");
        assert!(fs::symlink_metadata(dir.join("sub")).is_err());
    }

    #[test]
    fn refuses_to_leave() {
        let home = tempfile::tempdir().unwrap();
        for path in ["../a", "/a", "b/../../a", "..data"] {
            let error = write(home.path(), &payload(&[(path, "x")]), None).unwrap_err();
            assert!(matches!(error, VolumeError::BadPath(_)), "{path}");
        }
    }
}
