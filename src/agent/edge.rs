//! The node as the agent uses it, behind traits where a test must stand in for it: images, the pod network, tmpfs mounts.
use std::io;
use std::path::Path;

use futures::future::BoxFuture;

use crate::net::{Attachment, Net, NetError};
use crate::runtime::image::{Credentials, Image, ImageError, Images};

/// The part of [`Images`] that pods need.
pub trait ImageStore: Send + Sync + 'static {
    /// A local image.
    fn get<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>>;
    /// Downloads it.
    fn pull<'a>(&'a self, reference: &'a str, credentials: &'a [Credentials]) -> BoxFuture<'a, Result<Image, ImageError>>;
    /// All local images.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Image>, ImageError>>;
}

impl ImageStore for Images {
    fn get<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Option<Image>, ImageError>> {
        Box::pin(Images::get(self, reference))
    }
    fn pull<'a>(&'a self, reference: &'a str, credentials: &'a [Credentials]) -> BoxFuture<'a, Result<Image, ImageError>> {
        Box::pin(Images::pull(self, reference, credentials))
    }
    fn list(&self) -> BoxFuture<'_, Result<Vec<Image>, ImageError>> {
        Box::pin(Images::list(self))
    }
}

/// The part of [`Net`] that pods need.
pub trait PodNetwork: Send + Sync + 'static {
    /// See [`Net::attach`].
    fn attach<'a>(&'a self, id: &'a str, pid: i32) -> BoxFuture<'a, Result<Attachment, NetError>>;
    /// See [`Net::detach`].
    fn detach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), NetError>>;
}

impl PodNetwork for Net {
    fn attach<'a>(&'a self, id: &'a str, pid: i32) -> BoxFuture<'a, Result<Attachment, NetError>> {
        Box::pin(Net::attach(self, id, pid))
    }
    fn detach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), NetError>> {
        Box::pin(Net::detach(self, id))
    }
}

/// Mounts a tmpfs, with a size in bytes where one is wanted.
pub fn mount_tmpfs(path: &Path, size: Option<i64>) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    let options = size.map_or("mode=1777".to_owned(), |size| format!("mode=1777,size={size}"));
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    Ok(mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?)
}

/// Whether something is mounted on a directory: after a reboot of the node the directory is there, but its tmpfs is not.
pub fn is_mount(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|m| m.dev()).ok();
    path.parent().is_some_and(|parent| device(path).is_some() && device(path) != device(parent))
}

/// Unmounts what is mounted there, if anything.
pub fn unmount(path: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW) {
        // EINVAL: nothing is mounted there.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
