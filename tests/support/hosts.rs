//! The bed of private hosts: namespaces on one lan.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::bed::{Bed, Place, Seat};
use super::cluster::ORCH;
use super::host::{self, Host, checked};
use super::kubectl::stock;
use super::lan::Lan;
use super::which;

/// Programs that [`Hosts::new`] needs, beyond those of a host.
pub const TOOLS: &[&str] = &["busybox", "tar", "sha256sum"];

/// See the module. Fields are dropped in this order.
pub struct Hosts {
    seats: Vec<Seat>,
    hosts: Vec<Host>,
    image: PathBuf,
    path: String,
    lan: Arc<Lan>,
}

impl Hosts {
    /// So many hosts that are neighbours, and so many behind the router.
    pub fn new(near: usize, far: usize) -> Hosts {
        let lan = Lan::new();
        let hosts: Vec<Host> = (0..near).map(|_| lan.host()).chain((0..far).map(|_| lan.far_host())).collect();
        let seats = hosts.iter().map(|host| Seat { name: host.name.clone(), address: host.address() }).collect();
        let bin = hosts[0].dir.join("bin");
        fs::create_dir(&bin).unwrap();
        symlink(ORCH, bin.join("orch")).unwrap();
        match stock("1.33").or_else(|| which("kubectl")) {
            Some(program) => symlink(program, bin.join("kubectl")).unwrap(),
            None => executable(&bin.join("kubectl"), "#!/bin/sh\nexec orch kubectl \"$@\"\n"),
        }
        let path = format!("{}:{}:/usr/sbin:/sbin", bin.display(), std::env::var("PATH").unwrap_or_default());
        Hosts { seats, hosts, image: image(), path, lan }
    }

    /// What there is lacking for a bed.
    pub fn missing() -> Option<String> {
        super::missing(&[host::TOOLS, TOOLS].concat())
    }

    fn finish(&self, mut command: Command, script: &str) -> (i32, String) {
        command.args(["-euc", script]).env("PATH", &self.path).env("KUBECONFIG", "/etc/orch/orch.yaml").env("IMAGE", &self.image);
        let output = command.output().unwrap();
        let code = output.status.code().unwrap_or(-1);
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if code != 0 {
            text.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        (code, text)
    }
}

impl Bed for Hosts {
    fn hosts(&self) -> &[Seat] {
        &self.seats
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(90)
    }

    fn run(&self, place: Place, limit: Duration, script: &str) -> (i32, String) {
        match place {
            Place::Host(number) => {
                let host = &self.hosts[number];
                let mut command = host.limited(limit, "bash");
                command.env("ORCH_DATA_DIR", host.dir.join("data"));
                self.finish(command, script)
            }
            Place::Outside => self.lan.inside(|| {
                let mut command = Command::new("timeout");
                command.args(["-k", "1", &limit.as_secs_f64().to_string(), "bash"]);
                self.finish(command, script)
            }),
        }
    }
}

/// An archive of the image `busybox:1`, made once for all tests.
fn image() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox.tar");
    let lock = fs::File::create(path.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !path.exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/busybox.sh");
        let new = path.with_extension("new");
        checked("busybox.sh", Command::new("bash").arg(script).arg(&new).output().unwrap());
        fs::rename(new, &path).unwrap();
    }
    path
}

fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
