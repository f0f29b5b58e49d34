//! The link that hosts share, with the world beside it: a network namespace with a bridge for each of two segments.
//!
//! On the near segment, 10.99.0.0/24, hosts are neighbours; those on the far one, 10.98.0.0/24, are behind a router, which is also
//! what is *outside* of all hosts: 10.99.0.1 and 10.98.0.1. No route leads further.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::eventually;
use super::host::{Host, PREFIX, checked};

/// How many lans may exist at once, over all test processes: the machine is small.
const AT_ONCE: usize = 2;

/// Where a host's link is plugged in.
#[derive(Clone, Debug)]
pub struct Place {
    /// `near` or `far`.
    segment: &'static str,
    /// The lan's end of the link.
    port: String,
    /// The host's address.
    pub address: Ipv4Addr,
}

/// See the module.
pub struct Lan {
    holder: Child,
    next: AtomicU8,
    // Released last.
    _turn: fs::File,
}

impl Lan {
    /// Waits for a turn, and makes one.
    pub fn new() -> Arc<Lan> {
        let turn = take_turn();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/lan.sh");
        let mut holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "bash"])
            .arg(script)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the lan can't be set up");
        Arc::new(Lan { holder, next: AtomicU8::new(0), _turn: turn })
    }

    /// The next host, a neighbour of all made so: `node-a` at 10.99.0.2, `node-b` at 10.99.0.3, ...
    pub fn host(self: &Arc<Lan>) -> Host {
        self.host_on("near")
    }

    /// The next host, behind the router. Names and numbers go on.
    pub fn far_host(self: &Arc<Lan>) -> Host {
        self.host_on("far")
    }

    fn host_on(self: &Arc<Lan>, segment: &'static str) -> Host {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let address = Ipv4Addr::new(10, if segment == "near" { 99 } else { 98 }, 0, n + 2);
        let place = Place { segment, port: format!("port{n}"), address };
        Host::on(self.clone(), format!("node-{}", char::from(b'a' + n)), place)
    }

    fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// Runs this outside of all hosts.
    pub fn inside<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        within(&self.network(), job)
    }

    /// Makes the link of a host.
    pub fn connect(&self, place: &Place, host: &Path) {
        let Place { segment, port, .. } = place;
        ip(&self.network(), &format!("link add {port} type veth peer name eth0 netns {}", host.display()));
        ip(&self.network(), &format!("link set {port} master {segment} up"));
        ip(host, "link set eth0 up");
        self.address(place, host);
    }

    fn address(&self, place: &Place, host: &Path) {
        let (other, router) = if place.segment == "near" { ("10.98.0.0/24", "10.99.0.1") } else { ("10.99.0.0/24", "10.98.0.1") };
        ip(host, &format!("address add {}/24 dev eth0", place.address));
        ip(host, &format!("route replace {other} via {router}"));
    }

    /// Replaces a host's address.
    pub fn readdress(&self, old: &Place, new: &Place, host: &Path) {
        ip(host, &format!("address delete {}/24 dev eth0", old.address));
        self.address(new, host);
    }

    /// Connects a host or cuts it off.
    pub fn plug(&self, place: &Place, connected: bool) {
        ip(&self.network(), &format!("link set {} {}", place.port, if connected { "up" } else { "down" }));
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Runs `ip` in a network namespace.
fn ip(network: &Path, arguments: &str) {
    let output = Command::new("nsenter").arg(format!("--net={}", network.display())).arg("ip").args(arguments.split(' ')).output();
    checked(arguments, output.unwrap());
}

/// The calling thread's connections come from this network namespace from now on.
pub fn enter(network: &Path) {
    let file = fs::File::open(network).unwrap_or_else(|e| panic!("{}: {e}", network.display()));
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

/// Runs this in a network namespace.
pub fn within<T: Send>(network: &Path, job: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            enter(network);
            job()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// One of a few locks, held as long as the file is open.
fn take_turn() -> fs::File {
    let dir = std::env::temp_dir();
    eventually(Duration::from_secs(900), "a turn to run hosts", || {
        for turn in 0..AT_ONCE {
            let file = fs::File::create(dir.join(format!("{PREFIX}turn.{turn}"))).map_err(|e| e.to_string())?;
            if file.try_lock().is_ok() {
                return Ok(file);
            }
        }
        Err("others run".into())
    })
}
