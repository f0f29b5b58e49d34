//! A virtual machine: qemu without acceleration, Debian's cloud kernel, pure cgroup v2, links that are sockets, and no way out.
//!
//! It is driven over a serial line: see `init.sh`. Everything in it is gone when it is dropped; its disk is only read.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How long a machine may take to boot, without acceleration and beside others.
const BOOT: Duration = Duration::from_secs(180);
/// Names another executable to test than the one that cargo built: one of the profile `quick` shows better figures.
const OTHER: &str = "ORCH_VM_EXECUTABLE";

/// What the machines boot, made once for all of them.
pub struct Parts {
    kernel: PathBuf,
    first: PathBuf,
    disk: PathBuf,
}

impl Parts {
    /// Builds them around the executable under test.
    pub fn build() -> Parts {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let out = root.join("target/vm");
        let executable = std::env::var(OTHER).unwrap_or_else(|_| env!("CARGO_BIN_EXE_orch").into());
        let built = Command::new(root.join("tests/vm/build.sh")).arg(executable).arg(&out).status().unwrap();
        assert!(built.success(), "tests/vm/build.sh: {built}");
        Parts { kernel: out.join("kernel/vmlinuz"), first: out.join("first.cpio"), disk: out.join("disk.img") }
    }
}

/// How a machine is connected.
pub struct Wiring {
    /// The socket of each link, and the machine's address there; `eth0` is the first. With more than one, it forwards.
    pub links: Vec<(PathBuf, String)>,
    /// Whether it makes the sockets.
    pub listens: bool,
    /// `RANGE,GATEWAY` of its route, if it has one.
    pub routes: String,
}

/// See the module.
pub struct Machine {
    name: String,
    qemu: Child,
    line: BufReader<UnixStream>,
    console: PathBuf,
    started: Instant,
}

impl Machine {
    /// Starts one with so many megabytes.
    pub fn start(parts: &Parts, dir: &Path, name: &str, memory: u32, wiring: &Wiring) -> Machine {
        let (serial, console) = (dir.join(format!("{name}.serial")), dir.join(format!("{name}.console")));
        let addresses: Vec<&str> = wiring.links.iter().map(|(_, address)| address.as_str()).collect();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-nographic", "-no-reboot", "-monitor", "none"]);
        qemu.arg("-m").arg(memory.to_string());
        qemu.arg("-kernel").arg(&parts.kernel).arg("-initrd").arg(&parts.first);
        let (addresses, route) = (addresses.join(","), &wiring.routes);
        qemu.arg("-append")
            .arg(format!("console=ttyS0 quiet panic=-1 orch.name={name} orch.addresses={addresses} orch.route={route} orch.end"));
        qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,snapshot=on", parts.disk.display()));
        let listens = if wiring.listens { "on" } else { "off" };
        for (number, (link, address)) in wiring.links.iter().enumerate() {
            let octets: Vec<u8> = address.split(['.', '/']).filter_map(|part| part.parse().ok()).collect();
            qemu.arg("-netdev").arg(format!("stream,id=n{number},server={listens},addr.type=unix,addr.path={}", link.display()));
            let mac = format!("52:54:00:00:{:02x}:{:02x}", octets[2], octets[3]);
            qemu.arg("-device").arg(format!("virtio-net-pci,netdev=n{number},mac={mac}"));
        }
        qemu.arg("-serial").arg(format!("file:{}", console.display()));
        qemu.arg("-serial").arg(format!("unix:{},server=on,wait=on", serial.display()));
        qemu.stdin(Stdio::null()).stdout(Stdio::null());
        let qemu = qemu.spawn().unwrap();
        let started = Instant::now();
        let stream = loop {
            match UnixStream::connect(&serial) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > BOOT => panic!("{name}: no serial line: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        Machine { name: name.into(), qemu, line: BufReader::new(stream), console, started }
    }

    /// Waits until it takes requests.
    pub fn booted(&mut self) {
        let ready = self.answer(BOOT);
        assert!(ready.ends_with("ready"), "{} says {ready:?}", self.name);
        eprintln!("== {} booted in {:?}", self.name, self.started.elapsed());
    }

    fn answer(&mut self, limit: Duration) -> String {
        self.line.get_ref().set_read_timeout(Some(limit)).unwrap();
        let mut text = String::new();
        if let Err(error) = self.line.read_line(&mut text) {
            let console = std::fs::read(&self.console).unwrap_or_default();
            panic!("{} gave no answer within {limit:?}: {error}; its console:\n{}", self.name, String::from_utf8_lossy(&console));
        }
        text.trim().to_owned()
    }

    /// Runs a shell script that may take so long: its exit code, and its output as a bed gives it.
    pub fn run(&mut self, limit: Duration, script: &str) -> (i32, String) {
        writeln!(self.line.get_ref(), "{}", STANDARD.encode(script)).unwrap();
        let answer = self.answer(limit);
        let (text, code) = answer.rsplit_once(' ').unwrap_or(("", &answer));
        let text = STANDARD.decode(text).unwrap_or_else(|error| panic!("{}: {error} in {answer:?}", self.name));
        (code.parse().unwrap(), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
