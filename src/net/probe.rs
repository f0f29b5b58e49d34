//! Whether this kernel can do what the node's network needs, by doing it in a network namespace that is gone afterwards.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::Ipv4Net;

use super::link::Links;
use super::nft::Table;
use super::nft::rules::Layout;
use super::peers::mac;
use super::{Forward, Forwards, HostPort, Masquerade, Protocol};

/// One thing that is needed.
#[derive(Debug)]
pub struct Finding {
    /// Such as `vxlan`.
    pub what: &'static str,
    /// Kernel modules that bring it.
    pub modules: &'static str,
    /// Why it can't be done, if it can't.
    pub result: io::Result<()>,
}

/// Tries everything, on a thread of its own. The error is that no namespace can be had.
pub fn probe() -> io::Result<Vec<Finding>> {
    let tried = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok(try_all())
    });
    tried.join().unwrap_or_else(|_| Err(io::Error::other("the thread that tried it panicked")))
}

fn try_all() -> Vec<Finding> {
    let finding = |what, modules, result| Finding { what, modules, result };
    vec![
        finding("bridge", "bridge", Links::here().and_then(|links| links.bridge("orch0", mac(GATEWAY), 1450)).map(drop)),
        finding("veth", "veth", veth()),
        finding("vxlan", "vxlan", Links::here().and_then(|links| links.vxlan("orch.vx", mac(GATEWAY), 1450, 1, 8472)).map(drop)),
        finding("nftables", "nf_tables nft_chain_nat nft_masq nft_numgen nft_fib_ipv4 nft_reject_ipv4 nft_ct", nftables()),
        finding("forwarding", "", std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")),
    ]
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 1);

fn veth() -> io::Result<()> {
    let links = Links::here()?;
    let bridge = links.find("orch0")?.map_or(0, |link| link.index);
    let path = PathBuf::from("/proc/thread-self/ns/net");
    links.veth("veth00000000000", bridge, "eth0", mac(GATEWAY), &std::fs::File::open(path)?, 1450)
}

/// A table with every kind of rule, set and map there is.
fn nftables() -> io::Result<()> {
    let net = |last: u8, prefix| Ipv4Net::new_assert(Ipv4Addr::new(10, last, 0, 0), prefix);
    let layout = Layout { cluster: net(42, 16), pods: net(42, 24), services: net(43, 16), own: vec![Ipv4Addr::new(10, 43, 0, 10)] };
    let to = |last| (IpAddr::from([10, 42, 0, last]), 80).into();
    let service = Forward {
        name: "default/probe".into(),
        protocol: Protocol::Tcp,
        addresses: vec![IpAddr::from([10, 43, 0, 7])],
        port: 80,
        node_port: Some(30080),
        endpoints: vec![to(2), to(3)],
        inside: Some(vec![to(2)]),
        masquerade: Masquerade::Always,
        affinity: None,
    };
    let refused =
        Forward { addresses: vec![IpAddr::from([10, 43, 0, 8])], node_port: None, endpoints: vec![], inside: None, ..service.clone() };
    let sticky = Forward { addresses: vec![IpAddr::from([10, 43, 0, 9])], node_port: None, affinity: Some(60), ..service.clone() };
    let host_port = HostPort { protocol: Protocol::Udp, address: None, port: 81, to: to(2) };
    Table::open()?.apply(&layout, &Forwards::of([service, refused, sticky], vec![host_port]))
}
