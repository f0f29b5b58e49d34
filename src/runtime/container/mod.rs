//! What happens inside a container's first process, from clone to exec. Runs in a fork of the single-threaded shim.
//!
//! Order: cgroup (while the host's tree is visible), sources of mounts, root, system mounts, the spec's mounts, masks, identity,
//! seccomp, wait for start, exec. Every mount is made inside the container's own mount namespace, so nothing shows on the host
//! and the last process takes them all away.
//!
//! *Channel*: the socket between this process and the shim. Up: [`READY`] (with the terminal's master, if there is one), or
//! [`FAILED`] and words; its end without either is a successful exec. Down: one byte, to start.
pub mod exec;
pub mod mounts;
pub mod process;
pub mod rootfs;

use std::fmt::Display;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::cgroup::Cgroup;
use super::sys::{self, Instruction};
use super::{ContainerConfig, Error, wire};

/// Exit code of a process that never became the program, as kubelet and containerd report it.
pub const START_FAILED: i32 = 128;
/// The process is set up.
pub const READY: u8 = b'R';
/// Set-up failed; the reason follows.
pub const FAILED: u8 = b'F';

/// Gives an error its "doing what to what".
pub trait Context<T> {
    /// Such as `mounting`, and a path.
    fn doing(self, doing: &'static str, what: impl Display) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn doing(self, doing: &'static str, what: impl Display) -> Result<T, Error> {
        self.map_err(|source| Error::System { doing, what: what.to_string(), source: source.into() })
    }
}

/// Standard streams, the process's ends. Absent ones are /dev/null.
#[derive(Default)]
pub struct Stdio {
    /// Read end.
    pub stdin: Option<OwnedFd>,
    /// Write end.
    pub stdout: Option<OwnedFd>,
    /// Write end.
    pub stderr: Option<OwnedFd>,
}

/// All that set-up needs.
pub struct Init<'a> {
    /// What to run.
    pub config: &'a ContainerConfig,
    /// The container's directory: `upper`, `work`, `rootfs`.
    pub dir: &'a Path,
    /// Its group.
    pub cgroup: &'a Cgroup,
    /// To the shim.
    pub channel: OwnedFd,
    /// Streams, without a terminal.
    pub stdio: Stdio,
    /// Mount namespace whose root is the sandbox's /dev/shm.
    pub shm: Option<BorrowedFd<'a>>,
    /// Compiled filter.
    pub seccomp: Option<&'a [Instruction]>,
}

impl Stdio {
    fn numbers(&self) -> impl Iterator<Item = i32> {
        [&self.stdin, &self.stdout, &self.stderr].into_iter().flatten().map(AsRawFd::as_raw_fd)
    }
}

impl Init<'_> {
    /// Becomes the container's process, or reports why not and ends.
    pub fn run(self) -> ! {
        if let Ok(copy) = self.channel.try_clone() {
            let Err(error) = self.set_up(&copy);
            fail(copy.as_fd(), &error);
        }
        std::process::exit(START_FAILED)
    }

    fn set_up(self, copy: &OwnedFd) -> Result<std::convert::Infallible, Error> {
        sys::reset_signals().doing("resetting", "signals")?;
        let shm = self.shm.iter().map(AsRawFd::as_raw_fd);
        let mut keep: Vec<_> = self.stdio.numbers().chain(shm).chain([self.channel.as_raw_fd(), copy.as_raw_fd()]).collect();
        sys::close_all_but(&mut keep).doing("closing", "descriptors")?;
        // Not after the pivot: the host's hierarchies are out of sight then. On v2 it was born there.
        if *super::cgroup::layout() != super::cgroup::Layout::Unified {
            self.cgroup.join()?;
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).doing("making", "a cgroup namespace")?;
        let spec = &self.config.spec;
        let Some(process) = spec.process() else { return Err(Error::Container("the spec has no process".into())) };
        rootfs::build(&self)?;
        let terminal = process.terminal().unwrap_or(false).then(|| process::open_terminal(true)).transpose()?;
        rootfs::finish(spec)?;
        let launch = process::Launch::prepare(process, self.seccomp)?;
        match terminal {
            Some((master, slave)) => {
                process::use_terminal(slave)?;
                ready(self.channel.as_fd(), Some(master))?;
            }
            None => {
                process::use_streams(self.stdio)?;
                ready(self.channel.as_fd(), None)?;
            }
        }
        let channel = self.channel;
        launch.exec(|| await_start(channel.as_fd()))
    }
}

fn ready(channel: BorrowedFd<'_>, master: Option<OwnedFd>) -> Result<(), Error> {
    let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    wire::send(channel, &[READY], &fds).map(drop).doing("reporting to", "the shim")
}

/// Sends the reason up.
pub fn fail(channel: BorrowedFd<'_>, error: &Error) {
    let mut message = vec![FAILED];
    message.extend(error.to_string().bytes().take(4000));
    // If the shim is gone there is nobody to tell.
    let _ = wire::send(channel, &message, &[]);
}

fn await_start(channel: BorrowedFd<'_>) -> Result<(), Error> {
    let mut byte = [0];
    loop {
        match rustix::io::read(channel, &mut byte) {
            Ok(1) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            // The shim is gone or removes the container.
            Ok(_) => std::process::exit(0),
            Err(error) => return Err(error).doing("waiting for", "the shim"),
        }
    }
}

/// A small file of the container, read without leaving its root; empty if absent.
fn read_inside(path: &str) -> Result<String, Error> {
    const LIMIT: u64 = 8 << 20;
    let file = match mounts::open_inside(Path::new(path), rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK) {
        Ok(file) => fs::File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(error).doing("opening", path),
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, LIMIT), &mut bytes).doing("reading", path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
