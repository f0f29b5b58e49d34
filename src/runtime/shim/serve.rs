//! The shim's loop: one poll over everything that can happen, and what to do about each.
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use jiff::Timestamp;
use nix::sys::signalfd::SignalFd;
use oci_spec::runtime::{Capability, LinuxSeccomp};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::time::Timespec;

use super::container::{Container, Output, Stage};
use super::exec::Exec;
use super::setup::{ConnId, Ready};
use crate::runtime::cgroup::Cgroup;
use crate::runtime::container::{Context, FAILED, READY};
use crate::runtime::sys::{self, Instruction};
use crate::runtime::wire::{self, Fault, MAX_FRAME, Reply, Request};
use crate::runtime::{Error, Phase, SandboxConfig, seccomp};

/// At most so many connections at once; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 512;
const BUFFER: usize = 32 * 1024;

/// An agent's connection.
pub struct Conn {
    fd: OwnedFd,
    input: Vec<u8>,
    /// Wants exits.
    pub watches: bool,
}

/// A filter and what it was made from.
type Filter = (LinuxSeccomp, u64, Rc<[Instruction]>);

/// The whole state of a shim.
pub struct Shim {
    /// The sandbox's directory.
    pub dir: PathBuf,
    /// As created.
    pub config: SandboxConfig,
    /// The sandbox's group.
    pub cgroup: Cgroup,
    /// Holds /dev/shm.
    pub shm: Option<OwnedFd>,
    /// See [`Ready`].
    pub own_pid_namespace: OwnedFd,
    /// Containers in order of creation.
    pub containers: Vec<Container>,
    /// Exec'd processes.
    pub execs: Vec<Exec>,
    /// Who asked for the end.
    pub shutdown: Option<ConnId>,
    listener: OwnedFd,
    signals: SignalFd,
    pause: Option<i32>,
    conns: BTreeMap<ConnId, Conn>,
    next: ConnId,
    filters: Vec<Filter>,
}

/// What a polled descriptor belongs to; containers and execs by place, which holds until events are handled.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Conn(ConnId),
    Channel(usize),
    Output(usize, usize),
    Listening(usize, usize),
    ExecChannel(usize),
}

/// What a set-up channel said.
pub enum Word {
    /// Nothing yet.
    Nothing,
    /// Set up; a terminal's master if it has one.
    Ready(Option<OwnedFd>),
    /// Why it failed.
    Failed(String),
    /// Closed: the program runs, or the process is gone.
    Closed,
}

/// Reads one message of a set-up channel.
pub fn listen(channel: BorrowedFd<'_>) -> Word {
    let (mut buffer, mut fds) = ([0; 4096], Vec::new());
    match wire::receive(channel, &mut buffer, &mut fds) {
        Ok(0) => Word::Closed,
        Ok(count) if buffer[0] == FAILED => Word::Failed(String::from_utf8_lossy(&buffer[1..count]).into_owned()),
        Ok(_) if buffer[0] == READY => Word::Ready(fds.pop()),
        Ok(_) => Word::Nothing,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => Word::Nothing,
        Err(_) => Word::Closed,
    }
}

impl Shim {
    /// From what set-up made.
    pub fn new(dir: PathBuf, ready: Ready) -> Shim {
        Shim {
            dir,
            config: ready.config,
            cgroup: ready.cgroup,
            shm: ready.shm,
            own_pid_namespace: ready.own_pid_namespace,
            containers: Vec::new(),
            execs: Vec::new(),
            shutdown: None,
            listener: ready.listener,
            signals: ready.signals,
            pause: ready.pause,
            conns: BTreeMap::new(),
            next: 1,
            filters: Vec::new(),
        }
    }

    /// Serves until removed.
    pub fn run(mut self) -> Result<(), Error> {
        let (mut buffer, mut records) = (vec![0; BUFFER], Vec::new());
        loop {
            let ready = self.wait()?;
            for source in ready {
                match source {
                    Source::Channel(index) => self.channel(index, &mut buffer, &mut records),
                    Source::ExecChannel(index) => self.exec_channel(index),
                    Source::Output(index, output) => drop(self.containers[index].read_output(output, &mut buffer, &mut records)),
                    Source::Listening(index, listener) => self.containers[index].listeners[listener].flush(),
                    Source::Signals => {
                        while let Ok(Some(_)) = self.signals.read_signal() {}
                        self.reap(&mut buffer, &mut records);
                    }
                    Source::Listener => self.accept(),
                    Source::Conn(id) => self.read_conn(id),
                }
            }
            self.tidy();
            if let Some(conn) = self.shutdown
                && self.containers.is_empty()
            {
                self.reply(conn, &Reply::Done, &[]);
                return Ok(());
            }
        }
    }

    /// Waits for events. Sources that shift the places of others (signals, connections) come last.
    fn wait(&self) -> Result<Vec<Source>, Error> {
        let mut sources = Vec::with_capacity(16);
        let mut fds = Vec::with_capacity(16);
        let mut deadline: Option<Instant> = None;
        let mut add = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        for (index, container) in self.containers.iter().enumerate() {
            if let Some((channel, _)) = &container.channel {
                add(Source::Channel(index), channel.as_fd(), PollFlags::IN);
            }
            for (place, output) in container.outputs.iter().enumerate().filter(|_| container.flows()) {
                if let Some(output) = output {
                    add(Source::Output(index, place), output.fd.as_fd(), PollFlags::IN);
                }
            }
            for (place, listener) in container.listeners.iter().enumerate() {
                if let Some((pipe, flags, patience)) = listener.waits() {
                    add(Source::Listening(index, place), pipe.as_fd(), flags);
                    deadline = Some(deadline.map_or(patience, |deadline| deadline.min(patience)));
                }
            }
        }
        for (index, exec) in self.execs.iter().enumerate() {
            if let Some(channel) = &exec.channel {
                add(Source::ExecChannel(index), channel.as_fd(), PollFlags::IN);
            }
        }
        add(Source::Signals, self.signals.as_fd(), PollFlags::IN);
        for (id, conn) in &self.conns {
            add(Source::Conn(*id), conn.fd.as_fd(), PollFlags::IN);
        }
        if self.conns.len() < MAX_CONNECTIONS {
            add(Source::Listener, self.listener.as_fd(), PollFlags::IN);
        }
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let late = match poll(&mut fds, timeout.as_ref()) {
            Ok(count) => count == 0,
            Err(Errno::INTR) => return Ok(vec![]),
            Err(error) => return Err(error).doing("waiting for", "events"),
        };
        let happened =
            sources.iter().zip(&fds).filter(|(source, fd)| !fd.revents().is_empty() || late && matches!(source, Source::Listening(..)));
        Ok(happened.map(|(source, _)| *source).collect())
    }

    fn accept(&mut self) {
        while let Ok(fd) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            // The socket's mode keeps others out already; this holds when somebody changes it.
            if rustix::net::sockopt::socket_peercred(&fd).is_ok_and(|peer| peer.uid.as_raw() == 0) {
                self.conns.insert(self.next, Conn { fd, input: Vec::new(), watches: false });
                self.next += 1;
            }
        }
    }

    fn read_conn(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut buffer = [0; 16 * 1024];
        loop {
            match rustix::io::read(&conn.fd, &mut buffer) {
                Ok(count) if count > 0 && conn.input.len() <= MAX_FRAME + 4 => conn.input.extend_from_slice(&buffer[..count]),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                _ => return self.hang_up(id),
            }
        }
        match wire::unframe::<Request>(&mut conn.input) {
            Ok(None) => {}
            Ok(Some(request)) => {
                conn.input = Vec::new();
                if let Err(error) = self.handle(id, request) {
                    self.refuse(id, error);
                }
            }
            Err(_) => self.hang_up(id),
        }
    }

    fn hang_up(&mut self, id: ConnId) {
        self.conns.remove(&id);
        for container in &mut self.containers {
            container.listeners.retain(|listener| listener.conn != id);
        }
    }

    /// Marks a connection as one that wants exits.
    pub fn watch(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.watches = true;
        }
    }

    /// Answers; who does not take its answer is hung up on.
    pub fn reply(&mut self, id: ConnId, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        let Some(conn) = self.conns.get(&id) else { return };
        let sent = wire::frame(reply).and_then(|frame| Ok((wire::send(conn.fd.as_fd(), &frame, fds)?, frame.len())));
        if !matches!(sent, Ok((sent, len)) if sent == len) {
            self.hang_up(id);
        }
    }

    /// Answers with an error.
    pub fn refuse(&mut self, id: ConnId, error: Error) {
        self.reply(id, &Reply::Failed(Fault::from(error)), &[]);
    }

    /// The compiled filter for a profile and a bounding set, made once.
    pub fn filter(&mut self, profile: &LinuxSeccomp, capable: &dyn Fn(Capability) -> bool, bits: u64) -> Result<Rc<[Instruction]>, Error> {
        if let Some((_, _, filter)) = self.filters.iter().find(|(known, of, _)| *of == bits && known == profile) {
            return Ok(filter.clone());
        }
        let filter: Rc<[Instruction]> = seccomp::compile(profile, capable)?.into();
        self.filters.push((profile.clone(), bits, filter.clone()));
        Ok(filter)
    }

    /// A container's set-up channel has something to say.
    fn channel(&mut self, index: usize, buffer: &mut [u8], records: &mut Vec<u8>) {
        let container = &mut self.containers[index];
        let Some((channel, stage)) = &container.channel else { return };
        let stage = *stage;
        match (listen(channel.as_fd()), stage) {
            (Word::Nothing, _) => {}
            (Word::Ready(master), Stage::Creating(conn)) => {
                if let Some((_, stage)) = &mut container.channel {
                    *stage = Stage::Created;
                }
                let adopted = master.map_or(Ok(()), |master| {
                    container.outputs[0] = Some(Output::new(master.try_clone().doing("keeping", "a terminal")?, "stdout")?);
                    container.master = Some(master);
                    Ok(())
                });
                match adopted {
                    Ok(()) => self.reply(conn, &Reply::Done, &[]),
                    Err(error) => self.give_up(index, conn, error),
                }
            }
            (Word::Failed(why), Stage::Creating(conn)) => self.give_up(index, conn, Error::Container(why)),
            (Word::Closed, Stage::Creating(conn)) => {
                let error = Error::Container(format!("container {} died while it was set up", self.containers[index].config.id));
                self.give_up(index, conn, error);
            }
            (Word::Failed(why), Stage::Starting(conn)) => {
                container.channel = None;
                self.refuse(conn, Error::Container(why));
            }
            (Word::Closed, Stage::Starting(conn)) => {
                container.channel = None;
                container.phase = Phase::Running { pid: container.pid, started: Timestamp::now() };
                self.reply(conn, &Reply::Done, &[]);
            }
            // It died before it was started: reaping says so.
            (_, Stage::Created) => {
                container.channel = None;
                container.drain(buffer, records);
            }
            (Word::Ready(_), Stage::Starting(_)) => {}
        }
    }

    /// A container could not be made: it ends, and the answer follows when nothing is left of it.
    fn give_up(&mut self, index: usize, conn: ConnId, error: Error) {
        let container = &mut self.containers[index];
        container.channel = None;
        let _ = container.kill();
        container.failure = Some((conn, error));
    }

    /// Children ended.
    fn reap(&mut self, buffer: &mut [u8], records: &mut Vec<u8>) {
        while let Some((pid, code)) = sys::reap() {
            if let Some(index) = self.containers.iter().position(|container| container.pid == pid && !container.ended()) {
                // What it said last (at most: set up, failed, closed) comes before its end.
                for _ in 0..3 {
                    self.channel(index, buffer, records);
                }
                self.containers[index].channel = None;
                self.ended(index, code, buffer, records);
            } else if let Some(index) = self.execs.iter().position(|exec| exec.pid == pid) {
                for _ in 0..3 {
                    self.exec_channel(index);
                }
                self.exec_ended(pid, code);
            } else if self.pause == Some(pid) {
                self.pause = None;
            }
        }
    }

    fn ended(&mut self, index: usize, code: i32, buffer: &mut [u8], records: &mut Vec<u8>) {
        let container = &mut self.containers[index];
        // Without a pid namespace of its own, its other processes live on; what they hold open would never end.
        let _ = container.cgroup.kill();
        container.drain(buffer, records);
        let now = Timestamp::now();
        let started = if let Phase::Running { started, .. } = container.phase { started } else { now };
        let oom_killed = container.cgroup.oom_kills().is_ok_and(|count| count > 0);
        container.phase = Phase::Exited { code, oom_killed, started, finished: now };
        (container.stdin, container.master) = (None, None);
        let listeners: Vec<_> = container.listeners.iter().map(|listener| listener.conn).collect();
        let id = container.config.id.clone();
        for conn in listeners {
            self.reply(conn, &Reply::Exited(code), &[]);
        }
        let watchers: Vec<_> = self.conns.iter().filter(|(_, conn)| conn.watches).map(|(id, _)| *id).collect();
        for conn in watchers {
            self.reply(conn, &Reply::Ended(id.clone()), &[]);
        }
    }

    /// Removes what ended and is not wanted any more, and listeners that have all there is.
    fn tidy(&mut self) {
        for container in self.containers.iter_mut().filter(|container| container.ended()) {
            container.listeners.retain(|listener| listener.waits().is_some());
        }
        let going = self.shutdown.is_some();
        while let Some(index) = self.containers.iter().position(|c| c.ended() && (going || !c.removers.is_empty() || c.failure.is_some())) {
            let container = self.containers.remove(index);
            let removed = container.cgroup.remove();
            if let Some((conn, error)) = container.failure {
                self.refuse(conn, error);
            }
            for conn in container.removers {
                match &removed {
                    Ok(()) => self.reply(conn, &Reply::Done, &[]),
                    Err(error) => self.refuse(conn, Error::Container(error.to_string())),
                }
            }
        }
    }
}
