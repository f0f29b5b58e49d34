//! A program on a pseudo terminal, as a person at a window sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// See the module.
pub struct Terminal {
    master: File,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs a command as the leader of a session with a terminal of this many rows and columns.
    pub fn run(command: &Command, rows: u16, columns: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = || File::options().read(true).write(true).open(&path).unwrap();
        resize(&master, rows, columns);
        // setsid --ctty makes its standard input the controlling terminal.
        let mut leader = Command::new("setsid");
        leader.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        leader.env("TERM", "xterm");
        let child = leader.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        drop(leader);
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (master.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The master fails with EIO when the last slave is closed.
            while let Ok(len @ 1..) = reader.read(&mut buffer) {
                sink.lock().unwrap().extend(&buffer[..len]);
            }
        });
        Terminal { master, child, seen }
    }

    /// Changes the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
    }

    /// Types this.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until this is to be seen.
    pub fn expect(&self, text: &str) {
        super::eventually(Duration::from_secs(20), &format!("the terminal shows {text:?}"), || {
            let seen = self.text();
            if seen.contains(text) { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }

    /// All that was shown.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        super::eventually(Duration::from_secs(20), "the program on the terminal ends", || {
            self.child.try_wait().map_err(|e| e.to_string())?.ok_or_else(|| self.text())
        })
    }
}

fn resize(master: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
