//! What the scenarios stand on: private hosts, servers on them, clients, images, terminals.
//!
//! Invariants: nothing here touches the machine's own network, cgroups or mounts: a [`host::Host`] is a set of namespaces with a
//! subtree of each cgroup hierarchy, joined to others by a [`lan::Lan`] at most, and everything in it dies with it, also when the test panics or is killed. Whatever waits
//! has a deadline, and there is one loop that retries ([`eventually`]).

pub mod agent;
pub mod api;
pub mod bed;
pub mod cluster;
pub mod fake_registry;
pub mod host;
pub mod hosts;
pub mod images;
pub mod kubectl;
pub mod lan;
pub mod scenarios;
pub mod terminal;
mod wait;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

pub use wait::{eventually, step};

/// Prints why a test does nothing here, and ends it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        eprintln!("SKIPPED: {}", format_args!($($reason)*));
        return;
    }};
}

/// A program, if this machine has it.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Which of these programs this machine lacks, and whether it lets us make namespaces.
pub fn missing(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    let lacking: Vec<&str> = programs.iter().copied().filter(|program| which(program).is_none()).collect();
    (!lacking.is_empty()).then(|| format!("this machine has no {}", lacking.join(", ")))
}

/// The body of a page, from the namespace of the calling thread.
pub fn fetch(address: &str, path: &str) -> Result<String, String> {
    let patience = Duration::from_secs(2);
    let target: SocketAddr = address.parse().map_err(|e| format!("{address}: {e}"))?;
    let io = |e: std::io::Error| format!("{address}: {e}");
    let mut stream = TcpStream::connect_timeout(&target, patience).map_err(io)?;
    stream.set_read_timeout(Some(patience)).map_err(io)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(io)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(io)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{address}: no header in {answer:?}"))?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(format!("{address}: {head}"));
    }
    Ok(body.to_owned())
}
