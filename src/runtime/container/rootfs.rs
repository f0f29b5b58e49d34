//! A container's file system: overlay root, pivot, /proc /dev /sys, the spec's mounts, masked and read-only paths.
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxDeviceType, Mount, Spec};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags};

use super::mounts::{Prepared, attach, clone_tree, filesystem, open_inside};
use super::{Context, Init};
use crate::runtime::cgroup::{self, Layout};
use crate::runtime::{Error, sys};

const SAFE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
/// Name, major, minor of the nodes every /dev has.
const DEVICES: &[(&str, u32, u32)] = &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];
/// File systems that the runtime mounts by itself; a spec's entry only decides whether they are writable.
const SYSTEM: &[&str] = &["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"];

/// Whether the runtime makes this mount anyway.
fn is_system(mount: &Mount) -> bool {
    let kind = mount.typ().as_deref().unwrap_or("none");
    let shared_shm = mount.destination() == Path::new("/dev/shm") && mount.source().as_deref() == Some(Path::new("shm"));
    SYSTEM.contains(&kind) || (kind == "tmpfs" && (mount.destination() == Path::new("/dev") || shared_shm))
}

/// Read-only unless the spec lists the file system at this place without `ro` (a privileged container).
fn attributes(spec: &Spec, place: &str) -> u64 {
    let listed = spec.mounts().iter().flatten().find(|mount| mount.destination() == Path::new(place));
    let writable = listed.is_some_and(|mount| is_system(mount) && !mount.options().iter().flatten().any(|word| word == "ro"));
    SAFE | if writable { 0 } else { libc::MOUNT_ATTR_RDONLY }
}

/// Everything up to and including the spec's mounts.
pub fn build(init: &Init<'_>) -> Result<(), Error> {
    let spec = &init.config.spec;
    // Opened while the host's files are in view and the host's propagation is untouched, so that `rshared` means the host's.
    let prepared: Vec<_> = spec.mounts().iter().flatten().filter(|mount| !is_system(mount)).map(Prepared::new).collect::<Result<_, _>>()?;
    let shm = shared_memory(init)?;
    let groups = cgroup_trees(init)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).doing("making private", "/")?;
    let root = overlay(init)?;
    enter(&root)?;
    drop(root);
    system(spec, shm, groups)?;
    prepared.into_iter().try_for_each(Prepared::attach)
}

/// Masks, the read-only root and sysctls, after the terminal was bound to /dev/console.
pub fn finish(spec: &Spec) -> Result<(), Error> {
    if let Some(linux) = spec.linux() {
        for (name, value) in linux.sysctl().iter().flatten() {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            fs::write(&path, value).doing("writing sysctl", name)?;
        }
        linux.readonly_paths().iter().flatten().try_for_each(|path| readonly_path(Path::new(path)))?;
        linux.masked_paths().iter().flatten().try_for_each(|path| mask(Path::new(path)))?;
    }
    if spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).doing("opening", "/")?;
        sys::mount_setattr(root.as_fd(), false, libc::MOUNT_ATTR_RDONLY, 0, 0).doing("making read-only", "/")?;
    }
    Ok(())
}

/// The layers under a writable one, attached at the container's `rootfs` directory.
///
/// `volatile`: a writable layer is never mounted a second time, so it need not reach the disk, and unmounting must not wait
/// for the whole file system to sync.
fn overlay(init: &Init<'_>) -> Result<OwnedFd, Error> {
    let target = init.dir.join("rootfs");
    if init.config.layers.is_empty() {
        return Err(Error::Container("the image has no layers".into()));
    }
    let (upper, work) = (init.dir.join("upper"), init.dir.join("work"));
    // Before Linux 6.5 there is no `lowerdir+`, and one option string of the new interface holds only 256 bytes.
    if !kernel_is_at_least(6, 5) {
        overlay_by_mount(&init.config.layers, &upper, &work, &target)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        return rustix::fs::open(&target, flags, Mode::empty()).doing("opening", target.display());
    }
    let tree = overlay_tree(&init.config.layers, &upper, &work)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree.as_fd(), "", CWD, &target, flags).doing("mounting overlay on", target.display())?;
    Ok(tree)
}

/// By release, not by trying: a refused option goes to the kernel's log each time.
fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

fn overlay_tree(layers: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, Error> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing("opening file system", "overlay")?;
    let set = |key: &str, path: &Path| {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, path).doing("configuring overlay with", path.display())
    };
    // Topmost first.
    layers.iter().rev().try_for_each(|layer| set("lowerdir+", layer))?;
    set("upperdir", upper)?;
    set("workdir", work)?;
    rustix::mount::fsconfig_set_flag(context.as_fd(), "volatile").doing("configuring overlay with", "volatile")?;
    rustix::mount::fsconfig_create(context.as_fd()).doing("making overlay of", upper.display())?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .doing("mounting overlay of", upper.display())
}

/// By mount(2), whose options must fit in a page: paths relative to the directory that all layers share.
fn overlay_by_mount(layers: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> Result<(), Error> {
    let mut base = layers[0].parent().unwrap_or(Path::new("/"));
    while !layers.iter().all(|layer| layer.starts_with(base)) {
        base = base.parent().unwrap_or(Path::new("/"));
    }
    let escape = |path: &Path| path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let lower: Vec<_> = layers.iter().rev().map(|layer| escape(layer.strip_prefix(base).unwrap_or(layer))).collect();
    let options = format!("lowerdir={},upperdir={},workdir={},volatile", lower.join(":"), escape(upper), escape(work));
    rustix::process::chdir(base).doing("entering", base.display())?;
    let options = std::ffi::CString::new(options).map_err(std::io::Error::from).doing("mounting overlay on", target.display())?;
    rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())
        .doing("mounting overlay on", target.display())
}

/// Makes `root` the root and forgets the old one.
pub fn enter(root: &OwnedFd) -> Result<(), Error> {
    rustix::process::fchdir(root).doing("entering", "the root file system")?;
    rustix::process::pivot_root(".", ".").doing("changing to", "the root file system")?;
    // The old root is stacked on the new one now: the working directory finds it.
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing("detaching", "the host's file systems")?;
    rustix::process::chdir("/").doing("entering", "/")
}

/// The sandbox's /dev/shm, taken from the mount namespace that holds it and nothing else.
fn shared_memory(init: &Init<'_>) -> Result<Option<OwnedFd>, Error> {
    let Some(shm) = init.shm else { return clone_tree(Path::new("/dev/shm"), false).map(Some) };
    let own = fs::File::open("/proc/self/ns/mnt").doing("opening", "/proc/self/ns/mnt")?;
    let enter = |namespace: BorrowedFd<'_>| nix::sched::setns(namespace, CloneFlags::CLONE_NEWNS).doing("entering", "a mount namespace");
    enter(shm)?;
    let tree = clone_tree(Path::new("/"), false);
    enter(own.as_fd())?;
    tree.map(Some)
}

/// What /sys/fs/cgroup shows: on v1 the group's own directory of each controller; on v2 a file system made later, inside.
fn cgroup_trees(init: &Init<'_>) -> Result<Vec<(&'static str, OwnedFd)>, Error> {
    let Layout::Legacy(names) = cgroup::layout() else { return Ok(vec![]) };
    let readonly = attributes(&init.config.spec, "/sys/fs/cgroup");
    let shown = names.iter().filter(|name| matches!(**name, "cpu" | "cpuacct" | "memory" | "pids"));
    shown
        .map(|name| {
            let tree = clone_tree(&init.cgroup.dir(name), false)?;
            sys::mount_setattr(tree.as_fd(), false, readonly, 0, libc::MS_PRIVATE).doing("protecting cgroup", name)?;
            Ok((*name, tree))
        })
        .collect()
}

fn system(spec: &Spec, shm: Option<OwnedFd>, groups: Vec<(&'static str, OwnedFd)>) -> Result<(), Error> {
    let at = Path::new;
    attach(filesystem("proc", "proc", &[], SAFE)?, at("/proc"))?;
    let dev = filesystem("tmpfs", "tmpfs", &[("mode", "755"), ("size", "65536k")], libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_STRICTATIME)?;
    attach(dev, at("/dev"))?;
    devices(spec)?;
    let pts = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    attach(filesystem("devpts", "devpts", &pts, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC)?, at("/dev/pts"))?;
    if let Some(shm) = shm {
        attach(shm, at("/dev/shm"))?;
    }
    attach(filesystem("mqueue", "mqueue", &[], SAFE)?, at("/dev/mqueue"))?;
    attach(filesystem("sysfs", "sysfs", &[], attributes(spec, "/sys"))?, at("/sys"))?;
    let readonly = attributes(spec, "/sys/fs/cgroup");
    if *cgroup::layout() == Layout::Unified {
        return attach(filesystem("cgroup2", "cgroup", &[], readonly)?, at("/sys/fs/cgroup"));
    }
    attach(filesystem("tmpfs", "cgroup", &[("mode", "755")], SAFE)?, at("/sys/fs/cgroup"))?;
    for (name, tree) in groups {
        attach(tree, &at("/sys/fs/cgroup").join(name))?;
    }
    let root = open_inside(at("/sys/fs/cgroup"), OFlags::PATH).doing("opening", "/sys/fs/cgroup")?;
    sys::mount_setattr(root.as_fd(), false, readonly, 0, 0).doing("protecting", "/sys/fs/cgroup")
}

fn devices(spec: &Spec) -> Result<(), Error> {
    let old = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    for (name, major, minor) in DEVICES {
        node(&Path::new("/dev").join(name), FileType::CharacterDevice, 0o666, *major, *minor)?;
    }
    for (to, link) in LINKS {
        rustix::fs::symlink(*to, *link).doing("linking", link)?;
    }
    for device in spec.linux().as_ref().and_then(|linux| linux.devices().as_ref()).into_iter().flatten() {
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            _ => FileType::CharacterDevice,
        };
        let path = device.path();
        let inside = path.starts_with("/dev") && !path.components().any(|part| part.as_os_str() == OsStr::new(".."));
        if !inside {
            return Err(Error::Container(format!("device {} is not below /dev", path.display())));
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).doing("making", parent.display())?;
        }
        let number = |value: i64| u32::try_from(value).map_err(std::io::Error::other).doing("making device", path.display());
        node(path, kind, device.file_mode().unwrap_or(0o666) & 0o7777, number(device.major())?, number(device.minor())?)?;
        std::os::unix::fs::lchown(path, device.uid(), device.gid()).doing("owning device", path.display())?;
    }
    nix::sys::stat::umask(old);
    Ok(())
}

fn node(path: &Path, kind: FileType, mode: u32, major: u32, minor: u32) -> Result<(), Error> {
    match rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), rustix::fs::makedev(major, minor)) {
        Err(Errno::EXIST) => Ok(()),
        other => other.doing("making device", path.display()),
    }
}

/// Covers a path: a file by /dev/null, a directory by an empty one. What the host lacks needs no cover.
fn mask(path: &Path) -> Result<(), Error> {
    let place = match open_inside(path, OFlags::PATH) {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error).doing("masking", path.display()),
    };
    let directory =
        rustix::fs::fstat(&place).map(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()).doing("masking", path.display())?;
    let cover = if directory {
        filesystem("tmpfs", "tmpfs", &[("size", "0"), ("nr_inodes", "1")], SAFE | libc::MOUNT_ATTR_RDONLY)?
    } else {
        clone_tree(Path::new("/dev/null"), false)?
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(cover.as_fd(), "", place.as_fd(), "", flags).doing("masking", path.display())
}

fn readonly_path(path: &Path) -> Result<(), Error> {
    match open_inside(path, OFlags::PATH) {
        Ok(_) => {}
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error).doing("protecting", path.display()),
    }
    let tree = clone_tree(path, true)?;
    sys::mount_setattr(tree.as_fd(), true, libc::MOUNT_ATTR_RDONLY, 0, 0).doing("protecting", path.display())?;
    attach(tree, path)
}
