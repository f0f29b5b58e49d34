"""Measures Services, names and the way between two nodes, and prints NAME VALUE lines. Started by benches/run on a private host.

Arguments: the executable, a directory, and the phases wanted (all without any): `services`, `dns`, `vxlan`.
"""

import ipaddress
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time

from server import DEADLINE, Server

NODE = "10.99.0.2"
ENDPOINTS = 5
CHANGES = 21
FIRST = ipaddress.ip_address("10.42.1.0")
NAMES = 1000
DNS_SECONDS = 5
VXLAN_SECONDS = 3


def listen(text):
    """Answers every connection with a text; its port."""
    listener = socket.create_server((NODE, 0), backlog=1024)

    def serve():
        while True:
            connection, _ = listener.accept()
            connection.sendall(text)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def ask(address):
    """What is answered there now, or nothing."""
    try:
        with socket.create_connection((address, 80), timeout=0.2) as connection:
            return connection.recv(1)
    except OSError:
        return b""


def until(address, text, begun):
    """Seconds from then until this is what is answered."""
    while ask(address) != text:
        if time.monotonic() - begun > DEADLINE:
            sys.exit(f"{address} does not answer {text}")
    return time.monotonic() - begun


def slice_of(index, port):
    """Five endpoints; the one of Service 0 is real."""
    first = FIRST + index * ENDPOINTS
    addresses = [NODE] if index == 0 else [str(first + n) for n in range(ENDPOINTS)]
    return {
        "metadata": {"name": f"s{index}-x", "labels": {"kubernetes.io/service-name": f"s{index}"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


def create(server, count, port):
    """So many Services with their slices; the address of Service 0, which is created last."""
    addresses = {}
    pending = iter(range(count - 1, 0, -1))
    lock = threading.Lock()

    def one(index, connection):
        spec = {"ports": [{"port": 80, "targetPort": port}]}
        status, service = server.call("POST", "/api/v1/namespaces/default/services", {"metadata": {"name": f"s{index}"}, "spec": spec}, connection)
        assert status == 201, service
        addresses[index] = service["spec"]["clusterIP"]
        path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
        status, answer = server.call("POST", path, slice_of(index, port), connection)
        assert status == 201, answer

    def work():
        connection = server.connection()
        while True:
            with lock:
                index = next(pending, None)
            if index is None:
                return
            one(index, connection)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    one(0, server.connection())
    return addresses[0]


def change(server, count, ports):
    """One endpoint is moved from one port to the other and back: seconds from the request to the first new answer."""
    address = create(server, count, ports[0])
    until(address, b"0", time.monotonic())
    connection = server.connection()
    took = []
    for number in range(1, CHANGES + 1):
        time.sleep(0.1)
        body = json.dumps({"ports": [{"name": "", "port": ports[number % 2], "protocol": "TCP"}]})
        begun = time.monotonic()
        connection.request(
            "PATCH", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/s0-x", body=body, headers={"Content-Type": "application/merge-patch+json"}
        )
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        took.append(until(address, str(number % 2).encode(), begun))
    print(f"service_change_of_{count}_p50_ms {statistics.median(took) * 1000:.2f}")
    print(f"service_change_of_{count}_max_ms {max(took) * 1000:.2f}")
    return address


def ticks(pid):
    return sum(map(int, open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13])) / 100


def services(orch, folder):
    ports = [listen(b"0"), listen(b"1")]
    for count in [10, 10_000]:
        server = Server(orch, f"{folder}/services-{count}")
        server.wait_ready()
        server.log_in()
        server.wait_node()
        server.retry(lambda: server.call("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200)
        address = change(server, count, ports)
        server.stop()
        # Another process, the same store, no rules: the whole lot at once.
        subprocess.run(["nft", "delete", "table", "ip", "orch"], check=True)
        server.start()
        server.wait_ready()
        ready = server.since()
        print(f"service_load_of_{count}_ready_ms {ready * 1000:.0f}")
        print(f"service_load_of_{count}_live_ms {until(address, str(CHANGES % 2).encode(), server.begun) * 1000:.0f}", flush=True)
        print(f"service_load_of_{count}_cpu_seconds {ticks(server.process.pid):.2f}", flush=True)
        server.stop()


def flood(address, port, queries, pid):
    """Answers per second, answers per second of the answering process' CPU time, and the asker's share of its core: at 1 it is the asker that
    was measured. None is lost or wrong."""
    before, asker = ticks(pid), os.times()
    output = subprocess.run(
        ["taskset", "-c", "1", "dnsperf", "-s", address, "-p", str(port), "-d", queries, "-l", str(DNS_SECONDS), "-c", "16", "-q", "100"],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout
    values = dict(line.strip().split(":", 1) for line in output.splitlines() if ":" in line)
    assert "NOERROR" in values["Response codes"] and "100.00%" in values["Response codes"], output
    busy = ticks(pid) - before
    asked = os.times()
    share = (asked.children_user + asked.children_system - asker.children_user - asker.children_system) / DNS_SECONDS
    return float(values["Queries per second"]), float(values["Queries completed"].split()[0]) / busy, share


def dns(orch, folder):
    """The same names by each server, alone on one core; whoever asks is on the other."""
    pinned = ["taskset", "-c", "0"]
    server = Server(orch, f"{folder}/dns", pinned)
    server.wait_ready()
    server.log_in()
    server.wait_node()
    server.retry(lambda: server.call("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200)
    connection = server.connection()
    names = {}
    for index in range(NAMES):
        spec = {"ports": [{"port": 80}]}
        status, service = server.call("POST", "/api/v1/namespaces/default/services", {"metadata": {"name": f"s{index}"}, "spec": spec}, connection)
        assert status == 201, service
        names[f"s{index}.default.svc.cluster.local."] = service["spec"]["clusterIP"]
    queries = f"{folder}/queries"
    with open(queries, "w") as file:
        file.writelines(f"{name} A\n" for name in names)
    wait_for_name("10.43.0.10", 53, list(names)[-1])
    rates = {"orch": [], "unbound": [], "bind9": []}

    unbound = f"{folder}/unbound.conf"
    with open(unbound, "w") as file:
        file.write(f"""server:
  interface: {NODE}
  port: 5301
  num-threads: 1
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  logfile: "{folder}/unbound.log"
  access-control: 0.0.0.0/0 allow
  local-zone: "cluster.local." static
""")
        file.writelines(f'  local-data: "{name} 5 IN A {address}"\n' for name, address in names.items())
        file.write("remote-control:\n  control-enable: no\n")
    named = f"{folder}/named.conf"
    with open(named, "w") as file:
        file.write(f"""options {{
  directory "{folder}";
  pid-file none;
  listen-on port 5302 {{ {NODE}; }};
  listen-on-v6 {{ none; }};
  allow-query {{ any; }};
  recursion no;
  session-keyfile "{folder}/session.key";
}};
controls {{ }};
zone "cluster.local" {{ type primary; file "{folder}/zone"; }};
""")
    with open(f"{folder}/zone", "w") as file:
        file.write("$TTL 5\n@ IN SOA ns.cluster.local. host.cluster.local. 1 7200 1800 86400 5\n@ IN NS ns.cluster.local.\nns.cluster.local. IN A 10.43.0.10\n")
        file.writelines(f"{name} IN A {address}\n" for name, address in names.items())
    log = open(f"{folder}/peers.log", "wb")
    peers = [
        subprocess.Popen([*pinned, "unbound", "-c", unbound], stdout=log, stderr=log),
        subprocess.Popen([*pinned, "named", "-f", "-n", "1", "-c", named], stdout=log, stderr=log),
    ]
    try:
        for port in [5301, 5302]:
            wait_for_name(NODE, port, list(names)[-1])
        for _ in range(3):
            rates["orch"].append(flood("10.43.0.10", 53, queries, server.process.pid))
            rates["unbound"].append(flood(NODE, 5301, queries, peers[0].pid))
            rates["bind9"].append(flood(NODE, 5302, queries, peers[1].pid))
    finally:
        for peer in peers:
            peer.kill()
            peer.wait()
    server.stop()
    middle = {name: [statistics.median(column) for column in zip(*of)] for name, of in rates.items()}
    for name, (rate, per_cpu_second, asker) in middle.items():
        print(f"dns_{name}_rate {rate:.0f}")
        print(f"dns_{name}_per_cpu_second {per_cpu_second:.0f}")
        print(f"dns_{name}_asker_share {asker:.2f}")
    for peer in ["unbound", "bind9"]:
        print(f"dns_against_{peer}_ratio {middle['orch'][0] / middle[peer][0]:.2f}")
        print(f"dns_against_{peer}_per_cpu_second_ratio {middle['orch'][1] / middle[peer][1]:.2f}")


def wait_for_name(address, port, name):
    """Until it is answered with an address."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.strip(".").split("."))
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + labels + b"\x00\x00\x01\x00\x01"
    begun = time.monotonic()
    while time.monotonic() - begun < DEADLINE:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(0.2)
            try:
                asker.connect((address, port))
                asker.send(query)
                if asker.recv(512)[6:8] != b"\0\0":
                    return
            except OSError:
                pass
        time.sleep(0.01)
    sys.exit(f"{address}:{port} does not know {name}")


class Host:
    """A machine behind a router, which is the host that this runs on."""

    def __init__(self, name, net):
        here = os.path.dirname(os.path.abspath(__file__))
        script = '. "$0/../tests/support/isolate.sh"; isolate "$1" "$1"; echo ready; read; while read -r line; do eval "$line"; done'
        self.address = f"10.{net}.0.2"
        self.process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "bash", "-euc", script, here, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )
        assert self.process.stdout.readline() == "ready\n"
        self.enter = ["nsenter", "--net", "--mount", "--uts", f"--target={self.process.pid}"]
        sh("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(self.process.pid))
        sh("ip", "address", "add", f"10.{net}.0.1/24", "dev", name)
        sh("ip", "link", "set", name, "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "10.96.0.0/15", "via", f"10.{net}.0.1")

    def run(self, *command, **more):
        return sh(*self.enter, *command, **more)

    def spawn(self, *command, **more):
        return subprocess.Popen([*self.enter, *command], **more)


def sh(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


SINK = """
import socket, sys, time
with socket.create_server((sys.argv[1], 5001)) as listener:
    print("ready", flush=True)
    peer, _ = listener.accept()
    room, got, begun = bytearray(1 << 20), 0, time.monotonic()
    while count := peer.recv_into(room):
        got += count
    print(got / (time.monotonic() - begun), flush=True)
"""
SOURCE = """
import socket, sys, time
deadline = time.monotonic() + 20
while True:
    try:
        peer = socket.create_connection((sys.argv[1], 5001), timeout=2)
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
with peer:
    data, end = bytes(1 << 20), time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        peer.sendall(data)
"""


def throughput(source, sink, address):
    """Bytes per second over one connection."""
    taker = sink.spawn("/usr/bin/python3", "-c", SINK, address, stdout=subprocess.PIPE, text=True)
    assert taker.stdout.readline() == "ready\n"
    source.run("/usr/bin/python3", "-c", SOURCE, address, str(VXLAN_SECONDS))
    rate = float(taker.stdout.readline())
    taker.wait()
    return rate


def vxlan(orch, folder):
    """Two nodes behind a router, and beside orch's way between them one made by hand."""
    with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
        file.write("1")
    a, b = Host("node-a", 97), Host("node-b", 96)
    log = open(f"{folder}/vxlan.log", "wb")
    kubeconfig = f"{folder}/vxlan.yaml"
    processes = [a.spawn(orch, "server", "--data-dir", f"{folder}/vxlan-a", "--write-kubeconfig", kubeconfig, stdout=log, stderr=log)]
    try:
        begun = time.monotonic()
        token = ""
        while not token and time.monotonic() - begun < DEADLINE:
            made = subprocess.run([*a.enter, orch, "token", "create"], env={**os.environ, "ORCH_WRITE_KUBECONFIG": kubeconfig}, stdout=subprocess.PIPE, stderr=log, text=True)
            token = made.stdout.strip() if made.returncode == 0 else ""
            time.sleep(0.1)
        command = [orch, "agent", "--join", f"https://{a.address}:6443", "--token", token, "--data-dir", f"{folder}/vxlan-b"]
        processes.append(b.spawn(*command, stdout=log, stderr=log))
        ours = way(a, b, begun)
        by_hand = "192.168.77.2"
        for host, other, number in [(a, b, 1), (b, a, 2)]:
            link = ["type", "vxlan", "id", "77", "dstport", "4790", "local", host.address, "remote", other.address, "dev", "eth0", "nolearning"]
            host.run("ip", "link", "add", "by-hand", *link)
            host.run("ip", "address", "add", f"192.168.77.{number}/24", "dev", "by-hand")
            host.run("ip", "link", "set", "by-hand", "up")
        rates = {"orch": [], "by_hand": []}
        for _ in range(5):
            rates["orch"].append(throughput(a, b, ours))
            rates["by_hand"].append(throughput(a, b, by_hand))
    finally:
        for process in processes:
            process.terminate()
            process.wait()
        for host in [a, b]:
            host.process.kill()
            host.process.wait()
    middle = {name: statistics.median(of) for name, of in rates.items()}
    for name, rate in middle.items():
        print(f"vxlan_{name}_mb_per_second {rate / 1e6:.0f}")
    print(f"vxlan_ratio {middle['orch'] / middle['by_hand']:.2f}")


def way(a, b, begun):
    """The address of b's bridge, once a has a way there through the VXLAN device."""
    while time.monotonic() - begun < DEADLINE:
        inside = [line.split()[3].split("/")[0] for line in b.run("ip", "-o", "-4", "address", "show").splitlines() if line.split()[3].startswith("10.42.")]
        for address in inside:
            if address.endswith(".1") and "dev orch.vx" in a.run("ip", "route", "get", address):
                return address
        time.sleep(0.2)
    sys.exit("the two nodes find no way to each other")


PHASES = {"services": services, "dns": dns, "vxlan": vxlan}


def main():
    orch, folder, *wanted = sys.argv[1:]
    for name in wanted or PHASES:
        PHASES[name](orch, folder)


main()
