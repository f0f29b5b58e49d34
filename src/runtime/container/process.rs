//! The last steps of a process: streams, identity, capabilities, limits, seccomp, exec.
use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid};
use oci_spec::runtime::{Capability, PosixRlimit, PosixRlimitType, Process};
use rustix::fs::{Mode, OFlags};

use super::{Context, Stdio, mounts, read_inside};
use crate::runtime::user::{Identity, resolve_user};
use crate::runtime::{Error, sys};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// In the kernel's order (`linux/capability.h`): the position is the number.
const CAPABILITIES: &[Capability] = &[
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The bounding set of this process, with capabilities that are newer than this list. The kernel knows none after the first it refuses.
fn own_capabilities() -> u64 {
    let known = (0..64u64).map_while(|number| sys::prctl(libc::PR_CAPBSET_READ, number, 0).ok().map(|has| (has as u64) << number));
    known.fold(0, |bits, bit| bits | bit)
}

/// A set of capabilities as the kernel's bits.
fn bits(set: Option<&HashSet<Capability>>) -> u64 {
    set.into_iter()
        .flatten()
        .filter_map(|capability| CAPABILITIES.iter().position(|known| known == capability))
        .fold(0, |bits, n| bits | 1 << n)
}

/// Opens a terminal of the container's own devpts: master and slave. `console` binds it to /dev/console.
pub fn open_terminal(console: bool) -> Result<(OwnedFd, OwnedFd), Error> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).doing("opening", "/dev/pts/ptmx")?;
    rustix::pty::unlockpt(&master).doing("unlocking", "a terminal")?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC,
    );
    let slave = slave.doing("opening", "a terminal")?;
    if console {
        let name = rustix::pty::ptsname(&master, Vec::new()).doing("naming", "a terminal")?;
        let tree = mounts::clone_tree(Path::new(&*name.to_string_lossy()), false)?;
        mounts::attach(tree, Path::new("/dev/console"))?;
    }
    Ok((master, slave))
}

/// Makes a terminal the controlling one and all three streams.
pub fn use_terminal(slave: OwnedFd) -> Result<(), Error> {
    rustix::process::setsid().doing("starting", "a session")?;
    rustix::process::ioctl_tiocsctty(&slave).doing("controlling", "a terminal")?;
    rustix::stdio::dup2_stdin(&slave).doing("setting", "standard input")?;
    rustix::stdio::dup2_stdout(&slave).doing("setting", "standard output")?;
    rustix::stdio::dup2_stderr(&slave).doing("setting", "standard error")
}

/// Pipes as streams, /dev/null for absent ones.
pub fn use_streams(stdio: Stdio) -> Result<(), Error> {
    rustix::process::setsid().doing("starting", "a session")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).doing("opening", "/dev/null")?;
    let or_null = |fd: &Option<OwnedFd>| fd.as_ref().unwrap_or(&null).try_clone().doing("setting", "standard streams");
    rustix::stdio::dup2_stdin(or_null(&stdio.stdin)?).doing("setting", "standard input")?;
    rustix::stdio::dup2_stdout(or_null(&stdio.stdout)?).doing("setting", "standard output")?;
    rustix::stdio::dup2_stderr(or_null(&stdio.stderr)?).doing("setting", "standard error")
}

/// A program found and an identity resolved: what can fail for the user's reasons has not failed.
pub struct Launch<'a> {
    process: &'a Process,
    seccomp: Option<&'a [sys::Instruction]>,
    identity: Identity,
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

fn c_strings<'a>(list: impl Iterator<Item = &'a String>, what: &'static str) -> Result<Vec<CString>, Error> {
    list.map(|text| CString::new(text.as_str()).map_err(|_| Error::Container(format!("{what} contains a zero byte")))).collect()
}

impl<'a> Launch<'a> {
    /// Resolves user and program inside the container's root.
    pub fn prepare(process: &'a Process, seccomp: Option<&'a [sys::Instruction]>) -> Result<Launch<'a>, Error> {
        let user = process.user();
        let spec = user.username().clone().unwrap_or_else(|| format!("{}:{}", user.uid(), user.gid()));
        let mut identity = resolve_user(&spec, &read_inside("/etc/passwd")?, &read_inside("/etc/group")?)?;
        identity.groups.extend(user.additional_gids().iter().flatten());
        identity.groups.sort_unstable();
        identity.groups.dedup();
        let mut env: Vec<String> = process.env().clone().unwrap_or_default();
        let home = format!("HOME={}", identity.home);
        for (name, value) in [("PATH=", PATH), ("HOME=", &home)] {
            if !env.iter().any(|entry| entry.starts_with(name)) {
                env.push(value.to_string());
            }
        }
        let args = process.args().as_deref().unwrap_or_default();
        let Some(name) = args.first() else { return Err(Error::Container("no command specified".into())) };
        enter_directory(process.cwd(), &identity)?;
        let search = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
        let program = find_program(name, search)?;
        Ok(Launch {
            process,
            seccomp,
            identity,
            program: CString::new(program).map_err(|_| Error::Container("the command contains a zero byte".into()))?,
            args: c_strings(args.iter(), "an argument")?,
            env: c_strings(env.iter(), "an environment variable")?,
        })
    }

    /// Gives up privileges, waits for `gate`, and becomes the program.
    pub fn exec(self, gate: impl FnOnce() -> Result<(), Error>) -> Result<std::convert::Infallible, Error> {
        let no_new_privs = self.process.no_new_privileges().unwrap_or(false);
        self.limits()?;
        let sets = self.process.capabilities().as_ref();
        let bounding = bits(sets.and_then(|sets| sets.bounding().as_ref()));
        let own = own_capabilities();
        for number in (0..64u64).filter(|number| own & !bounding & 1 << number != 0) {
            sys::prctl(libc::PR_CAPBSET_DROP, number, 0).doing("dropping capability", number)?;
        }
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(self.process.user().umask().unwrap_or(0o022)));
        sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).doing("keeping", "capabilities")?;
        let groups: Vec<_> = self.identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        nix::unistd::setgroups(&groups).doing("setting", "supplementary groups")?;
        // Installing a filter wants CAP_SYS_ADMIN or no_new_privs: without the latter now, with it as late as can be.
        if let (Some(filter), false) = (self.seccomp, no_new_privs) {
            sys::install_seccomp(filter).doing("installing", "the seccomp filter")?;
        }
        let (uid, gid) = (Uid::from_raw(self.identity.uid), Gid::from_raw(self.identity.gid));
        nix::unistd::setresgid(gid, gid, gid).doing("setting group", gid)?;
        nix::unistd::setresuid(uid, uid, uid).doing("setting user", uid)?;
        self.capabilities(own)?;
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).doing("binding to", "the shim")?;
        if no_new_privs {
            sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).doing("setting", "no_new_privs")?;
            if let Some(filter) = self.seccomp {
                sys::install_seccomp(filter).doing("installing", "the seccomp filter")?;
            }
        }
        sys::cloexec_from(3).doing("closing", "descriptors")?;
        gate()?;
        let error = sys::execve(&self.program, &self.args, &self.env);
        Err(Error::Container(format!("exec {:?}: {}", self.program.to_string_lossy(), reason(&error))))
    }

    /// What this process does not have (`own`) can't be granted: as runc, less is given rather than nothing.
    fn capabilities(&self, own: u64) -> Result<(), Error> {
        let sets = self.process.capabilities().as_ref();
        let of = |set: Option<&HashSet<Capability>>| bits(set) & own;
        let permitted = of(sets.and_then(|sets| sets.permitted().as_ref()));
        let effective = of(sets.and_then(|sets| sets.effective().as_ref())) & permitted;
        let inheritable = of(sets.and_then(|sets| sets.inheritable().as_ref()));
        sys::capset(effective, permitted, inheritable).doing("setting", "capabilities")?;
        let ambient = of(sets.and_then(|sets| sets.ambient().as_ref())) & permitted & inheritable;
        for number in (0..64u64).filter(|number| ambient & 1 << number != 0) {
            sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number).doing("raising capability", number)?;
        }
        Ok(())
    }

    fn limits(&self) -> Result<(), Error> {
        for limit in self.process.rlimits().iter().flatten() {
            set_limit(limit)?;
        }
        // Always: otherwise it would inherit the shim's, which the kernel all but never kills.
        let score = self.process.oom_score_adj().unwrap_or(0);
        // Lowering it wants CAP_SYS_RESOURCE, which a nested runtime may lack: then the score stays what it was.
        match fs::write("/proc/self/oom_score_adj", score.to_string()) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            other => other.doing("writing", "/proc/self/oom_score_adj")?,
        }
        Ok(())
    }
}

fn set_limit(limit: &PosixRlimit) -> Result<(), Error> {
    let resource = match limit.typ() {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    };
    setrlimit(resource, limit.soft(), limit.hard()).doing("setting limit", format_args!("{:?}", limit.typ()))
}

/// Makes the working directory if missing, owned by the user, as Docker does, and enters it.
fn enter_directory(cwd: &Path, identity: &Identity) -> Result<(), Error> {
    let cwd = if cwd.as_os_str().is_empty() { Path::new("/") } else { cwd };
    if let Err(error) = rustix::process::chdir(cwd) {
        if error != rustix::io::Errno::NOENT {
            return Err(error).doing("entering working directory", cwd.display());
        }
        drop(mounts::destination(cwd, true)?);
        std::os::unix::fs::chown(cwd, Some(identity.uid), Some(identity.gid)).doing("owning", cwd.display())?;
        rustix::process::chdir(cwd).doing("entering working directory", cwd.display())?;
    }
    Ok(())
}

fn reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".to_string(),
        Some(libc::EACCES) => "permission denied".to_string(),
        Some(libc::ENOEXEC) => "exec format error".to_string(),
        _ => error.to_string(),
    }
}

/// PATH lookup with the messages of Go's `exec.LookPath`, which users know from runc.
fn find_program(name: &str, search: &str) -> Result<String, Error> {
    let wrong = |why: &str| Error::Container(format!("exec: {name:?}: {why}"));
    let check = |path: &str| -> Result<(), &'static str> {
        let stat = rustix::fs::stat(path).map_err(|_| "no such file or directory")?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Err("is a directory");
        }
        if stat.st_mode & 0o111 == 0 { Err("permission denied") } else { Ok(()) }
    };
    if name.contains('/') {
        return check(name).map(|()| name.to_string()).map_err(|why| Error::Container(format!("exec: {name:?}: stat {name}: {why}")));
    }
    let mut candidates = search.split(':').map(|dir| format!("{}/{name}", if dir.is_empty() { "." } else { dir }));
    candidates.find(|path| check(path).is_ok()).ok_or_else(|| wrong("executable file not found in $PATH"))
}
