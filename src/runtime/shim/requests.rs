//! What a shim does for each request.
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Capability, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources, Spec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::container::{Container, Pipes, Stage, directories, pipes};
use super::log::Log;
use super::serve::Shim;
use super::setup::ConnId;
use crate::runtime::container::{Context, Init};
use crate::runtime::sys::{self, Forked};
use crate::runtime::wire::{Reply, Request};
use crate::runtime::{ContainerConfig, Error, Phase};

/// Character devices that every container may use: null zero full random urandom tty console ptmx pts, and net/tun.
const DEVICES: &[(i64, Option<i64>)] = &[
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
    (10, Some(200)),
];

/// The container's limits; without a list of devices, the usual few (a privileged container brings its own list).
fn resources(spec: &Spec) -> Result<LinuxResources, Error> {
    let mut resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
    if resources.devices().is_none() {
        let rule = |allow, kind, major, minor: Option<i64>, access: &str| {
            let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access);
            if let Some(major) = major {
                rule = rule.major(major);
            }
            if let Some(minor) = minor {
                rule = rule.minor(minor);
            }
            rule.build().map_err(|error| Error::Container(format!("device rule: {error}")))
        };
        let mut rules: Vec<LinuxDeviceCgroup> = vec![
            rule(false, LinuxDeviceType::A, None, None, "rwm")?,
            rule(true, LinuxDeviceType::C, None, None, "m")?,
            rule(true, LinuxDeviceType::B, None, None, "m")?,
        ];
        for (major, minor) in DEVICES {
            rules.push(rule(true, LinuxDeviceType::C, Some(*major), *minor, "rwm")?);
        }
        resources.set_devices(Some(rules));
    }
    Ok(resources)
}

impl Shim {
    /// Does it, or says why not. Answers that must wait come from the loop.
    pub fn handle(&mut self, conn: ConnId, request: Request) -> Result<(), Error> {
        match request {
            Request::List => {
                let states = self
                    .containers
                    .iter()
                    .filter(|container| container.removers.is_empty() && container.failure.is_none())
                    .map(Container::state)
                    .collect();
                self.reply(conn, &Reply::Containers(states), &[]);
            }
            Request::Watch => {
                self.watch(conn);
                self.reply(conn, &Reply::Done, &[]);
            }
            Request::Create(config) => self.create(conn, *config)?,
            Request::Start(id) => {
                let container = self.container(&id)?;
                let Some((channel, stage @ Stage::Created)) = &mut container.channel else {
                    return Err(Error::Container(format!("container {id} is not waiting to be started")));
                };
                rustix::io::write(&*channel, b"S").doing("starting container", &id)?;
                *stage = Stage::Starting(conn);
            }
            Request::Signal(id, signal) => {
                self.container(&id)?.signal(signal)?;
                self.reply(conn, &Reply::Done, &[]);
            }
            Request::Remove(id) => match self.container(&id) {
                Err(_) => self.reply(conn, &Reply::Done, &[]),
                Ok(container) => {
                    container.removers.push(conn);
                    container.kill()?;
                }
            },
            Request::Exec(id, exec) => self.exec(conn, &id, &exec)?,
            Request::Attach(id, stdin) => self.attach(conn, &id, stdin)?,
            Request::Shutdown => {
                self.shutdown = Some(conn);
                for container in &self.containers {
                    container.kill()?;
                }
            }
        }
        Ok(())
    }

    /// By name.
    pub fn container(&mut self, id: &str) -> Result<&mut Container, Error> {
        let found = self.containers.iter_mut().find(|container| container.config.id == id);
        found.ok_or_else(|| Error::NotFound(format!("container {id}")))
    }

    /// The filter a spec asks for.
    fn seccomp(&mut self, spec: &Spec) -> Result<Option<std::rc::Rc<[sys::Instruction]>>, Error> {
        let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else { return Ok(None) };
        let bounding =
            spec.process().as_ref().and_then(|process| process.capabilities().as_ref()).and_then(|sets| sets.bounding().as_ref());
        let capable = |capability: Capability| bounding.is_some_and(|set| set.contains(&capability));
        let bits = bounding.into_iter().flatten().fold(0u64, |bits, capability| bits | 1 << (*capability as u32 % 64));
        self.filter(profile, &capable, bits).map(Some)
    }

    fn create(&mut self, conn: ConnId, config: ContainerConfig) -> Result<(), Error> {
        let id = config.id.clone();
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if id.is_empty() || id.len() > 128 || id.starts_with('.') || !id.bytes().all(valid) {
            return Err(Error::Container(format!("invalid container id {id:?}")));
        }
        if self.container(&id).is_ok() || self.shutdown.is_some() {
            return Err(Error::Container(format!("container {id} exists already, or the sandbox is being removed")));
        }
        let joins = config.joins.as_deref().map(|target| self.joined(target)).transpose()?;
        let seccomp = self.seccomp(&config.spec)?;
        let log = Log::open(&config.log_path, config.log_max_bytes, config.log_files).doing("opening log", config.log_path.display())?;
        let dir = self.dir.join("containers").join(&id);
        directories(&dir)?;
        let cgroup = self.cgroup.child(&id);
        let made = cgroup.create(&resources(&config.spec)?).and_then(|()| {
            let Pipes { theirs, stdin, outputs } = pipes(&config)?;
            let (ours, channel) = channel()?;
            let born_in = cgroup.open_unified()?;
            // Its cgroup namespace is made later, by itself, when it is in its group.
            let mut flags = libc::CLONE_NEWNS as u64;
            if joins.is_none() && !self.shares_processes() {
                flags |= libc::CLONE_NEWPID as u64;
            }
            let fork = || match sys::clone3(flags, born_in.as_ref().map(AsFd::as_fd)).doing("starting container", &id)? {
                Forked::Child => Init {
                    config: &config,
                    dir: &dir,
                    cgroup: &cgroup,
                    channel,
                    stdio: theirs,
                    shm: self.shm.as_ref().map(AsFd::as_fd),
                    seccomp: seccomp.as_deref(),
                }
                .run(),
                Forked::Parent(pid, pidfd) => Ok((pid, pidfd, ours, stdin, outputs)),
            };
            match &joins {
                Some(target) => self.in_pid_namespace(target, fork),
                None => fork(),
            }
        });
        let (pid, pidfd, channel, stdin, outputs) = made.inspect_err(|_| {
            // The first error is the one to tell.
            let _ = cgroup.remove();
        })?;
        self.containers.push(Container {
            config,
            cgroup,
            seccomp,
            phase: Phase::Created,
            pid,
            pidfd,
            channel: Some((channel, Stage::Creating(conn))),
            stdin,
            master: None,
            outputs,
            listeners: Vec::new(),
            removers: Vec::new(),
            failure: None,
            log,
        });
        Ok(())
    }

    fn attach(&mut self, conn: ConnId, id: &str, stdin: bool) -> Result<(), Error> {
        let container = self.container(id)?;
        if !matches!(container.phase, Phase::Running { .. }) {
            return Err(Error::Container(format!("container {id} is not running")));
        }
        let reads = container.listen(conn)?;
        let tty = container.master.is_some();
        // With a terminal its master goes along for resizing, whether or not input is wanted.
        let input = match &container.master {
            Some(master) => Some(master.try_clone().doing("attaching to", id)?),
            None if !stdin => None,
            // Once only: the next end of input is the attached one's end.
            None if container.config.stdin_once => container.stdin.take(),
            None => container.stdin.as_ref().map(|fd| fd.try_clone().doing("attaching to", id)).transpose()?,
        };
        let reply = Reply::Streams { stdin: input.is_some(), stdout: reads[0].is_some(), stderr: reads[1].is_some(), tty };
        let fds: Vec<_> = input.iter().chain(reads.iter().flatten()).map(AsFd::as_fd).collect();
        self.reply(conn, &reply, &fds);
        Ok(())
    }

    /// Whether no container has a pid namespace of its own.
    fn shares_processes(&self) -> bool {
        self.config.host_pid || self.config.share_processes
    }

    /// A handle of the container whose pid namespace another one joins.
    fn joined(&mut self, target: &str) -> Result<std::os::fd::OwnedFd, Error> {
        let container = self.container(target)?;
        match container.phase {
            Phase::Running { .. } => container.pidfd.try_clone().doing("joining the processes of", target),
            _ => Err(Error::NotRunning(target.into())),
        }
    }

    /// Runs `child` in the pid namespace of a process, by setting the one for children for a moment.
    pub fn in_pid_namespace<T>(&self, target: &impl AsFd, fork: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if self.shares_processes() {
            return fork();
        }
        setns(target, CloneFlags::CLONE_NEWPID).doing("entering", "the container's pid namespace")?;
        let result = fork();
        setns(&self.own_pid_namespace, CloneFlags::CLONE_NEWPID).doing("leaving", "the container's pid namespace")?;
        result
    }
}

/// A set-up channel: ours does not block.
pub fn channel() -> Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd), Error> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).doing("making", "a socket pair")?;
    rustix::io::ioctl_fionbio(&ours, true).doing("making", "a socket pair")?;
    Ok((ours, theirs))
}
