//! A bed: hosts that scenarios run on, whatever they are made of.
//!
//! A scenario does everything by shell scripts on the hosts. There, `orch`, `kubectl` and `busybox` are programs, `KUBECONFIG` and
//! `ORCH_DATA_DIR` are set, `$HOME` is a directory for logs, and `$IMAGE` an archive of the image `busybox:1`.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::eventually;

/// A host, as the others see it.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its name, which becomes its node's.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Where a script runs.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// On a host, by its number.
    Host(usize),
    /// On what the hosts reach and which is no node.
    Outside,
}

/// The host that the server is on.
pub const SERVER: Place = Place::Host(0);

/// See the module.
pub trait Bed {
    /// All hosts; the server's is the first.
    fn hosts(&self) -> &[Seat];

    /// How long anything may take here.
    fn patience(&self) -> Duration;

    /// Runs a script that may take so long: its exit code, and what it prints on standard output; what it prints on standard error too,
    /// if it fails.
    fn run(&self, place: Place, limit: Duration, script: &str) -> (i32, String);

    /// Runs a script to its success; its standard output.
    fn sh(&self, place: Place, script: &str) -> String {
        let (code, text) = self.run(place, self.patience(), script);
        assert!(code == 0, "{place:?}: exit code {code} of\n{script}\n{text}");
        text
    }

    /// Starts a command that goes on when this returns; its output is added to `$HOME/NAME.log`.
    fn start(&self, place: Place, name: &str, command: &str) {
        self.sh(place, &format!("setsid sh -c 'exec {command}' >>$HOME/{name}.log 2>&1 </dev/null &"));
    }

    /// Repeats a script until it prints this.
    fn says(&self, place: Place, script: &str, wanted: &str) {
        self.until(place, script, |text| text == wanted);
    }

    /// Repeats a script until it succeeds and prints what is wanted; what it printed.
    fn until(&self, place: Place, script: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(self.patience(), script, || match self.run(place, self.patience(), script) {
            (0, text) if wanted(&text) => Ok(text),
            (code, text) => Err(format!("exit code {code}, printed {text:?}")),
        })
    }

    /// A kubectl command on the server's host, to its success; its standard output.
    fn kubectl(&self, arguments: &str) -> String {
        self.sh(SERVER, &format!("kubectl {arguments}"))
    }

    /// Writes objects, as apply does.
    fn apply(&self, yaml: &str) {
        self.sh(SERVER, &format!("kubectl apply -f - <<'END_OF_OBJECTS'\n{yaml}\nEND_OF_OBJECTS"));
    }
}

/// Shows the hosts' logs if the scenario that holds this fails.
pub struct Logs<'a, B: Bed>(pub &'a B);

impl<B: Bed> Drop for Logs<'_, B> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (number, seat) in self.0.hosts().iter().enumerate() {
            // A bed whose host is gone must not hide why the scenario failed.
            let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.0.run(Place::Host(number), Duration::from_secs(20), "tail -n 60 $HOME/*.log")
            }));
            eprintln!("---- {}'s logs\n{}", seat.name, shown.map_or_else(|_| "lost".into(), |(_, text)| text));
        }
    }
}
