//! One layer: a tar, perhaps compressed, unpacked into a folder for overlay.
//!
//! Follows the OCI image spec (layer.md): `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` hides all of a folder. Overlay
//! wants a character device 0:0 and the attribute `trusted.overlay.opaque` instead (kernel: filesystems/overlayfs.rst).
//!
//! No path of the tar is trusted: folders are opened below the layer's root with openat2(2) `RESOLVE_IN_ROOT`, and the last
//! component is only ever created, never followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, linkat, mkdirat, mknodat,
    openat, openat2, setxattr, symlinkat, unlinkat, utimensat,
};
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

/// Most bytes a layer may unpack to: a bound for what strangers send, far above real layers.
const MAX_BYTES: u64 = 64 << 30;
/// Most entries in a layer.
const MAX_ENTRIES: usize = 4_000_000;

/// `sha256:HEX`.
pub(super) fn format_digest(hasher: Sha256) -> String {
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The bytes behind gzip, zstd or nothing, told by their first bytes.
pub(super) fn decompress<'a>(input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(128 << 10, input);
    let mut magic = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut magic)?;
    let whole = io::Cursor::new(magic.clone()).chain(input);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

/// Hashes what passes through.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// Unpacks into `folder` (which exists and is empty); returns the diff ID of what was read.
pub(super) fn unpack(compressed: impl Read, folder: &Path) -> io::Result<String> {
    let mut input = Hashing { inner: decompress(compressed)?.take(MAX_BYTES), hasher: Sha256::new() };
    let mut archive = Archive::new(&mut input);
    let root: OwnedFd = File::open(folder)?.into();
    let mut tree = Tree { root, folders: Vec::new() };
    for (count, entry) in archive.entries()?.enumerate() {
        if count == MAX_ENTRIES {
            return Err(io::Error::other("it has too many entries"));
        }
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        tree.add(&mut entry, &path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    tree.finish_folders()?;
    // The padding after the last entry belongs to the digest too.
    io::copy(&mut input, &mut io::sink())?;
    if input.inner.limit() == 0 {
        return Err(io::Error::other(format!("it unpacks to more than {MAX_BYTES} bytes")));
    }
    Ok(format_digest(input.hasher))
}

/// What is known of an entry besides its content.
struct Attributes {
    uid: Uid,
    gid: Gid,
    mode: Mode,
    time: Timespec,
}

struct Tree {
    root: OwnedFd,
    /// Folders get their time and mode last, since adding to them changes it and they might not be writable.
    folders: Vec<(PathBuf, Attributes)>,
}

fn attributes(header: &tar::Header) -> io::Result<Attributes> {
    Ok(Attributes {
        uid: Uid::from_raw(u32::try_from(header.uid()?).map_err(io::Error::other)?),
        gid: Gid::from_raw(u32::try_from(header.gid()?).map_err(io::Error::other)?),
        mode: Mode::from_raw_mode(header.mode()? & 0o7777),
        time: Timespec { tv_sec: i64::try_from(header.mtime()?).map_err(io::Error::other)?, tv_nsec: 0 },
    })
}

/// Removes leading `/` and `.`; refuses `..`.
fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(io::Error::other("the path leaves the layer")),
        }
    }
    Ok(clean)
}

impl Tree {
    /// Opens a folder below the root, making what is missing on the way. Links in the way resolve inside the root.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &Path| openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        if path.as_os_str().is_empty() {
            return Ok(open(Path::new("."))?);
        }
        match open(path) {
            Err(rustix::io::Errno::NOENT) => {
                let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
                let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                Ok(open(path)?)
            }
            opened => Ok(opened?),
        }
    }

    fn add(&mut self, entry: &mut Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
        let path = clean(path)?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        let Some(name) = path.file_name() else {
            // The root itself: only its attributes.
            self.folders.push((PathBuf::from("."), attributes(entry.header())?));
            return Ok(());
        };
        let parent_path = path.parent().unwrap_or(Path::new(""));
        let parent = self.folder(parent_path)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return whiteout(&parent, OsStr::from_bytes(hidden));
        }
        let attributes = attributes(entry.header())?;
        let xattrs = xattrs(entry)?;
        if kind == EntryType::Directory {
            make_folder(&parent, name)?;
            set_xattrs(&parent, name, &xattrs)?;
            self.folders.push((path, attributes));
            return Ok(());
        }
        replace(&parent, name)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => write_file(&parent, name, entry)?,
            EntryType::Link => return self.hard_link(&parent, name, entry),
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| io::Error::other("a link without a target"))?;
                symlinkat(&*target, &parent, name)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => make_node(&parent, name, kind, entry.header())?,
            other => return Err(io::Error::other(format!("entries of type {other:?} are not supported"))),
        }
        own(&parent, name, &attributes, kind != EntryType::Symlink)?;
        set_xattrs(&parent, name, &xattrs)
    }

    /// The target is a path of the tar, so it is found below the root too.
    fn hard_link(&self, parent: &OwnedFd, name: &OsStr, entry: &Entry<'_, impl Read>) -> io::Result<()> {
        let target = entry.link_name()?.ok_or_else(|| io::Error::other("a link without a target"))?;
        let target = clean(&target)?;
        let folder = self.folder(target.parent().unwrap_or(Path::new("")))?;
        let target = target.file_name().ok_or_else(|| io::Error::other("a link to the root"))?;
        Ok(linkat(&folder, target, parent, name, AtFlags::empty())?)
    }

    fn finish_folders(&mut self) -> io::Result<()> {
        for (path, attributes) in std::mem::take(&mut self.folders).into_iter().rev() {
            let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
            own(&parent, path.file_name().unwrap_or(OsStr::new(".")), &attributes, true)?;
        }
        Ok(())
    }
}

fn whiteout(parent: &OwnedFd, hidden: &OsStr) -> io::Result<()> {
    if hidden == ".wh..opq" {
        let folder = through_proc(parent);
        return Ok(setxattr(&folder, "trusted.overlay.opaque", b"y", XattrFlags::empty())?);
    }
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(io::Error::other("a whiteout of nothing"));
    }
    match mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
        // The layer itself has that file: it is newer than what the whiteout hides.
        Err(rustix::io::Errno::EXIST) => Ok(()),
        made => Ok(made?),
    }
}

fn make_folder(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Err(rustix::io::Errno::EXIST) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if openat(parent, name, flags, Mode::empty()).is_ok() {
                return Ok(());
            }
            replace(parent, name)?;
            Ok(mkdirat(parent, name, Mode::from_raw_mode(0o755))?)
        }
        made => Ok(made?),
    }
}

/// A later entry of the same name wins. Folders are never replaced by files: that would be a different tree.
fn replace(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn write_file(parent: &OwnedFd, name: &OsStr, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file: File = openat(parent, name, flags, Mode::from_raw_mode(0o600))?.into();
    io::copy(entry, &mut file).map(|_| ())
}

fn make_node(parent: &OwnedFd, name: &OsStr, kind: EntryType, header: &tar::Header) -> io::Result<()> {
    let number = rustix::fs::makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
    let (kind, number) = match kind {
        EntryType::Char => (FileType::CharacterDevice, number),
        EntryType::Block => (FileType::BlockDevice, number),
        _ => (FileType::Fifo, 0),
    };
    Ok(mknodat(parent, name, kind, Mode::from_raw_mode(0o600), number)?)
}

/// Owner first: changing it clears the set-user bit.
fn own(parent: &OwnedFd, name: &OsStr, attributes: &Attributes, has_mode: bool) -> io::Result<()> {
    chownat(parent, name, Some(attributes.uid), Some(attributes.gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if has_mode {
        rustix::fs::chmodat(parent, name, attributes.mode, AtFlags::empty())?;
    }
    let times = Timestamps { last_access: attributes.time, last_modification: attributes.time };
    Ok(utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Extended attributes of the entry (`SCHILY.xattr.*`), but for overlay's own, which a layer has no business to set.
fn xattrs(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for extension in extensions {
        let extension = extension?;
        if let Ok(key) = extension.key()
            && let Some(name) = key.strip_prefix("SCHILY.xattr.")
            && !name.starts_with("trusted.overlay.")
        {
            found.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

fn set_xattrs(parent: &OwnedFd, name: &OsStr, xattrs: &[(String, Vec<u8>)]) -> io::Result<()> {
    for (key, value) in xattrs {
        let path = through_proc(parent).join(name);
        match rustix::fs::lsetxattr(&path, key.as_str(), value, XattrFlags::empty()) {
            // The file system may have no such attributes; the image works without (as containerd has it).
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A path to an open folder, for calls that have no form with a descriptor.
fn through_proc(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd()))
}

/// Opens a file below `root` for reading; links resolve inside of it.
pub(super) fn open_in(root: &Path, path: &Path) -> io::Result<File> {
    let root = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let file = openat2(&root, clean(path)?, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)?;
    Ok(file.into())
}
