//! A container as its shim keeps it: process, streams, log, those who listen.
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::log::{Lines, Log};
use super::setup::ConnId;
use crate::runtime::cgroup::Cgroup;
use crate::runtime::container::{Context, Stdio};
use crate::runtime::sys::{self, Instruction};
use crate::runtime::{ContainerConfig, ContainerState, Error, Phase};

/// How long a listener may hold up a container's output before it is cut off.
const PATIENCE: Duration = Duration::from_secs(5);
/// Room in a listener's pipe.
const LISTENER_PIPE: usize = 1 << 20;

/// What the process is being waited for.
#[derive(Clone, Copy, PartialEq)]
pub enum Stage {
    /// Being set up, for this connection.
    Creating(ConnId),
    /// Set up; waits.
    Created,
    /// Released, for this connection.
    Starting(ConnId),
}

/// An output of a container.
pub struct Output {
    /// Read end, or a terminal's master.
    pub fd: OwnedFd,
    /// `stdout` or `stderr`.
    pub name: &'static str,
    lines: Lines,
}

/// Somebody attached.
pub struct Listener {
    /// Whose.
    pub conn: ConnId,
    /// Write ends for stdout and stderr.
    pub pipes: [Option<OwnedFd>; 2],
    backlog: Option<(usize, Vec<u8>, Instant)>,
}

/// A container in a shim.
pub struct Container {
    /// As asked for.
    pub config: ContainerConfig,
    /// Its group.
    pub cgroup: Cgroup,
    /// Its filter.
    pub seccomp: Option<Rc<[Instruction]>>,
    /// Where it is in its life.
    pub phase: Phase,
    /// First process.
    pub pid: i32,
    /// For joining its namespaces.
    pub pidfd: OwnedFd,
    /// To the process until it executes its program.
    pub channel: Option<(OwnedFd, Stage)>,
    /// Write end of its standard input.
    pub stdin: Option<OwnedFd>,
    /// The terminal's master.
    pub master: Option<OwnedFd>,
    /// Its outputs; gone at their end.
    pub outputs: [Option<Output>; 2],
    /// Attached.
    pub listeners: Vec<Listener>,
    /// Waiting for its end.
    pub removers: Vec<ConnId>,
    /// It could not be made: who is to be told, when it is gone, and why.
    pub failure: Option<(ConnId, Error)>,
    /// Its log.
    pub log: Log,
}

/// The shim's ends and the process's.
pub struct Pipes {
    /// For the process.
    pub theirs: Stdio,
    /// Ours.
    pub stdin: Option<OwnedFd>,
    /// Ours.
    pub outputs: [Option<Output>; 2],
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).doing("making", "a pipe")
}

impl Output {
    /// Wraps a descriptor, which becomes non-blocking.
    pub fn new(fd: OwnedFd, name: &'static str) -> Result<Output, Error> {
        rustix::io::ioctl_fionbio(&fd, true).doing("setting up", name)?;
        Ok(Output { fd, name, lines: Lines::default() })
    }
}

/// Pipes for a container without a terminal; none with one.
pub fn pipes(config: &ContainerConfig) -> Result<Pipes, Error> {
    let mut pipes = Pipes { theirs: Stdio::default(), stdin: None, outputs: [None, None] };
    if config.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false) {
        return Ok(pipes);
    }
    if config.stdin {
        let (read, write) = pipe()?;
        (pipes.theirs.stdin, pipes.stdin) = (Some(read), Some(write));
    }
    let ((out, out_end), (err, err_end)) = (pipe()?, pipe()?);
    (pipes.theirs.stdout, pipes.theirs.stderr) = (Some(out_end), Some(err_end));
    pipes.outputs = [Some(Output::new(out, "stdout")?), Some(Output::new(err, "stderr")?)];
    Ok(pipes)
}

impl Container {
    /// As told to the agent.
    pub fn state(&self) -> ContainerState {
        ContainerState { id: self.config.id.clone(), labels: self.config.labels.clone(), phase: self.phase.clone() }
    }

    /// Whether its process has ended.
    pub fn ended(&self) -> bool {
        matches!(self.phase, Phase::Exited { .. })
    }

    /// Whether its outputs are read: not while a listener has yet to take what was read before.
    pub fn flows(&self) -> bool {
        self.listeners.iter().all(|listener| listener.backlog.is_none())
    }

    /// Reads what an output has; at its end, closes it. Returns false if there is nothing now.
    pub fn read_output(&mut self, index: usize, buffer: &mut [u8], records: &mut Vec<u8>) -> bool {
        let Some(output) = &mut self.outputs[index] else { return false };
        let now = Timestamp::now();
        records.clear();
        match rustix::io::read(&output.fd, &mut *buffer) {
            Ok(count) if count > 0 => {
                output.lines.push(output.name, &buffer[..count], now, records);
                self.log.write(records, now);
                self.listeners.iter_mut().for_each(|listener| listener.give(index, &buffer[..count]));
                self.listeners.retain(|listener| listener.pipes.iter().any(Option::is_some));
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            // A terminal's master says EIO when its last user is gone.
            _ => {
                output.lines.finish(output.name, now, records);
                self.log.write(records, now);
                self.outputs[index] = None;
                self.listeners.iter_mut().for_each(|listener| listener.close(index));
                false
            }
        }
    }

    /// Takes all that is left in the pipes of a process that ended. Who is attached and slow is cut off.
    pub fn drain(&mut self, buffer: &mut [u8], records: &mut Vec<u8>) {
        for index in 0..2 {
            while self.read_output(index, buffer, records) {}
            if let Some(output) = &mut self.outputs[index] {
                records.clear();
                output.lines.finish(output.name, Timestamp::now(), records);
                self.log.write(records, Timestamp::now());
            }
        }
    }

    /// Adds a listener; returns its read ends.
    pub fn listen(&mut self, conn: ConnId) -> Result<[Option<OwnedFd>; 2], Error> {
        let mut reads = [None, None];
        let mut pipes = [None, None];
        for index in 0..2 {
            if self.outputs[index].is_some() {
                let (read, write) = pipe()?;
                // Refused beyond a user's share; then it is just smaller.
                let _ = rustix::pipe::fcntl_setpipe_size(&write, LISTENER_PIPE);
                rustix::io::ioctl_fionbio(&write, true).doing("setting up", "a pipe")?;
                (reads[index], pipes[index]) = (Some(read), Some(write));
            }
        }
        self.listeners.push(Listener { conn, pipes, backlog: None });
        Ok(reads)
    }

    /// Signals the first process.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        if self.ended() {
            return Err(Error::NotFound(format!("process of container {}", self.config.id)));
        }
        sys::kill(self.pid, signal).doing("signalling container", &self.config.id)
    }

    /// Ends it, if it has not.
    pub fn kill(&self) -> Result<(), Error> {
        if self.ended() { Ok(()) } else { self.signal(libc::SIGKILL) }
    }
}

impl Listener {
    fn give(&mut self, index: usize, data: &[u8]) {
        let Some(pipe) = &self.pipes[index] else { return };
        let data = match &mut self.backlog {
            // Only while draining: what comes after can't be kept.
            Some(_) => return self.pipes = [None, None],
            None => data,
        };
        match rustix::io::write(pipe, data) {
            Ok(count) if count == data.len() => {}
            Ok(count) => self.backlog = Some((index, data[count..].to_vec(), Instant::now() + PATIENCE)),
            Err(Errno::AGAIN | Errno::INTR) => self.backlog = Some((index, data.to_vec(), Instant::now() + PATIENCE)),
            Err(_) => self.pipes[index] = None,
        }
    }

    fn close(&mut self, index: usize) {
        if !matches!(&self.backlog, Some((busy, _, _)) if *busy == index) {
            self.pipes[index] = None;
        }
    }

    /// What to wait for, if output waits for this listener: its pipe and when patience ends.
    pub fn waits(&self) -> Option<(&OwnedFd, PollFlags, Instant)> {
        let (index, _, deadline) = self.backlog.as_ref()?;
        Some((self.pipes[*index].as_ref()?, PollFlags::OUT, *deadline))
    }

    /// Gives what waits; cuts off who waited too long.
    pub fn flush(&mut self) {
        let Some((index, data, deadline)) = self.backlog.take() else { return };
        let Some(pipe) = &self.pipes[index] else { return };
        match rustix::io::write(pipe.as_fd(), &data) {
            Ok(count) if count == data.len() => {}
            Ok(count) => self.backlog = Some((index, data[count..].to_vec(), Instant::now() + PATIENCE)),
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => self.backlog = Some((index, data, deadline)),
            Err(_) => self.pipes = [None, None],
        }
    }
}

/// Directories that set-up expects.
pub fn directories(dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir).doing("making", dir.display())?;
    for name in ["upper", "work", "rootfs"] {
        let path = dir.join(name);
        std::fs::create_dir(&path).doing("making", path.display())?;
    }
    Ok(())
}
