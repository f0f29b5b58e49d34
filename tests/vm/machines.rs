//! The bed of virtual machines: two that are to be nodes, each on a link of its own, and a third between them, which routes and is
//! what is outside. No route leads further.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::machine::{Machine, Parts, Wiring};
use crate::support::bed::{Bed, Place, Seat};
use crate::support::step;

/// Names and addresses. The links are 10.97.N.0/24, and the router is 10.97.N.1 on each.
const NODES: [(&str, [u8; 4]); 2] = [("vm-a", [10, 97, 0, 2]), ("vm-b", [10, 97, 1, 2])];

/// See the module.
pub struct Machines {
    seats: Vec<Seat>,
    machines: Vec<Mutex<Machine>>,
    router: Mutex<Machine>,
    _dir: tempfile::TempDir,
}

impl Machines {
    /// Boots all three.
    pub fn boot() -> Machines {
        let parts = Parts::build();
        let dir = tempfile::tempdir().unwrap();
        let link = |number: usize| dir.path().join(format!("link{number}"));
        let links = [0, 1].map(|number| (link(number), format!("10.97.{number}.1/24")));
        let wiring = Wiring { links: links.to_vec(), listens: true, routes: String::new() };
        let router = Machine::start(&parts, dir.path(), "router", 256, &wiring);
        let started = NODES.iter().enumerate().map(|(number, (name, address))| {
            let seat = Seat { name: (*name).into(), address: (*address).into() };
            let links = vec![(link(number), format!("{}/24", seat.address))];
            let wiring = Wiring { links, listens: false, routes: format!("10.97.{}.0/24,10.97.{number}.1", 1 - number) };
            let machine = Machine::start(&parts, dir.path(), name, 1536, &wiring);
            (seat, machine)
        });
        let (seats, mut machines): (Vec<Seat>, Vec<Machine>) = started.unzip();
        let mut router = router;
        for machine in machines.iter_mut().chain([&mut router]) {
            machine.booted();
        }
        let bed = Machines { seats, machines: machines.into_iter().map(Mutex::new).collect(), router: Mutex::new(router), _dir: dir };
        bed.sh(Place::Host(1), &format!("ping -c 1 -W 20 {}", bed.seats[0].address));
        step("the machines reach each other");
        bed
    }
}

impl Bed for Machines {
    fn hosts(&self) -> &[Seat] {
        &self.seats
    }

    fn patience(&self) -> Duration {
        // Without acceleration, a debug build, and beside other tests.
        Duration::from_secs(300)
    }

    fn run(&self, place: Place, limit: Duration, script: &str) -> (i32, String) {
        let machine = match place {
            Place::Host(number) => &self.machines[number],
            Place::Outside => &self.router,
        };
        machine.lock().unwrap_or_else(PoisonError::into_inner).run(limit, script)
    }
}
