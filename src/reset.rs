//! `orch reset`: this machine is no node any more, and nothing on it shows that it was one.
//!
//! What orch made is told by its marks: sandboxes by the node's state, groups by their name, links, routes and rules as
//! [`net::undo`](orch::net::undo) says, mounts by where they are, files by the data directory. Nothing else is touched; a file system that
//! somebody mounted inside the data directory stays, with what is on it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orch::agent::resources::ROOT_CGROUP;
use orch::config::ResetArgs;
use orch::runtime::cgroup::{self, Cgroup};
use orch::runtime::{Linux, Runtime};

/// How long a server or agent may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(20);
/// What a server or an agent holds while it runs.
const LOCK: &str = "lock";

/// What was done, and what could not be.
#[derive(Default)]
struct Report {
    done: usize,
    failed: usize,
}

impl Report {
    fn done(&mut self, what: impl std::fmt::Display) {
        self.done += 1;
        println!("{what}");
    }

    fn note<E: std::fmt::Display>(&mut self, what: impl std::fmt::Display, result: std::result::Result<(), E>) {
        match result {
            Ok(()) => self.done(what),
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: impl std::fmt::Display) {
        self.failed += 1;
        eprintln!("orch: {error}");
    }
}

/// Does it.
pub async fn run(args: ResetArgs) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("reset needs root");
    }
    let data = &args.data_dir;
    let mut report = Report::default();
    stop_running(data, args.force, &mut report)?;
    // Read now: it tells which kubeconfig is ours, and goes with the rest.
    let authority = fs::read_to_string(data.join("tls/ca.pem")).ok();
    end_sandboxes(data, &mut report).await?;
    match Cgroup::new(ROOT_CGROUP) {
        Ok(group) if group.exists() => report.note(format!("removed cgroup {ROOT_CGROUP}"), group.remove()),
        Ok(_) => {}
        Err(error) => report.failed(error),
    }
    match cgroup::restore(&data.join("run")) {
        Ok(controllers) if controllers.is_empty() => {}
        Ok(controllers) => report.done(format!("disabled the cgroup controllers {}", controllers.join(", "))),
        Err(error) => report.failed(error),
    }
    let (done, failures) = orch::net::undo(data);
    done.iter().for_each(|line| report.done(line));
    failures.iter().for_each(|error| report.failed(error));
    let ours = ["pods", "run"].map(|part| data.join(part)).into_iter().filter_map(|dir| dir.canonicalize().ok()).collect::<Vec<_>>();
    for mount in mounts()?.into_iter().rev().filter(|mount| ours.iter().any(|dir| mount.starts_with(dir) && mount != dir)) {
        let result = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::NOFOLLOW);
        report.note(format!("unmounted {}", mount.display()), result.map_err(|e| format!("unmounting {}: {e}", mount.display())));
    }
    remove_kubeconfig(&args.write_kubeconfig, authority.as_deref(), &mut report);
    if report.failed > 0 {
        bail!("{} things could not be removed; {} is kept, so that reset can be run again", report.failed, data.display());
    }
    remove_data(data, &mut report)?;
    if report.done == 0 {
        println!("there is nothing of orch on this machine, as far as {} and the network tell", data.display());
    }
    Ok(())
}

/// Makes sure that nothing runs on the data directory: refuses, or ends it.
fn stop_running(data: &Path, force: bool, report: &mut Report) -> Result<()> {
    let path = data.join(LOCK);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("opening {}", path.display()))?,
    };
    let deadline = Instant::now() + STOP;
    let mut asked = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
            Err(TryLockError::WouldBlock) => {}
        }
        let holders = lock_holders(&file).with_context(|| format!("finding out who holds {}", path.display()))?;
        let named = holders.iter().map(|pid| format!("pid {pid}")).collect::<Vec<_>>().join(", ");
        if !force {
            bail!("a server or an agent runs on {} ({named}); stop it first, or say --force", data.display());
        }
        let late = Instant::now() >= deadline;
        if late && Instant::now() >= deadline + STOP {
            bail!("{named} can't be ended");
        }
        for pid in &holders {
            let signal = if late { Signal::SIGKILL } else { Signal::SIGTERM };
            if !asked || late {
                // Gone already is as good.
                let _ = kill(Pid::from_raw(*pid), signal);
            }
        }
        if !asked {
            report.done(format!("ended {named}"));
        }
        asked = true;
        // The lock tells of nobody's release without being taken: a short wait, bounded by the deadline.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Who has a lock on this file, as `/proc/locks` tells: `1: FLOCK ADVISORY WRITE 123 00:2a:456 0 EOF`.
fn lock_holders(file: &File) -> io::Result<Vec<i32>> {
    let meta = file.metadata()?;
    let inode = meta.ino().to_string();
    let text = fs::read_to_string("/proc/locks")?;
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, place, ..] = words[..] else { return None };
        (place.rsplit(':').next() == Some(&inode)).then(|| pid.parse().ok()).flatten().filter(|pid| *pid > 0)
    };
    Ok(text.lines().filter_map(holder).collect())
}

async fn end_sandboxes(data: &Path, report: &mut Report) -> Result<()> {
    let state = data.join("run");
    let entries = match fs::read_dir(state.join("sandboxes")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("reading {}", state.display()))?,
    };
    let runtime = Linux::open(&state, std::env::current_exe().context("finding this executable")?, None)?;
    for entry in entries {
        let id = entry?.file_name().to_string_lossy().into_owned();
        report.note(format!("ended sandbox {id}"), runtime.remove_sandbox(&id).await);
    }
    Ok(())
}

/// All mount points, each after those it lies on.
fn mounts() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect())
}

/// A path as mountinfo writes it: blanks and the like as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let code = (*first == b'\\').then(|| tail.get(..3)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// The administrator's kubeconfig, if it is for the server that was here.
fn remove_kubeconfig(path: &Path, authority: Option<&str>, report: &mut Report) {
    let Some((authority, text)) = authority.zip(fs::read_to_string(path).ok()) else { return };
    // The authority's file holds its key as well.
    let certificate = |pem: &str| pem.split("-----BEGIN CERTIFICATE-----").nth(1).map(|rest| rest.split("-----").next().map(str::to_owned));
    let words = text.split(|c: char| c.is_whitespace() || c == '"');
    let mut encoded = words.filter_map(|word| String::from_utf8(STANDARD.decode(word).ok()?).ok());
    if certificate(authority).is_some() && encoded.any(|pem| certificate(&pem) == certificate(authority)) {
        report.note(format!("removed {}", path.display()), fs::remove_file(path).map_err(|e| format!("removing {}: {e}", path.display())));
        // Only if it is empty: settings are the user's.
        if let Some(dir) = path.parent().filter(|dir| fs::remove_dir(dir).is_ok()) {
            report.done(format!("removed {}", dir.display()));
        }
    }
}

fn remove_data(data: &Path, report: &mut Report) -> Result<()> {
    if !data.exists() {
        return Ok(());
    }
    let failed = || format!("removing {}", data.display());
    let real = data.canonicalize().with_context(failed)?;
    let all = mounts()?;
    let foreign: Vec<&PathBuf> = all.iter().filter(|mount| mount.starts_with(&real) && **mount != real).collect();
    if foreign.is_empty() && !all.contains(&real) {
        fs::remove_dir_all(data).with_context(failed)?;
        report.done(format!("removed {}", data.display()));
        return Ok(());
    }
    remove_but(&real, &foreign).with_context(failed)?;
    report.done(format!("removed what was in {}", data.display()));
    foreign.iter().for_each(|mount| println!("kept {}, which orch did not mount", mount.display()));
    Ok(())
}

/// Removes what is in a directory, but not what lies on these mounts.
fn remove_but(dir: &Path, mounts: &[&PathBuf]) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if mounts.iter().any(|mount| **mount == path) {
            continue;
        }
        match path.symlink_metadata()?.is_dir() {
            true if mounts.iter().any(|mount| mount.starts_with(&path)) => remove_but(&path, mounts)?,
            true => fs::remove_dir_all(&path)?,
            false => fs::remove_file(&path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_as_the_kernel_writes_them() {
        for (text, path) in [("/a", "/a"), ("/a\\040b", "/a b"), ("/a\\134", "/a\\"), ("/a\\9", "/a\\9")] {
            assert_eq!(unescaped(text), Path::new(path));
        }
    }

    #[test]
    fn who_holds_a_lock() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(lock_holders(&file).expect("readable"), [0; 0]);
        file.lock().expect("free");
        assert_eq!(lock_holders(&file).expect("readable"), [std::process::id() as i32]);
    }
}
