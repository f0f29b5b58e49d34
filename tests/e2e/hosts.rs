//! The test bed itself: hosts reach each other and what is outside, nothing else, and can be cut off and moved.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::skip;
use crate::support::host::{self, Host};
use crate::support::lan::Lan;
use crate::support::{eventually, missing};

const PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers everybody with a name.
fn serve(name: String) {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(name.as_bytes());
        }
    });
}

fn ask(address: Ipv4Addr) -> Result<String, ErrorKind> {
    let patience = Duration::from_millis(500);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address.into(), PORT), patience).map_err(|e| e.kind())?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|e| e.kind())?;
    Ok(text)
}

fn reaches(from: &Host, address: Ipv4Addr, name: &str) {
    eventually(PATIENCE, &format!("{} reaches {name}", from.name), || {
        from.inside(|| ask(address)).map(|answer| assert_eq!(answer, name)).map_err(|e| e.to_string())
    });
}

#[test]
fn hosts_reach_each_other_and_nothing_else() {
    if let Some(reason) = missing(host::TOOLS) {
        skip!("{reason}");
    }
    let lan = Lan::new();
    let mut hosts = vec![lan.host(), lan.host(), lan.far_host()];
    let addresses: Vec<Ipv4Addr> = hosts.iter().map(Host::address).collect();
    assert_eq!(addresses, ["10.99.0.2", "10.99.0.3", "10.98.0.4"].map(|a| a.parse::<Ipv4Addr>().unwrap()));
    for host in &hosts {
        host.inside(|| serve(host.name.clone()));
        assert_eq!(host.sh("hostname").trim(), host.name);
        assert!(!host.sh("ip route").contains("default"));
    }
    lan.inside(|| serve("outside".into()));
    for from in &hosts {
        hosts.iter().for_each(|to| reaches(from, to.address(), &to.name));
        reaches(from, Ipv4Addr::new(10, 99, 0, 1), "outside");
        let beyond = from.inside(|| ask(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(beyond, Err(ErrorKind::NetworkUnreachable), "there is a way out of {}", from.name);
    }
    let beyond = lan.inside(|| ask(Ipv4Addr::new(192, 0, 2, 1)));
    assert_eq!(beyond, Err(ErrorKind::NetworkUnreachable), "there is a way out of the lan");

    hosts[1].cut();
    assert!(hosts[0].inside(|| ask(addresses[1])).is_err() && hosts[1].inside(|| ask(addresses[0])).is_err(), "it is cut off");
    reaches(&hosts[0], addresses[2], "node-c");
    hosts[1].heal();
    reaches(&hosts[0], addresses[1], "node-b");

    let moved = Ipv4Addr::new(10, 99, 0, 77);
    hosts[1].readdress(moved);
    reaches(&hosts[0], moved, "node-b");
    reaches(&hosts[1], addresses[2], "node-c");
    assert!(hosts[0].inside(|| ask(addresses[1])).is_err(), "nobody is at the old address");
}
