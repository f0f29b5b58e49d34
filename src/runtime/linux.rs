//! The agent's side of the runtime: makes sandboxes, finds them again, talks to their shims, cleans up behind dead ones.
//!
//! On disk: `<state_dir>/sandboxes/<id>/` with `config.json`, `shim.pid` (number and start time), `shim.sock`, `shim.log` and
//! `containers/<id>/`. What containers do is known by the shim alone; when it is gone, so are they.
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use oci_spec::runtime::LinuxResources;
use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::cgroup::{self, Cgroup};
use super::container::Context;
use super::open_files;
use super::shim::setup::start_time;
use super::wire::{self, Reply, Request};
use super::{ContainerConfig, ContainerState, Error, ExecConfig, Exit, Runtime, Sandbox, SandboxConfig, Session, Stats};

/// The runtime of this host. Cheap to clone.
#[derive(Clone)]
pub struct Linux {
    inner: Arc<Inner>,
}

struct Inner {
    sandboxes: PathBuf,
    exe: PathBuf,
    open_files: Option<u64>,
    /// Shims whose exits are followed, by sandbox.
    known: Mutex<HashMap<String, SandboxConfig>>,
    exits: mpsc::UnboundedSender<Exit>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<Exit>>>,
}

/// One connection to a shim.
struct Conn {
    sandbox: String,
    stream: UnixStream,
    input: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Conn {
    async fn open(dir: &Path, sandbox: &str) -> Result<Conn, Error> {
        let gone = |_| Error::ShimGone(sandbox.to_string());
        // Through a descriptor, since a socket's address holds 107 bytes and a data directory may be longer.
        let folder = fs::File::open(dir).map_err(gone)?;
        let short = format!("/proc/self/fd/{}/shim.sock", std::os::fd::AsRawFd::as_raw_fd(&folder));
        let stream = UnixStream::connect(short).await.map_err(gone)?;
        Ok(Conn { sandbox: sandbox.to_string(), stream, input: Vec::new(), fds: Vec::new() })
    }

    async fn send(&mut self, request: &Request) -> Result<(), Error> {
        let frame = wire::frame(request).doing("asking the shim of", &self.sandbox)?;
        tokio::io::AsyncWriteExt::write_all(&mut self.stream, &frame).await.map_err(|_| Error::ShimGone(self.sandbox.clone()))
    }

    async fn receive(&mut self) -> Result<Reply, Error> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(reply) = wire::unframe(&mut self.input).doing("hearing from the shim of", &self.sandbox)? {
                return Ok(reply);
            }
            let (stream, fds) = (&self.stream, &mut self.fds);
            let got = stream.async_io(Interest::READABLE, || wire::receive(stream.as_fd(), &mut buffer, fds)).await;
            match got {
                Ok(count) if count > 0 => self.input.extend_from_slice(&buffer[..count]),
                _ => return Err(Error::ShimGone(self.sandbox.clone())),
            }
        }
    }
}

fn unexpected(sandbox: &str, reply: Reply) -> Error {
    match reply {
        Reply::Failed(fault) => fault.into(),
        other => Error::Container(format!("the shim of {sandbox} gave an unexpected answer: {other:?}")),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Container(format!("the runtime is shutting down: {error}"))),
    }
}

fn valid(id: &str) -> Result<(), Error> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if id.is_empty() || id.len() > 64 || id.starts_with('.') || !id.bytes().all(good) {
        return Err(Error::Container(format!("invalid sandbox id {id:?}")));
    }
    Ok(())
}

fn read_config(dir: &Path) -> Result<Option<SandboxConfig>, Error> {
    let path = dir.join("config.json");
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(std::io::Error::from).doing("parsing", path.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing("reading", path.display()),
    }
}

/// The shim of a sandbox directory, if it lives: number and handle. The start time tells a reused number.
fn living_shim(dir: &Path) -> Option<(i32, OwnedFd)> {
    let text = fs::read_to_string(dir.join("shim.pid")).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let (pid, started): (i32, u64) = (pid.parse().ok()?, started.parse().ok()?);
    // Opened before the comparison: then the number can't pass to another in between.
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let zombie = stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']));
    (!zombie && start_time(pid) == Some(started)).then_some((pid, handle))
}

fn remove_dir(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).doing("removing", dir.display()),
        _ => Ok(()),
    }
}

/// Runs `orch shim DIR` and waits for its one line.
fn spawn(exe: &Path, dir: &Path, open_files: Option<u64>) -> Result<i32, Error> {
    let mut child = std::process::Command::new(exe)
        .arg("shim")
        .arg(dir)
        .env_clear()
        .envs(open_files.map(|soft| (open_files::VARIABLE, soft.to_string())))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .doing("starting", exe.display())?;
    let mut line = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(8192).read_to_end(&mut line).doing("hearing from the shim in", dir.display())?;
    }
    // The process started ends at once; its child is the shim.
    child.wait().doing("waiting for", exe.display())?;
    let line = String::from_utf8_lossy(&line);
    let line = line.trim();
    match line.strip_prefix("ok ").and_then(|pid| pid.parse().ok()) {
        Some(pid) => Ok(pid),
        None if line.is_empty() => Err(Error::Container(format!("the shim in {} ended without a word", dir.display()))),
        None => Err(Error::Container(line.to_string())),
    }
}

impl Linux {
    /// Opens (or makes) the state directory. `exe` is what runs as `exe shim DIR`: this executable. `open_files` is the
    /// soft limit that containers begin with; `None`: this process's own.
    pub fn open(state_dir: &Path, exe: PathBuf, open_files: Option<u64>) -> Result<Linux, Error> {
        let sandboxes = state_dir.join("sandboxes");
        fs::create_dir_all(&sandboxes).doing("making", sandboxes.display())?;
        cgroup::remember(state_dir)?;
        // Shims change directory.
        let sandboxes = sandboxes.canonicalize().doing("resolving", sandboxes.display())?;
        let (exits, receiver) = mpsc::unbounded_channel();
        let receiver = Mutex::new(Some(receiver));
        Ok(Linux { inner: Arc::new(Inner { sandboxes, exe, open_files, known: Mutex::default(), exits, receiver }) })
    }

    fn dir(&self, id: &str) -> PathBuf {
        self.inner.sandboxes.join(id)
    }

    fn config(&self, id: &str) -> Result<SandboxConfig, Error> {
        valid(id)?;
        if let Some(config) = self.inner.known.lock().get(id) {
            return Ok(config.clone());
        }
        read_config(&self.dir(id))?.ok_or_else(|| Error::NotFound(format!("sandbox {id}")))
    }

    async fn ask(&self, sandbox: &str, request: &Request) -> Result<(Reply, Conn), Error> {
        valid(sandbox)?;
        let dir = self.dir(sandbox);
        if !dir.exists() {
            return Err(Error::NotFound(format!("sandbox {sandbox}")));
        }
        let mut conn = Conn::open(&dir, sandbox).await?;
        conn.send(request).await?;
        match conn.receive().await? {
            Reply::Failed(fault) => Err(fault.into()),
            reply => Ok((reply, conn)),
        }
    }

    async fn done(&self, sandbox: &str, request: &Request) -> Result<(), Error> {
        match self.ask(sandbox, request).await? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(unexpected(sandbox, other)),
        }
    }

    /// Follows a shim's exits until it is gone; once per shim. Exits before this are in its list of containers.
    async fn follow(&self, config: &SandboxConfig) -> Result<(), Error> {
        let id = config.id.clone();
        if self.inner.known.lock().contains_key(&id) {
            return Ok(());
        }
        let (reply, mut conn) = self.ask(&id, &Request::Watch).await?;
        if !matches!(reply, Reply::Done) {
            return Err(unexpected(&id, reply));
        }
        if self.inner.known.lock().insert(id.clone(), config.clone()).is_some() {
            return Ok(());
        }
        let inner = self.inner.clone();
        tokio::spawn(async move {
            while let Ok(reply) = conn.receive().await {
                if let Reply::Ended(container) = reply {
                    // Nobody listens when the agent is ending.
                    let _ = inner.exits.send(Exit { sandbox: id.clone(), container: Some(container) });
                }
            }
            // Known still: nobody removed it, so its shim died.
            if inner.known.lock().remove(&id).is_some() {
                let _ = inner.exits.send(Exit { sandbox: id, container: None });
            }
        });
        Ok(())
    }

    /// Kills what a dead shim may have left, and removes its group and directory.
    fn clean(dir: &Path, config: Option<&SandboxConfig>) -> Result<(), Error> {
        if let Some((pid, handle)) = living_shim(dir) {
            match pidfd_send_signal(&handle, Signal::KILL) {
                // It ended since it was looked at.
                Err(rustix::io::Errno::SRCH) => {}
                sent => sent.doing("ending the shim", pid)?,
            }
            let exited = |handle: &OwnedFd| {
                let timeout = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
                rustix::event::poll(&mut [rustix::event::PollFd::new(handle, rustix::event::PollFlags::IN)], Some(&timeout))
            };
            exited(&handle).doing("waiting for the shim", pid)?;
        }
        // Both are tried: a group that is busy must not keep the disk full.
        let group = config.map_or(Ok(()), |config| Cgroup::new(&config.cgroup).and_then(|group| group.remove()));
        let files = if group.is_ok() { remove_dir(dir) } else { remove_dir(&dir.join("containers")) };
        group.and(files)
    }

    async fn observe(&self, config: SandboxConfig, pid: i32) -> Result<Sandbox, Error> {
        self.follow(&config).await?;
        let containers = self.containers(&config.id).await?;
        Ok(Sandbox { config, pid, containers })
    }

    fn streams(reply: Reply, conn: Conn, want_stdin: bool, want_stdout: bool) -> Result<Session, Error> {
        let Reply::Streams { stdin, stdout, stderr, tty } = reply else { return Err(unexpected(&conn.sandbox, reply)) };
        let mut conn = conn;
        let mut fds = std::mem::take(&mut conn.fds).into_iter();
        let mut take = |there: bool| if there { fds.next() } else { None };
        let (mut input, mut output, error) = (take(stdin), take(stdout), take(stderr));
        let copy = |fd: &Option<OwnedFd>| fd.as_ref().map(|fd| fd.try_clone().doing("keeping", "a terminal")).transpose();
        let master = if tty { copy(&input)? } else { None };
        if tty && output.is_none() && want_stdout {
            output = copy(&input)?;
        }
        if !want_stdin {
            input = None;
        }
        let (resize, mut sizes) = mpsc::channel::<(u16, u16)>(4);
        if let Some(master) = master {
            tokio::spawn(async move {
                while let Some((columns, rows)) = sizes.recv().await {
                    let size = rustix::termios::Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
                    if rustix::termios::tcsetwinsize(&master, size).is_err() {
                        return;
                    }
                }
            });
        }
        let (sender, exit) = oneshot::channel();
        tokio::spawn(async move {
            let mut sender = sender;
            tokio::select! {
                reply = conn.receive() => if let Ok(Reply::Exited(code)) = reply {
                    // Detached meanwhile: nobody wants it.
                    let _ = sender.send(code);
                },
                () = sender.closed() => {}
            }
        });
        Ok(Session { stdin: input, stdout: output, stderr: error, resize, exit })
    }
}

impl Runtime for Linux {
    async fn limit_group(&self, path: &str, resources: &LinuxResources) -> Result<(), Error> {
        let (group, resources) = (Cgroup::new(path)?, resources.clone());
        blocking(move || group.create(&resources)).await
    }

    async fn sandboxes(&self) -> Result<Vec<Sandbox>, Error> {
        let mut found = Vec::new();
        let entries = fs::read_dir(&self.inner.sandboxes).doing("reading", self.inner.sandboxes.display())?;
        for entry in entries {
            let dir = entry.doing("reading", self.inner.sandboxes.display())?.path();
            let config = read_config(&dir)?;
            if let (Some(config), Some((pid, _))) = (&config, living_shim(&dir)) {
                match self.observe(config.clone(), pid).await {
                    // It died just now, or never came up.
                    Err(Error::ShimGone(_)) => {}
                    other => {
                        found.push(other?);
                        continue;
                    }
                }
            }
            blocking(move || Linux::clean(&dir, config.as_ref())).await?;
        }
        Ok(found)
    }

    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        valid(&config.id)?;
        Cgroup::new(&config.cgroup)?;
        let (dir, exe, open_files, wanted) = (self.dir(&config.id), self.inner.exe.clone(), self.inner.open_files, config.clone());
        let pid = blocking(move || {
            if let Some((pid, _)) = living_shim(&dir) {
                return Ok(pid);
            }
            Linux::clean(&dir, read_config(&dir)?.as_ref())?;
            fs::create_dir_all(dir.join("containers")).doing("making", dir.display())?;
            let (new, path) = (dir.join("config.json.new"), dir.join("config.json"));
            let text = serde_json::to_vec(&wanted).map_err(std::io::Error::from).doing("writing", path.display())?;
            fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).doing("writing", path.display())?;
            spawn(&exe, &dir, open_files).inspect_err(|_| {
                // The first error is the one to tell.
                let _ = Linux::clean(&dir, Some(&wanted));
            })
        })
        .await?;
        self.observe(config.clone(), pid).await
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let config = match self.config(id) {
            Ok(config) => Some(config),
            Err(Error::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        self.inner.known.lock().remove(id);
        let asked = match self.done(id, &Request::Shutdown).await {
            // Gone already; what it left is cleaned below.
            Err(Error::ShimGone(_) | Error::NotFound(_)) => Ok(()),
            other => other,
        };
        let dir = self.dir(id);
        blocking(move || Linux::clean(&dir, config.as_ref())).await.and(asked)
    }

    async fn containers(&self, sandbox: &str) -> Result<Vec<ContainerState>, Error> {
        match self.ask(sandbox, &Request::List).await? {
            (Reply::Containers(list), _) => Ok(list),
            (other, _) => Err(unexpected(sandbox, other)),
        }
    }

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<(), Error> {
        let result = self.done(sandbox, &Request::Create(Box::new(config.clone()))).await;
        if result.is_err()
            && !self.containers(sandbox).await?.iter().any(|container| container.id == config.id)
            && valid(&config.id).is_ok()
        {
            let dir = self.dir(sandbox).join("containers").join(&config.id);
            blocking(move || remove_dir(&dir)).await?;
        }
        result
    }

    async fn start_container(&self, sandbox: &str, id: &str) -> Result<(), Error> {
        self.done(sandbox, &Request::Start(id.to_string())).await
    }

    async fn signal_container(&self, sandbox: &str, id: &str, signal: i32) -> Result<(), Error> {
        self.done(sandbox, &Request::Signal(id.to_string(), signal)).await
    }

    async fn remove_container(&self, sandbox: &str, id: &str) -> Result<(), Error> {
        valid(id)?;
        match self.done(sandbox, &Request::Remove(id.to_string())).await {
            Err(Error::ShimGone(_) | Error::NotFound(_)) => {}
            other => other?,
        }
        let dir = self.dir(sandbox).join("containers").join(id);
        blocking(move || remove_dir(&dir)).await
    }

    async fn exec(&self, sandbox: &str, id: &str, exec: &ExecConfig) -> Result<Session, Error> {
        let (reply, conn) = self.ask(sandbox, &Request::Exec(id.to_string(), exec.clone())).await?;
        Linux::streams(reply, conn, exec.stdin, exec.stdout || exec.tty)
    }

    async fn attach(&self, sandbox: &str, id: &str, stdin: bool) -> Result<Session, Error> {
        let (reply, conn) = self.ask(sandbox, &Request::Attach(id.to_string(), stdin)).await?;
        Linux::streams(reply, conn, stdin, true)
    }

    async fn resize_group(&self, path: &str, resources: &LinuxResources) -> Result<(), Error> {
        let (group, resources) = (Cgroup::new(path)?, resources.clone());
        blocking(move || group.change(&resources)).await
    }

    async fn stats(&self, path: &str) -> Result<Stats, Error> {
        let group = Cgroup::new(path)?;
        blocking(move || group.stats()).await
    }

    fn exits(&self) -> mpsc::UnboundedReceiver<Exit> {
        // A second caller gets one that is closed: exits go to one place.
        self.inner.receiver.lock().take().unwrap_or_else(|| mpsc::unbounded_channel().1)
    }
}
