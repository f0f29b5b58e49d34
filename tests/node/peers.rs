//! Pods of several nodes: two on one link, which reach each other by plain routes, and one behind a router, by VXLAN.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use orch::net::{Attachment, Forward, Forwards, HostPort, Masquerade, Net, NetConfig, Peers, Protocol};

use super::{Host, PATIENCE, node_port, possible, service};

/// Names, addresses and pod ranges of the nodes; the last is the far one.
const NODES: [(&str, &str, &str); 3] =
    [("a", "192.0.2.1", "10.42.0.0/24"), ("b", "192.0.2.2", "10.42.1.0/24"), ("c", "198.51.100.3", "10.42.2.0/24")];

struct Site {
    node: Host,
    net: Net,
    data: tempfile::TempDir,
    config: NetConfig,
}

impl Site {
    fn wait<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, job: impl FnOnce(Net) -> F) -> T {
        self.node.wait(job(self.net.clone()))
    }

    fn peers(&self, peers: Peers) {
        self.wait(|net| async move { net.peers(peers).await }).unwrap();
    }

    fn pod(&self, name: &'static str) -> (Host, Ipv4Addr) {
        let pod = Host::new();
        let tid = pod.tid;
        let Attachment { address, .. } = self.wait(|net| async move { net.attach(name, tid).await }).unwrap();
        pod.serve(name, 8080);
        (pod, address)
    }

    fn forward(&self, services: Vec<Forward>, host_ports: Vec<HostPort>) {
        self.wait(|net| async move { net.forward(Forwards::of(services, host_ports)).await }).unwrap();
    }

    /// All that is there for other nodes.
    fn ways(&self) -> String {
        let routes = self.node.sh("ip route show proto 110");
        let rest = ["bridge fdb show dev orch.vx", "ip neigh show dev orch.vx", "ip -d link show dev orch.vx", "ip address show dev orch0"];
        // What ages or counts is no part of it.
        let rest = rest.map(|command| self.node.sh(command).split("gc_timer").next().unwrap_or_default().to_owned());
        format!("{routes}{}", rest.join(""))
    }
}

/// The nodes, the world between them, and nothing else. `None`, with the reason printed, where it can't be.
fn sites(mtu: u32) -> Option<(Host, Vec<Site>)> {
    sites_with(mtu, &[])
}

/// The same; these nodes use VXLAN always.
fn sites_with(mtu: u32, always: &[&str]) -> Option<(Host, Vec<Site>)> {
    if !possible() {
        return None;
    }
    let world = Host::new();
    for (link, address) in [("near", "192.0.2.254/24"), ("far", "198.51.100.254/24")] {
        world.sh(&format!("ip link add {link} mtu {mtu} type bridge"));
        world.sh(&format!("ip address add {address} dev {link}"));
        world.sh(&format!("ip link set {link} up"));
    }
    world.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    let site = |(name, address, pods): (&str, &str, &str)| {
        let node = Host::new();
        let (link, other, router) =
            if name == "c" { ("far", "192.0.2.0/24", "198.51.100.254") } else { ("near", "198.51.100.0/24", "192.0.2.254") };
        world.sh(&format!("ip link add port-{name} mtu {mtu} type veth peer name u0 mtu {mtu} netns /proc/{}/ns/net", node.tid));
        world.sh(&format!("ip link set port-{name} master {link} up"));
        for command in [format!("address add {address}/24 dev u0"), "link set u0 up".into(), format!("route add {other} via {router}")] {
            node.sh(&format!("ip {command}"));
        }
        let data = tempfile::tempdir().unwrap();
        let config = NetConfig {
            data_dir: data.path().to_owned(),
            pod_cidr: pods.parse().unwrap(),
            cluster_cidr: "10.42.0.0/16".parse().unwrap(),
            service_cidr: "10.43.0.0/16".parse().unwrap(),
            node_ip: address.parse().unwrap(),
            always_vxlan: always.contains(&name),
        };
        let net = node.wait(Net::open(config.clone())).unwrap();
        Site { node, net, data, config }
    };
    let sites = NODES.map(site).into();
    Some((world, sites))
}

/// All nodes but these.
fn others(without: &[&str]) -> Peers {
    let rows = NODES.iter().filter(|(name, ..)| !without.contains(name));
    Peers(rows.map(|(_, address, pods)| (pods.parse().unwrap(), address.parse().unwrap())).collect())
}

fn introduce(sites: &[Site]) {
    for (site, (name, ..)) in sites.iter().zip(NODES) {
        site.peers(others(&[name]));
    }
}

#[test]
fn pods_services_and_ports_across_nodes() {
    let Some((world, sites)) = sites(1500) else { return };
    introduce(&sites);
    let pods: Vec<(Host, Ipv4Addr)> = sites.iter().zip(NODES).map(|(site, (name, ..))| site.pod(name)).collect();
    let [a, b, c] = &pods[..] else { unreachable!() };
    for (from, from_ip) in &pods {
        for ((_, to), (name, ..)) in pods.iter().zip(NODES) {
            assert_eq!(from.ask(&format!("{to}:8080")).unwrap(), format!("{name} {from_ip}"), "pod to pod keeps the address");
        }
    }
    let from_node = |n: usize, to: &Ipv4Addr| sites[n].node.ask(&format!("{to}:8080")).unwrap();
    assert_eq!(from_node(0, &b.1), "b 192.0.2.1", "node to pod on its link");
    assert_eq!(from_node(0, &c.1), "c 10.42.0.0", "node to pod by VXLAN");
    assert_eq!(from_node(2, &a.1), "a 10.42.2.0");

    let everywhere = [a.1, b.1, c.1];
    for site in &sites {
        site.forward(vec![service(Protocol::Tcp, &everywhere), node_port(&everywhere)], vec![]);
    }
    assert_eq!(c.0.ask_often("10.43.0.7:80"), ["a", "b", "c"], "a Service is balanced over all nodes");
    assert_eq!(sites[2].node.ask_often("10.43.0.7:80"), ["a", "b", "c"], "for a node as well");
    for (_, address, _) in NODES {
        assert_eq!(world.ask_often(&format!("{address}:30080")), ["a", "b", "c"], "node port on every node");
        assert_eq!(a.0.ask_often(&format!("{address}:30080")), ["a", "b", "c"], "from pods too");
    }
    for (only, source) in [(c.1, "c 10.42.0.0"), (b.1, "b 192.0.2.1")] {
        sites[0].forward(vec![node_port(&[only])], vec![]);
        assert_eq!(world.ask("192.0.2.1:30080").unwrap(), source, "is masqueraded to another node's pod");
    }

    let local = |endpoints: &[Ipv4Addr]| Forward {
        inside: Some(everywhere.iter().map(|ip| SocketAddr::new((*ip).into(), 8080)).collect()),
        masquerade: Masquerade::Never,
        ..node_port(endpoints)
    };
    sites[0].forward(vec![local(&[])], vec![]);
    sites[2].forward(vec![local(&[c.1])], vec![]);
    assert_eq!(world.ask("198.51.100.3:30080").unwrap(), "c 198.51.100.254", "Local keeps the source");
    let dropped = world.ask("192.0.2.1:30080").unwrap_err();
    assert_eq!(dropped.kind(), std::io::ErrorKind::TimedOut, "and drops where no endpoint is");

    let port = HostPort { protocol: Protocol::Tcp, address: None, port: 8081, to: SocketAddr::new(c.1.into(), 8080) };
    sites[2].forward(vec![], vec![port]);
    assert_eq!(a.0.ask("198.51.100.3:8081").unwrap(), "c 192.0.2.1", "host port of another node, where pods are the node");
    world.serve("world", 7000);
    assert_eq!(c.0.ask("192.0.2.254:7000").unwrap(), "world 198.51.100.3", "pods leave with their node's address");
}

/// Sends so much from one pod to another, and returns how much arrived.
fn transfer(from: &Host, to: &Host, address: Ipv4Addr) -> usize {
    const SIZE: usize = 4 << 20;
    let (tell, told) = std::sync::mpsc::channel();
    let listener = to.run(move || TcpListener::bind(("0.0.0.0", 9000)).unwrap());
    std::thread::spawn(move || {
        let mut received = Vec::new();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_end(&mut received).unwrap();
        tell.send(received.len()).unwrap();
    });
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address.into(), 9000), PATIENCE).unwrap();
        stream.write_all(&vec![7; SIZE]).unwrap();
    });
    told.recv_timeout(Duration::from_secs(20)).unwrap() * 100 / SIZE
}

#[test]
fn packets_fit_whatever_the_link() {
    for mtu in [1500, 9000, 1400] {
        let Some((_world, sites)) = sites(mtu) else { return };
        introduce(&sites);
        let ((a, _), (c, c_ip)) = (sites[0].pod("a"), sites[2].pod("c"));
        assert!(a.sh("ip link show dev eth0").contains(&format!("mtu {} ", mtu - 50)), "{mtu}: {}", a.sh("ip link show dev eth0"));
        assert_eq!(transfer(&a, &c, c_ip), 100);
        // With a packet as large as may be, which none may cut.
        let snmp = || sites[0].node.run(|| std::fs::read_to_string("/proc/net/snmp").unwrap());
        let fragments = |text: String| {
            let mut ip =
                text.lines().filter(|line| line.starts_with("Ip:")).map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
            let (names, values) = (ip.next().unwrap(), ip.next().unwrap());
            values[names.iter().position(|name| name == "FragCreates").unwrap()].clone()
        };
        assert_eq!(fragments(snmp()), "0", "{mtu}");
    }
}

#[test]
fn a_node_that_went_leaves_nothing() {
    let Some((_world, sites)) = sites(1500) else { return };
    let a = &sites[0];
    a.node.sh("ip route add 10.42.9.0/24 via 192.0.2.2");
    let bare = a.ways();
    introduce(&sites);
    let all = a.ways();
    for part in ["10.42.1.0/24 via 192.0.2.2", "10.42.2.0/24 via 10.42.2.0 dev orch.vx", "0a:58:0a:2a:02:00 dst 198.51.100.3", "nolearning"]
    {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    a.peers(others(&["a", "c"]));
    assert!(!a.ways().contains("10.42.2.0") && a.ways().contains("192.0.2.2"), "{}", a.ways());
    a.peers(others(&["a", "b"]));
    assert!(!a.ways().contains("192.0.2.2") && a.ways().contains("198.51.100.3"), "{}", a.ways());
    a.peers(Peers::default());
    assert_eq!(a.ways(), bare);
    assert!(a.node.sh("ip route").contains("10.42.9.0/24 via 192.0.2.2"), "routes of others are theirs");
}

#[test]
fn always_by_vxlan() {
    for always in [&["a", "b", "c"][..], &["a"]] {
        let Some((_world, sites)) = sites_with(1500, always) else { return };
        introduce(&sites);
        let pods: Vec<(Host, Ipv4Addr)> = sites.iter().zip(NODES).map(|(site, (name, ..))| site.pod(name)).collect();
        let ways = sites[0].ways();
        for part in ["10.42.1.0/24 via 10.42.1.0 dev orch.vx", "0a:58:0a:2a:01:00 dst 192.0.2.2"] {
            assert!(ways.contains(part), "{part} is not in\n{ways}");
        }
        // Also while only some do: nodes learn it one after the other.
        for (from, from_ip) in &pods {
            for ((_, to), (name, ..)) in pods.iter().zip(NODES) {
                assert_eq!(from.ask(&format!("{to}:8080")).unwrap(), format!("{name} {from_ip}"), "{always:?}");
            }
        }
        assert_eq!(sites[0].node.ask(&format!("{}:8080", pods[1].1)).unwrap(), "b 10.42.0.0", "a node on the same link");
    }
}

#[test]
fn restart_and_repair() {
    let Some((_world, mut sites)) = sites(1500) else { return };
    introduce(&sites);
    let ((pod, pod_ip), (_c, c_ip)) = (sites[0].pod("a"), sites[2].pod("c"));
    let before = sites[0].ways();
    let reaches = |site: &Site| {
        assert_eq!(pod.ask(&format!("{c_ip}:8080")).unwrap(), format!("c {pod_ip}"));
        assert_eq!(site.ways(), before);
    };
    sites[0].net = sites[0].node.wait(Net::open(sites[0].config.clone())).unwrap();
    reaches(&sites[0]);
    sites[0].peers(others(&["a"]));
    reaches(&sites[0]);

    let a = &sites[0];
    let (net, tid) = (a.net.clone(), a.node.tid);
    // Somebody breaks what there is; the node is told, and mends it.
    for (what, commands) in [
        ("the link was down", "ip link set u0 down; ip link set u0 up; ip route replace 198.51.100.0/24 via 192.0.2.254"),
        ("the device is gone", "ip link delete orch.vx"),
        ("a route is gone", "ip route delete 10.42.2.0/24"),
        ("a route leads elsewhere", "ip route replace 10.42.2.0/24 via 192.0.2.2 proto 110"),
    ] {
        let net = net.clone();
        a.node.wait(async move {
            let mut changes = net.changes().unwrap();
            let broken =
                std::process::Command::new("nsenter").arg(format!("--net=/proc/{tid}/ns/net")).args(["sh", "-ec", commands]).status();
            assert!(broken.unwrap().success(), "{commands}");
            tokio::time::timeout(PATIENCE, changes.next()).await.unwrap().unwrap();
            net.refresh().await.unwrap();
        });
        println!("{what}");
        let index =
            |ways: String| ways.lines().map(|line| line.split_once(": orch").map_or(line, |(_, rest)| rest).to_owned()).collect::<Vec<_>>();
        assert_eq!(index(a.ways()), index(before.clone()), "{what}");
        assert_eq!(pod.ask(&format!("{c_ip}:8080")).unwrap(), format!("c {pod_ip}"), "{what}");
    }

    let config = NetConfig { pod_cidr: "10.42.7.0/24".parse().unwrap(), ..sites[0].config.clone() };
    sites[0].net = sites[0].node.wait(Net::open(config)).unwrap();
    let moved = sites[0].ways();
    assert!(moved.contains("10.42.7.1/24") && !moved.contains("10.42.0.1/24"), "another range replaces the one before:\n{moved}");
    assert!(sites[0].data.path().join("leases.json").exists());
}

/// Whatever the kernel tells of links, addresses and routes is answered by a refresh: one that writes what is there already is told of that,
/// and never rests.
#[test]
fn what_is_right_is_not_written_again() {
    let Some((_world, sites)) = sites(1500) else { return };
    introduce(&sites);
    let a = &sites[0];
    // `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE`; the kernel tells of a change before the change returns.
    let told = a.node.run(|| {
        let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
        socket.bind(&netlink_sys::SocketAddr::new(0, 0x1 | 0x10 | 0x40)).unwrap();
        socket.set_non_blocking(true).unwrap();
        socket
    });
    let count = || std::iter::from_fn(|| told.recv_from_full().ok()).count();
    a.node.sh("ip link add marker type bridge");
    assert_ne!(count(), 0, "it is told of changes");
    a.wait(|net| async move { net.refresh().await }).unwrap();
    assert_eq!(count(), 0, "nothing is to be changed");
}

#[test]
fn a_thousand_nodes() {
    let Some((_world, sites)) = sites(1500) else { return };
    let nodes = |count: u32, last: Ipv4Addr| {
        let range = |n: u32| ipnet::Ipv4Net::new_assert(Ipv4Addr::from_bits(0x0a80_0000 + (n << 8)), 24);
        // Half of them on the link, half behind the router.
        let address = |n: u32| Ipv4Addr::from_bits(if n.is_multiple_of(2) { 0xc000_0203 + n % 200 } else { 0xcb00_7100 + n });
        Peers((0..count).map(|n| (range(n), if n + 1 == count { last } else { address(n) })).collect())
    };
    let timed = |peers: Peers| {
        let start = std::time::Instant::now();
        sites[0].peers(peers);
        start.elapsed()
    };
    let all = timed(nodes(1000, Ipv4Addr::new(198, 51, 100, 3)));
    let one = timed(nodes(1000, Ipv4Addr::new(198, 51, 100, 4)));
    println!("1000 nodes: {all:?}; one change among them: {one:?}");
    assert_eq!(sites[0].node.sh("ip route show proto 110").lines().count(), 1000);
    assert!(sites[0].ways().contains("dst 198.51.100.4") && !sites[0].ways().contains("dst 198.51.100.3"));
    sites[0].peers(Peers::default());
    assert_eq!(sites[0].node.sh("ip route show proto 110"), "");
}
