//! How many files a process may have open: all that it can get for orch itself, and what it was before for containers.
//!
//! As Go's runtime, and so upstream: the *soft* limit is raised to the *hard* one at the start, since a soft limit of 1024 exists for programs
//! that use select(2), and what is started later begins with the old one, since it may be such a program (setrlimit(2); Go's `os/rlimit.go`
//! and `syscall/rlimit.go`). A shim is told the old limit by its environment, which its containers never see.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Tells a shim the soft limit of its containers.
pub(super) const VARIABLE: &str = "ORCH_SHIM_OPEN_FILES";

/// Raises the soft limit of this process to its hard one. Returns what it was, for [`set`]; `None`: it was that high already.
pub fn raise() -> std::io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return Ok(None);
    }
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(current)
}

/// The hard limit; `None`: there is none.
pub fn most() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Sets the soft limit of this process and of what it starts from now on.
pub fn set(soft: u64) -> std::io::Result<()> {
    let maximum = most();
    let soft = maximum.map_or(soft, |most| soft.min(most));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum })?)
}

/// In a shim: takes the limit that it was told, if it was told one.
pub(super) fn take() -> std::io::Result<()> {
    match std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()) {
        Some(soft) => set(soft),
        None => Ok(()),
    }
}
