//! A further process in a running container: joins its namespaces and group, then does the last steps of `process.rs`.
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;
use oci_spec::runtime::Process;

use super::{Context, START_FAILED, Stdio, fail, process, ready};
use crate::runtime::cgroup::{Cgroup, Layout, layout};
use crate::runtime::sys::{self, Instruction};
use crate::runtime::{Error, ExecConfig};

/// All that joining needs. The process is already in the container's pid namespace.
pub struct Join<'a> {
    /// The container's process description, with the exec's own arguments and terminal.
    pub process: &'a Process,
    /// The container's first process.
    pub target: BorrowedFd<'a>,
    /// The container's group.
    pub cgroup: &'a Cgroup,
    /// To the shim.
    pub channel: OwnedFd,
    /// Streams, without a terminal.
    pub stdio: Stdio,
    /// Compiled filter.
    pub seccomp: Option<&'a [Instruction]>,
}

/// The container's process with another command.
pub fn process_for(base: &Process, exec: &ExecConfig) -> Process {
    let mut process = base.clone();
    process.set_args(Some(exec.args.clone())).set_terminal(Some(exec.tty));
    process
}

impl Join<'_> {
    /// Becomes the process, or reports why not and ends.
    pub fn run(self) -> ! {
        if let Ok(copy) = self.channel.try_clone() {
            let Err(error) = self.set_up(&copy);
            fail(copy.as_fd(), &error);
        }
        std::process::exit(START_FAILED)
    }

    fn set_up(self, copy: &OwnedFd) -> Result<std::convert::Infallible, Error> {
        sys::reset_signals().doing("resetting", "signals")?;
        let own = [self.channel.as_raw_fd(), copy.as_raw_fd(), self.target.as_raw_fd()];
        let mut keep: Vec<_> = self.stdio.numbers().chain(own).collect();
        sys::close_all_but(&mut keep).doing("closing", "descriptors")?;
        if *layout() != Layout::Unified {
            self.cgroup.join()?;
        }
        nix::sched::setns(self.target, CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP).doing("entering", "the container")?;
        let launch = process::Launch::prepare(self.process, self.seccomp)?;
        if self.process.terminal().unwrap_or(false) {
            let (master, slave) = process::open_terminal(false)?;
            process::use_terminal(slave)?;
            ready(self.channel.as_fd(), Some(master))?;
        } else {
            process::use_streams(self.stdio)?;
            ready(self.channel.as_fd(), None)?;
        }
        launch.exec(|| Ok(()))
    }
}
