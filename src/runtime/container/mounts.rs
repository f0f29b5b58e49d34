//! Single mounts: detached trees made by the new mount API and attached inside the container's root.
//!
//! Sources are cloned before the root changes, destinations resolved after: then a link in an image can lead nowhere but inside
//! the container (RESOLVE_IN_ROOT), and never through /proc's magic links (RESOLVE_NO_MAGICLINKS) to an open descriptor.
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::Context;
use crate::runtime::{Error, sys};

const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// What a mount's options ask for.
#[derive(Debug, Default, PartialEq)]
pub struct Options {
    /// MOUNT_ATTR_* to set.
    pub set: u64,
    /// MOUNT_ATTR_* to clear.
    pub clear: u64,
    /// Apply `set` to mounts below too.
    pub recursive_readonly: bool,
    /// MS_PRIVATE, MS_SLAVE or MS_SHARED; 0 is the default, private.
    pub propagation: u64,
    /// Bind mounts below too.
    pub recursive: bool,
    /// A bind mount.
    pub bind: bool,
    /// For the file system.
    pub data: Vec<(String, Option<String>)>,
}

/// Parses OCI mount options (runc's names).
pub fn options(list: &[String]) -> Options {
    let mut options = Options::default();
    for word in list {
        match word.as_str() {
            "bind" => options.bind = true,
            "rbind" => (options.bind, options.recursive) = (true, true),
            "ro" => options.set |= libc::MOUNT_ATTR_RDONLY,
            "rro" => {
                options.set |= libc::MOUNT_ATTR_RDONLY;
                options.recursive_readonly = true;
            }
            "rw" => options.clear |= libc::MOUNT_ATTR_RDONLY,
            "nosuid" => options.set |= libc::MOUNT_ATTR_NOSUID,
            "suid" => options.clear |= libc::MOUNT_ATTR_NOSUID,
            "nodev" => options.set |= libc::MOUNT_ATTR_NODEV,
            "dev" => options.clear |= libc::MOUNT_ATTR_NODEV,
            "noexec" => options.set |= libc::MOUNT_ATTR_NOEXEC,
            "exec" => options.clear |= libc::MOUNT_ATTR_NOEXEC,
            "private" | "rprivate" => options.propagation = libc::MS_PRIVATE,
            "slave" | "rslave" => options.propagation = libc::MS_SLAVE,
            "shared" | "rshared" => options.propagation = libc::MS_SHARED,
            "defaults" | "relatime" | "atime" => {}
            other => {
                let (key, value) = other.split_once('=').map_or((other, None), |(key, value)| (key, Some(value.to_string())));
                options.data.push((key.to_string(), value));
            }
        }
    }
    options
}

/// A new file system, not attached anywhere yet.
pub fn filesystem(kind: &str, source: &str, data: &[(&str, &str)], attributes: u64) -> Result<OwnedFd, Error> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).doing("opening file system", kind)?;
    if !source.is_empty() {
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", source).doing("configuring file system", kind)?;
    }
    for (key, value) in data {
        let set = if value.is_empty() {
            rustix::mount::fsconfig_set_flag(context.as_fd(), *key)
        } else {
            rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)
        };
        set.doing("configuring file system", format_args!("{kind} with {key}={value}"))?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).doing("making file system", kind)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).doing("mounting file system", kind)
}

/// A copy of the mount at a path (and those below), not attached anywhere yet.
pub fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd, Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let flags = if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags };
    rustix::mount::open_tree(CWD, path, flags).doing("mounting", path.display())
}

/// Opens a path inside the root.
pub fn open_inside(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), INSIDE)
}

/// The place to mount on, made (with the directories above) if missing: a file where the source is one.
pub fn destination(path: &Path, directory: bool) -> Result<OwnedFd, Error> {
    match open_inside(path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        other => return other.doing("opening mount point", path.display()),
    }
    make_inside(path, directory, 40)?;
    open_inside(path, OFlags::PATH).doing("opening mount point", path.display())
}

/// Makes what is missing of a path. A link that leads nowhere is followed, as runc does, so that its target is what is made.
fn make_inside(path: &Path, directory: bool, links: u32) -> Result<(), Error> {
    let mut at = PathBuf::from("/");
    let mut parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir)).peekable();
    while let Some(part) = parts.next() {
        let parent = open_inside(&at, OFlags::PATH | OFlags::DIRECTORY).doing("opening", at.display())?;
        at.push(part);
        if open_inside(&at, OFlags::PATH).is_ok() {
            continue;
        }
        let directory = parts.peek().is_some() || directory;
        let made = if directory {
            rustix::fs::mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, part.as_os_str(), flags, Mode::from_raw_mode(0o644)).map(drop)
        };
        match (made, rustix::fs::readlinkat(&parent, part.as_os_str(), Vec::new())) {
            (Err(Errno::EXIST), Ok(target)) if links > 0 => {
                let target = Path::new(OsStr::from_bytes(target.as_bytes())).to_path_buf();
                let base = at.parent().unwrap_or(Path::new("/"));
                make_inside(&base.join(target), directory, links - 1)?;
            }
            (made, _) => made.doing("making mount point", at.display())?,
        }
    }
    Ok(())
}

/// Puts a detached tree in its place.
pub fn attach(tree: OwnedFd, path: &Path) -> Result<(), Error> {
    let directory = rustix::fs::fstat(&tree).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
    let target = destination(path, directory.doing("reading", path.display())?)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree.as_fd(), "", target.as_fd(), "", flags).doing("mounting on", path.display())
}

/// A mount of the spec with its source opened.
pub struct Prepared {
    tree: OwnedFd,
    destination: PathBuf,
}

impl Prepared {
    /// Opens the source in the host's view.
    pub fn new(mount: &Mount) -> Result<Prepared, Error> {
        let options = options(mount.options().as_deref().unwrap_or_default());
        let kind = mount.typ().as_deref().unwrap_or("none");
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        let describe = || format!("{} on {}", source.display(), mount.destination().display());
        if !options.bind && kind != "bind" {
            let data: Vec<_> = options.data.iter().map(|(key, value)| (key.as_str(), value.as_deref().unwrap_or(""))).collect();
            let tree = filesystem(kind, &source.to_string_lossy(), &data, options.set)?;
            return Ok(Prepared { tree, destination: mount.destination().clone() });
        }
        let tree = clone_tree(source, options.recursive || !options.bind)?;
        let propagation = if options.propagation == 0 { libc::MS_PRIVATE } else { options.propagation };
        if propagation != libc::MS_SHARED {
            sys::mount_setattr(tree.as_fd(), true, 0, 0, propagation).doing("setting propagation of", describe())?;
        }
        if options.set | options.clear != 0 {
            sys::mount_setattr(tree.as_fd(), options.recursive_readonly, options.set, options.clear, 0)
                .doing("setting options of", describe())?;
        }
        Ok(Prepared { tree, destination: mount.destination().clone() })
    }

    /// Mounts it inside.
    pub fn attach(self) -> Result<(), Error> {
        attach(self.tree, &self.destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed() {
        let words = ["rbind", "ro", "rslave", "nosuid", "size=64k", "noswap"].map(String::from);
        let expect = Options {
            set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID,
            propagation: libc::MS_SLAVE,
            recursive: true,
            bind: true,
            data: vec![("size".into(), Some("64k".into())), ("noswap".into(), None)],
            ..Options::default()
        };
        assert_eq!(options(&words), expect);
        assert!(options(&["rro".to_string()]).recursive_readonly);
    }
}
