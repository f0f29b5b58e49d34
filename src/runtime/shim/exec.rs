//! Exec'd processes: their streams go straight to the agent; the shim keeps only who waits for the exit code.
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};

use super::requests::channel;
use super::serve::{Shim, Word, listen};
use super::setup::ConnId;
use crate::runtime::container::exec::{Join, process_for};
use crate::runtime::container::{Context, Stdio};
use crate::runtime::sys::{self, Forked};
use crate::runtime::wire::Reply;
use crate::runtime::{Error, ExecConfig, Phase};

/// An exec'd process.
pub struct Exec {
    /// Its number.
    pub pid: i32,
    /// Until its program runs.
    pub channel: Option<OwnedFd>,
    conn: ConnId,
    /// The agent's ends of stdin, stdout, stderr; with a terminal its master, first.
    streams: [Option<OwnedFd>; 3],
    tty: bool,
}

impl Shim {
    /// Starts one; the answer follows when its program runs.
    pub fn exec(&mut self, conn: ConnId, id: &str, config: &ExecConfig) -> Result<(), Error> {
        if !matches!(self.container(id)?.phase, Phase::Running { .. }) {
            return Err(Error::Container(format!("container {id} is not running")));
        }
        let Some(container) = self.containers.iter().find(|container| container.config.id == id) else {
            return Err(Error::NotFound(format!("container {id}")));
        };
        let Some(base) = container.config.spec.process() else { return Err(Error::Container("the spec has no process".into())) };
        let process = process_for(base, config);
        let (ours, theirs) = channel()?;
        let (mut stdio, mut streams) = (Stdio::default(), [None, None, None]);
        if !config.tty {
            let pipe = || pipe_with(PipeFlags::CLOEXEC).doing("making", "a pipe");
            if config.stdin {
                let (read, write) = pipe()?;
                (stdio.stdin, streams[0]) = (Some(read), Some(write));
            }
            if config.stdout {
                let (read, write) = pipe()?;
                (stdio.stdout, streams[1]) = (Some(write), Some(read));
            }
            if config.stderr {
                let (read, write) = pipe()?;
                (stdio.stderr, streams[2]) = (Some(write), Some(read));
            }
        }
        let born_in = container.cgroup.open_unified()?;
        let (pidfd, cgroup, seccomp) = (&container.pidfd, &container.cgroup, container.seccomp.as_deref());
        let pid = self.in_pid_namespace(pidfd, || {
            match sys::clone3(0, born_in.as_ref().map(AsFd::as_fd)).doing("starting a process in", id)? {
                Forked::Child => Join { process: &process, target: pidfd.as_fd(), cgroup, channel: theirs, stdio, seccomp }.run(),
                Forked::Parent(pid, _) => Ok(pid),
            }
        })?;
        self.execs.push(Exec { pid, channel: Some(ours), conn, streams, tty: config.tty });
        Ok(())
    }

    /// An exec's set-up channel has something to say.
    pub fn exec_channel(&mut self, index: usize) {
        let exec = &mut self.execs[index];
        let Some(channel) = &exec.channel else { return };
        match listen(channel.as_fd()) {
            Word::Nothing => {}
            Word::Ready(master) => {
                if exec.tty {
                    exec.streams[0] = master;
                }
            }
            Word::Failed(why) => {
                exec.channel = None;
                let conn = exec.conn;
                self.refuse(conn, Error::Container(why));
            }
            Word::Closed => {
                exec.channel = None;
                let streams = std::mem::take(&mut exec.streams);
                let [stdin, stdout, stderr] = streams.each_ref().map(Option::is_some);
                let reply = Reply::Streams { stdin, stdout, stderr, tty: exec.tty };
                let (conn, fds) = (exec.conn, streams.iter().flatten().map(AsFd::as_fd).collect::<Vec<_>>());
                self.reply(conn, &reply, &fds);
            }
        }
    }

    /// An exec'd process ended.
    pub fn exec_ended(&mut self, pid: i32, code: i32) {
        if let Some(index) = self.execs.iter().position(|exec| exec.pid == pid) {
            let exec = self.execs.remove(index);
            self.reply(exec.conn, &Reply::Exited(code), &[]);
        }
    }
}
