//! The shim: one small process per sandbox, from this same executable, that outlives the agent.
//!
//! It holds the sandbox's namespaces, is the parent of all its containers, keeps their streams, logs and exit codes, and answers
//! on a unix socket. It has one thread, no asynchronous runtime, and waits in one poll(2). Only `remove` ends it.
//! A shim that is killed takes its containers along (PR_SET_PDEATHSIG).
//!
//! Never: changes anything outside its own directory, its cgroup and the log files it is given.
mod container;
mod exec;
mod log;
mod requests;
mod serve;
pub mod setup;

use std::io::Write;
use std::path::Path;

use super::open_files;

/// Runs `orch shim DIR`; returns the exit code. Call it before threads start and before anything large is allocated.
pub fn main(dir: &Path) -> i32 {
    if let Err(error) = open_files::take() {
        let _ = writeln!(std::io::stdout(), "setting the limit of open files: {error}");
        return 1;
    }
    match setup::start(dir) {
        Ok(None) => 0,
        Ok(Some(ready)) => match serve::Shim::new(dir.to_path_buf(), ready).run() {
            Ok(()) => 0,
            Err(error) => {
                // Standard error is the shim's log file by now.
                let _ = writeln!(std::io::stderr(), "{error}");
                1
            }
        },
        Err(error) => {
            let _ = writeln!(std::io::stdout(), "{error}");
            1
        }
    }
}
