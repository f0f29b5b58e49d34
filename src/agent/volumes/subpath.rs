//! subPath: a path inside of a volume, which a container may have filled with symbolic links that point elsewhere.
//!
//! It is opened beneath the volume (openat2(2), RESOLVE_BENEATH), so that no link leads out. The caller gets the path that the
//! kernel resolved, which has no link left in it; the runtime mounts it at once.
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The real path of `sub` in `volume`; a directory is made where nothing is.
pub fn resolve(volume: &Path, sub: &str) -> io::Result<PathBuf> {
    let path = Path::new(sub);
    if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "subPath must be relative and not contain '..'"));
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let root = rustix::fs::openat(CWD, volume, flags | OFlags::DIRECTORY, Mode::empty())?;
    let fd = match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => {
            let mut at = root;
            for part in path.components().filter(|c| matches!(c, Component::Normal(_))) {
                let name = Path::new(part.as_os_str());
                match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o750)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                // NO_SYMLINKS: while making directories, not even a link that stays inside is followed.
                at = rustix::fs::openat2(&at, name, flags | OFlags::DIRECTORY, Mode::empty(), resolve | ResolveFlags::NO_SYMLINKS)?;
            }
            at
        }
        Err(errno) => return Err(errno.into()),
    };
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn stays_inside() {
        let home = tempfile::tempdir().unwrap();
        let volume = home.path().canonicalize().unwrap().join("v");
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(volume.join("f"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("f", volume.join("in")).unwrap();
        assert_eq!(resolve(&volume, "f").unwrap(), volume.join("f"));
        assert_eq!(resolve(&volume, "in").unwrap(), volume.join("f"));
        assert_eq!(resolve(&volume, "new/deep").unwrap(), volume.join("new/deep"));
        for bad in ["out/passwd", "out", "../v", "/etc"] {
            assert!(resolve(&volume, bad).is_err(), "{bad}");
        }
    }
}
