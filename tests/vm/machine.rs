//! A virtual machine: qemu without acceleration, Debian's cloud kernel, pure cgroup v2, one network link, and no way out.
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
        let built = Command::new(root.join("tests/vm/build.sh")).arg(env!("CARGO_BIN_EXE_orch")).arg(&out).status().unwrap();
        assert!(built.success(), "tests/vm/build.sh: {built}");
        Parts { kernel: out.join("kernel/vmlinuz"), first: out.join("first.cpio"), disk: out.join("disk.img") }
    }
}

/// See the module.
pub struct Machine {
    name: String,
    qemu: Child,
    line: BufReader<UnixStream>,
    console: PathBuf,
}

impl Machine {
    /// Boots one. `link` is a socket that two machines share; who is there first listens.
    pub fn boot(parts: &Parts, dir: &Path, name: &str, address: &str, link: &Path) -> Machine {
        let (serial, console) = (dir.join(format!("{name}.serial")), dir.join(format!("{name}.console")));
        let listens = if link.exists() { "off" } else { "on" };
        let number = address.split('/').next().and_then(|ip| ip.rsplit('.').next()).unwrap();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536", "-nographic", "-no-reboot", "-monitor", "none"]);
        qemu.arg("-kernel").arg(&parts.kernel).arg("-initrd").arg(&parts.first);
        qemu.arg("-append").arg(format!("console=ttyS0 quiet panic=-1 orch.name={name} orch.address={address}"));
        qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,snapshot=on", parts.disk.display()));
        qemu.arg("-netdev").arg(format!("stream,id=n0,server={listens},addr.type=unix,addr.path={}", link.display()));
        qemu.arg("-device").arg(format!("virtio-net-pci,netdev=n0,mac=52:54:00:00:00:{:02x}", number.parse::<u8>().unwrap()));
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
        let mut machine = Machine { name: name.into(), qemu, line: BufReader::new(stream), console };
        let ready = machine.answer(BOOT);
        assert!(ready.ends_with("ready"), "{name} says {ready:?}");
        eprintln!("== {name} booted in {:?}", started.elapsed());
        machine
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

    /// Runs a shell script that may take so long: its exit code and output.
    pub fn run(&mut self, limit: Duration, script: &str) -> (i32, String) {
        writeln!(self.line.get_ref(), "{}", STANDARD.encode(script)).unwrap();
        let answer = self.answer(limit);
        let (text, code) = answer.rsplit_once(' ').unwrap_or(("", &answer));
        let text = STANDARD.decode(text).unwrap_or_else(|error| panic!("{}: {error} in {answer:?}", self.name));
        (code.parse().unwrap(), String::from_utf8_lossy(&text).into_owned())
    }

    /// The same, which must succeed.
    pub fn sh(&mut self, limit: Duration, script: &str) -> String {
        let (code, text) = self.run(limit, script);
        assert!(code == 0, "{}: exit code {code} of\n{script}\n{text}", self.name);
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (_, log) =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run(Duration::from_secs(10), "tail -n 60 /tmp/*.log")))
                    .unwrap_or_default();
            eprintln!("---- {}'s logs\n{log}", self.name);
        }
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
