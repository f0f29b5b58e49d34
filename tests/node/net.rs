//! The node's network, for real: every host and pod is a thread in a network namespace of its own, so nothing touches the machine's network
//! and nothing outlives the process. Needs root and `ip`; `nft` only to look at the result.

#![allow(clippy::unwrap_used)]

mod peers;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use orch::net::dns::{Part, Record, Server, Zone};
use orch::net::{Attachment, Forward, Forwards, HostPort, Masquerade, Net, NetConfig, Protocol};

const PATIENCE: Duration = Duration::from_secs(3);
const NODE: &str = "192.0.2.1";

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
struct Host {
    jobs: mpsc::Sender<Job>,
    tid: i32,
}

impl Host {
    fn new() -> Host {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let host = Host { jobs, tid: told.recv().unwrap() };
        host.sh("ip link set lo up");
        host
    }

    /// Runs this in the namespace.
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).unwrap();
        told.recv().expect("the job did not panic")
    }

    fn wait<T: Send + 'static>(&self, job: impl Future<Output = T> + Send + 'static) -> T {
        self.run(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(job))
    }

    fn sh(&self, command: &str) -> String {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// Answers TCP and UDP on a port with its name and who asks.
    fn serve(&self, name: &'static str, port: u16) {
        self.run(move || {
            let tcp = TcpListener::bind(("0.0.0.0", port)).unwrap();
            let udp = UdpSocket::bind(("0.0.0.0", port)).unwrap();
            std::thread::spawn(move || {
                for stream in tcp.incoming() {
                    let mut stream = stream.unwrap();
                    let peer = stream.peer_addr().unwrap().ip();
                    drop(stream.write_all(format!("{name} {peer}").as_bytes()));
                }
            });
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                loop {
                    let (_, peer) = udp.recv_from(&mut buffer).unwrap();
                    drop(udp.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer));
                }
            });
        });
    }

    /// Asks such a server over TCP.
    fn ask(&self, to: &str) -> io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// Asks often, and returns which servers answered.
    fn ask_often(&self, to: &str) -> Vec<String> {
        let mut names: Vec<String> = (0..40).map(|_| self.ask(to).unwrap().split(' ').next().unwrap().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn refused(&self, to: &str) -> bool {
        self.ask(to).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    }
}

fn udp_ask(socket: &UdpSocket, to: &str) -> io::Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(b"?", to)?;
    let mut buffer = [0; 64];
    let len = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

/// A node, the world beside it, and the node's data.
struct Lab {
    node: Host,
    world: Host,
    net: Net,
    data: tempfile::TempDir,
}

fn config(data: &tempfile::TempDir) -> NetConfig {
    NetConfig {
        data_dir: data.path().to_owned(),
        pod_cidr: "10.42.0.0/24".parse().unwrap(),
        cluster_cidr: "10.42.0.0/16".parse().unwrap(),
        service_cidr: "10.43.0.0/16".parse().unwrap(),
        node_ip: NODE.parse().unwrap(),
        always_vxlan: false,
    }
}

/// Whether this machine can do it at all; the reason is printed.
fn possible() -> bool {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root for network namespaces");
        return false;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        println!("skipped: needs `ip` (iproute2) to join the test's namespaces");
        return false;
    }
    true
}

impl Lab {
    /// `None`, with the reason printed, where it can't be.
    fn new() -> Option<Lab> {
        Lab::with_bridge_netfilter(None)
    }

    /// With br_netfilter in force or not, as some other program of the node may have decided.
    fn with_bridge_netfilter(in_force: Option<bool>) -> Option<Lab> {
        const BRIDGE_NETFILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        if in_force == Some(true) && !std::path::Path::new(BRIDGE_NETFILTER).exists() {
            println!("skipped: no br_netfilter in this kernel");
            return None;
        }
        if !possible() {
            return None;
        }
        let (node, world) = (Host::new(), Host::new());
        node.sh(&format!("ip link add u0 type veth peer name w0 netns /proc/{}/ns/net", world.tid));
        for command in ["ip addr add 192.0.2.1/24 dev u0", "ip link set u0 up"] {
            node.sh(command);
        }
        for command in ["ip addr add 192.0.2.2/24 dev w0", "ip link set w0 up"] {
            world.sh(command);
        }
        if let Some(in_force) = in_force {
            // Where it is missing it is not in force.
            node.run(move || drop(std::fs::write(BRIDGE_NETFILTER, if in_force { "1" } else { "0" })));
        }
        let data = tempfile::tempdir().unwrap();
        let config = config(&data);
        let net = node.wait(Net::open(config)).unwrap();
        Some(Lab { node, world, net, data })
    }

    fn attach(&self, id: &str, pod: &Host) -> Attachment {
        let (net, id, tid) = (self.net.clone(), id.to_owned(), pod.tid);
        self.node.wait(async move { net.attach(&id, tid).await }).unwrap()
    }

    /// A pod that answers on port 8080.
    fn pod(&self, name: &'static str) -> (Host, Ipv4Addr) {
        let pod = Host::new();
        let address = self.attach(name, &pod).address;
        pod.serve(name, 8080);
        (pod, address)
    }

    fn detach(&self, id: &str) {
        let (net, id) = (self.net.clone(), id.to_owned());
        self.node.wait(async move { net.detach(&id).await }).unwrap();
    }

    fn forward(&self, services: &[Forward]) {
        self.forward_all(services, &[]);
    }

    fn forward_all(&self, services: &[Forward], host_ports: &[HostPort]) {
        let (net, forwards) = (self.net.clone(), Forwards::of(services.to_vec(), host_ports.to_vec()));
        self.node.wait(async move { net.forward(forwards).await }).unwrap();
    }
}

/// A Service on 10.43.0.7 port 80.
fn service(protocol: Protocol, endpoints: &[Ipv4Addr]) -> Forward {
    Forward {
        name: "default/web:http".into(),
        protocol,
        addresses: vec![Ipv4Addr::new(10, 43, 0, 7).into()],
        port: 80,
        node_port: None,
        endpoints: endpoints.iter().map(|ip| SocketAddr::new((*ip).into(), 8080)).collect(),
        inside: None,
        masquerade: Masquerade::FromOutside,
        affinity: None,
    }
}

/// The same on node port 30080.
fn node_port(endpoints: &[Ipv4Addr]) -> Forward {
    let name = "default/web:http from outside".into();
    Forward { name, addresses: vec![], node_port: Some(30080), masquerade: Masquerade::Always, ..service(Protocol::Tcp, endpoints) }
}

#[test]
fn pods_services_and_node_ports() {
    for in_force in [false, true] {
        println!("br_netfilter in force: {in_force}");
        if let Some(lab) = Lab::with_bridge_netfilter(Some(in_force)) {
            check_pods_services_and_node_ports(&lab);
        }
    }
}

fn check_pods_services_and_node_ports(lab: &Lab) {
    let ((a, a_ip), (b, b_ip), (_c, c_ip)) = (lab.pod("a"), lab.pod("b"), lab.pod("c"));
    assert_eq!(a.ask(&format!("{b_ip}:8080")).unwrap(), format!("b {a_ip}"), "pod to pod keeps the address");
    assert_eq!(lab.node.ask(&format!("{b_ip}:8080")).unwrap(), "b 10.42.0.1", "node to pod");

    lab.forward(&[service(Protocol::Tcp, &[b_ip, c_ip]), node_port(&[b_ip, c_ip])]);
    assert_eq!(a.ask_often("10.43.0.7:80"), ["b", "c"], "a Service is balanced");
    assert!(a.ask("10.43.0.7:80").unwrap().ends_with(&format!(" {a_ip}")), "and shows the pod's address");
    assert_eq!(b.ask_often("10.43.0.7:80"), ["b", "c"], "a pod reaches itself through its Service");
    assert_eq!(lab.node.ask_often("10.43.0.7:80"), ["b", "c"], "the node reaches a Service without a default route");
    assert_eq!(lab.world.ask_often(&format!("{NODE}:30080")), ["b", "c"], "node port from outside");
    assert!(lab.world.ask(&format!("{NODE}:30080")).unwrap().ends_with(" 10.42.0.1"), "is masqueraded");
    assert_eq!(b.ask_often(&format!("{NODE}:30080")), ["b", "c"], "node port from a pod");
    assert_eq!(lab.node.ask_often(&format!("{NODE}:30080")), ["b", "c"], "node port from the node");
    assert!(a.refused("10.43.0.7:81"), "another port of a Service's address");

    lab.forward(&[service(Protocol::Tcp, &[]), node_port(&[])]);
    assert!(a.refused("10.43.0.7:80") && lab.node.refused("10.43.0.7:80"), "without endpoints it is refused");
    assert!(lab.world.refused(&format!("{NODE}:30080")), "on the node port as well");

    lab.forward(&[service(Protocol::Tcp, &[c_ip])]);
    assert_eq!(a.ask_often("10.43.0.7:80"), ["c"], "and there again with the next endpoint");
}

#[test]
fn local_traffic_policy_keeps_the_client() {
    let Some(lab) = Lab::new() else { return };
    let ((a, a_ip), (_b, b_ip)) = (lab.pod("a"), lab.pod("b"));
    let local = Forward { inside: Some(vec![SocketAddr::new(a_ip.into(), 8080)]), masquerade: Masquerade::Never, ..node_port(&[b_ip]) };
    lab.forward(&[local]);
    assert_eq!(lab.world.ask(&format!("{NODE}:30080")).unwrap(), "b 192.0.2.2");
    assert_eq!(a.ask(&format!("{NODE}:30080")).unwrap(), "a 10.42.0.1", "inside clients go elsewhere, here to themselves");
    assert!(lab.node.ask(&format!("{NODE}:30080")).unwrap().starts_with("a "), "and so does the node");
}

#[test]
fn host_ports_and_the_way_out() {
    let Some(lab) = Lab::new() else { return };
    let ((a, a_ip), (_b, b_ip)) = (lab.pod("a"), lab.pod("b"));
    let port = |address, port, ip: Ipv4Addr| HostPort { protocol: Protocol::Tcp, address, port, to: SocketAddr::new(ip.into(), 8080) };
    lab.forward_all(&[], &[port(None, 8081, a_ip), port(Some(NODE.parse().unwrap()), 8082, b_ip)]);
    assert_eq!(lab.world.ask(&format!("{NODE}:8081")).unwrap(), "a 192.0.2.2");
    assert_eq!(lab.world.ask(&format!("{NODE}:8082")).unwrap(), "b 192.0.2.2");
    assert_eq!(a.ask(&format!("{NODE}:8081")).unwrap(), "a 10.42.0.1", "a pod reaches its own host port");
    lab.world.serve("world", 7000);
    assert_eq!(a.ask("192.0.2.2:7000").unwrap(), "world 192.0.2.1", "pods leave with the node's address");
}

#[test]
fn udp_flows_follow_the_endpoints() {
    let Some(lab) = Lab::new() else { return };
    let ((a, a_ip), (_b, b_ip), (_c, c_ip)) = (lab.pod("a"), lab.pod("b"), lab.pod("c"));
    let socket = std::sync::Arc::new(a.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()));
    let ask = || {
        let socket = std::sync::Arc::clone(&socket);
        a.run(move || udp_ask(&socket, "10.43.0.7:80")).unwrap()
    };
    lab.forward(&[service(Protocol::Udp, &[b_ip])]);
    assert_eq!(ask(), format!("b {a_ip}"));
    lab.forward(&[service(Protocol::Udp, &[c_ip])]);
    assert_eq!(ask(), format!("c {a_ip}"), "the same socket, after its endpoint went");
}

#[test]
fn affinity() {
    let Some(lab) = Lab::new() else { return };
    let ((a, _), (_b, b_ip), (_c, c_ip)) = (lab.pod("a"), lab.pod("b"), lab.pod("c"));
    let sticky = |endpoints: &[Ipv4Addr]| Forward { affinity: Some(60), ..service(Protocol::Tcp, endpoints) };
    lab.forward(&[sticky(&[b_ip, c_ip])]);
    let first = a.ask_often("10.43.0.7:80");
    assert_eq!(first.len(), 1, "one client stays with one endpoint");
    let other = if first == ["b"] { ("c", c_ip) } else { ("b", b_ip) };
    lab.forward(&[sticky(&[other.1])]);
    assert_eq!(a.ask_often("10.43.0.7:80"), [other.0], "until it goes");
}

#[test]
fn restart_detach_and_what_is_left() {
    let Some(mut lab) = Lab::new() else { return };
    let nft = Command::new("nft").arg("--version").output().is_ok();
    if nft {
        lab.node.sh("nft add table ip foreign");
        lab.node.sh("nft add chain ip foreign keep");
    } else {
        println!("not looked at: the tables themselves, for want of `nft`");
    }
    let ((a, a_ip), (b, b_ip)) = (lab.pod("a"), lab.pod("b"));
    lab.forward(&[service(Protocol::Tcp, &[a_ip, b_ip])]);

    let config = config(&lab.data);
    lab.net = lab.node.wait(Net::open(config)).unwrap();
    assert_eq!(lab.attach("b", &b).address, b_ip, "the same address after a restart");
    assert_eq!(a.ask(&format!("{b_ip}:8080")).unwrap(), format!("b {a_ip}"), "and the pod is where it was");
    lab.forward(&[service(Protocol::Tcp, &[b_ip])]);
    assert_eq!(a.ask_often("10.43.0.7:80"), ["b"]);
    if nft {
        let table = lab.node.sh("nft list table ip orch");
        assert_eq!(table.matches("chain address-to-").count(), 1, "no chain is left from before:\n{table}");
    }

    if nft {
        lab.node.sh("nft delete table ip orch");
        lab.forward(&[service(Protocol::Tcp, &[a_ip])]);
        assert_eq!(b.ask_often("10.43.0.7:80"), ["a"], "a table somebody removed is made again");
    }

    lab.detach("a");
    lab.detach("a");
    let net = lab.net.clone();
    lab.node.wait(async move { net.retain(&[]).await }).unwrap();
    let links = lab.node.sh("ip -o link show");
    assert!(!links.contains("veth"), "{links}");
    lab.forward(&[]);
    if nft {
        let table = lab.node.sh("nft list table ip orch");
        assert!(!table.contains("-to-") && !table.contains("elements"), "{table}");
        assert!(lab.node.sh("nft list table ip foreign").contains("chain keep"), "tables of others are theirs");
    }
    let again = Host::new();
    let ip = lab.attach("later", &again).address;
    assert!(ip != a_ip && ip != b_ip, "freed addresses rest");
}

#[test]
fn many_services_change_fast() {
    let Some(lab) = Lab::new() else { return };
    let (a, _) = lab.pod("a");
    let (_b, b_ip) = lab.pod("b");
    let many = |last: &[Ipv4Addr]| -> Vec<Forward> {
        (0..3000u16)
            .map(|n| {
                let [high, low] = (n + 256).to_be_bytes();
                let endpoints = if n == 2999 { last } else { &[b_ip][..] };
                let addresses = vec![Ipv4Addr::new(10, 43, high, low).into()];
                Forward { name: format!("default/s{n}:http"), addresses, ..service(Protocol::Tcp, endpoints) }
            })
            .collect()
    };
    let start = std::time::Instant::now();
    lab.forward(&many(&[]));
    let all = start.elapsed();
    assert!(a.refused("10.43.12.183:80"));
    let start = std::time::Instant::now();
    lab.forward(&many(&[b_ip]));
    println!("3000 Services: {all:?}; one change among them: {:?}", start.elapsed());
    assert!(a.ask("10.43.12.183:80").unwrap().starts_with('b'));
    assert!(a.ask("10.43.1.0:80").unwrap().starts_with('b'));
}

#[test]
fn dns_for_pods() {
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::{Name, RecordType};

    let Some(lab) = Lab::new() else { return };
    let (a, _) = lab.pod("a");
    let (mut zone, mut part) = (Zone::new("cluster.local"), Part::default());
    for n in 0..100 {
        part.add("many.default.svc", Record::A(Ipv4Addr::new(10, 42, 0, n)));
    }
    part.add("web.default.svc", Record::A(Ipv4Addr::new(10, 43, 0, 7)));
    zone.add(&part);
    let net = lab.net.clone();
    let (tell, told) = mpsc::channel();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let stop = shutdown.clone();
    let server = lab.node.run(move || {
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
                let own = Ipv4Addr::new(10, 43, 0, 10);
                net.own(own).await.unwrap();
                let listen = [SocketAddr::new(own.into(), 53), SocketAddr::new(net.gateway().into(), 53)];
                let zone = std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(zone));
                let server = Server::bind(&listen, &[], zone).await.unwrap();
                tell.send(()).unwrap();
                server.run(stop).await;
            });
        })
    });
    told.recv().unwrap();
    // A Service that names the address does not take it away.
    lab.forward(&[Forward { addresses: vec![Ipv4Addr::new(10, 43, 0, 10).into()], port: 53, ..service(Protocol::Udp, &[]) }]);

    let query = |name: &str| {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        message.to_vec().unwrap()
    };
    let udp = |to: &'static str, bytes: Vec<u8>| {
        let answer = a.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(to).unwrap();
            socket.send(&bytes).unwrap();
            let mut buffer = vec![0; 4096];
            let len = socket.recv(&mut buffer).unwrap();
            buffer[..len].to_vec()
        });
        Message::from_vec(&answer).unwrap()
    };
    for server in ["10.43.0.10:53", "10.42.0.1:53"] {
        assert_eq!(udp(server, query("web.default.svc.cluster.local.")).answers.len(), 1, "{server}");
    }
    assert!(udp("10.43.0.10:53", query("many.default.svc.cluster.local.")).metadata.truncation);
    let whole = query("many.default.svc.cluster.local.");
    let answer = a.run(move || {
        let mut stream = TcpStream::connect("10.43.0.10:53").unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&(whole.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&whole).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut buffer = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut buffer).unwrap();
        buffer
    });
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 100);
    let code = udp("10.43.0.10:53", query("example.com.")).metadata.response_code;
    assert_eq!(code, hickory_proto::op::ResponseCode::ServFail, "no upstream is a failure, not an absence");
    shutdown.cancel();
    server.join().unwrap();
}
