"""Measures one executable and its peers, and prints a table. Started by benches/run on a private host.

Arguments: the executable, a directory, and NAME=PROGRAM for the Rust benchmarks.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time

from server import DEADLINE, IMAGE, Server

STARTS = 5
PODS = 20
# Seconds for which a server at rest is watched.
REST = 10
# Against upstream's API server with etcd on two such cores, as the project was told its figures: four times the rate, an eighth of the
# latency and of the CPU time, lists fifteen times as fast. Rates are at least, all else at most.
API_GOALS = {
    "create_configmap_64_rate": "at least 6400",
    "create_configmap_64_p99_ms": "16",
    "create_configmap_64_cpu_seconds_per_1000": "0.11",
    "get_configmap_64_rate": "at least 15200",
    "get_configmap_64_cpu_seconds_per_1000": "0.04",
    "patch_pod_status_64_rate": "at least 3120",
    "delete_pod_64_rate": "at least 2520",
    "list_10000_ms": "22",
    "list_10000_by_16_peak_mib": "64",
    "watch_100_p99_ms": "3",
    "pods_rss_mib": "250",
}


def pod(name):
    container = {"name": "c", "image": IMAGE, "args": ["hello"], "imagePullPolicy": "IfNotPresent"}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def pods(server):
    """Seconds from the request to Running, as a watcher sees it, one pod after the other."""
    seen = {}
    news = threading.Condition()

    def watch():
        connection = server.connection()
        connection.request("GET", "/api/v1/namespaces/default/pods?watch=true")
        for line in connection.getresponse():
            event = json.loads(line)
            if event["object"].get("status", {}).get("phase") == "Running":
                with news:
                    seen.setdefault(event["object"]["metadata"]["name"], time.monotonic())
                    news.notify()

    server.retry(lambda: server.call("GET", "/api/v1/namespaces/default/serviceaccounts/default")[0] == 200)
    threading.Thread(target=watch, daemon=True).start()
    times = []
    connection = server.connection()
    for number in range(PODS):
        name = f"bench-{number}"
        begun = time.monotonic()
        status, answer = server.call("POST", "/api/v1/namespaces/default/pods", pod(name), connection)
        assert status == 201, answer
        with news:
            assert news.wait_for(lambda: name in seen, DEADLINE), f"{name} does not run"
        times.append(seen[name] - begun)
    return times


def memory(pid, *fields):
    """KiB from smaps_rollup."""
    text = open(f"/proc/{pid}/smaps_rollup").read()
    return sum(int(re.search(rf"^{field}:\s+(\d+)", text, re.M).group(1)) for field in fields)


def shims():
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if open(f"/proc/{entry}/cmdline", "rb").read().split(b"\0")[1:2] == [b"shim"]:
                    yield int(entry)
            except OSError:
                continue


def ticks(pid):
    """Hundredths of a second of CPU time that a process took."""
    return sum(map(int, open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))


def settle(pid):
    """Waits until a process has been idle for a second, so that its memory is that of idleness."""
    before = ticks(pid)
    for _ in range(20):
        time.sleep(1)
        now = ticks(pid)
        if now - before <= 1:
            return
        before = now


def at_rest(pid):
    """Percent of a core that a process takes while nobody asks for anything."""
    before = ticks(pid)
    time.sleep(REST)
    return (ticks(pid) - before) / REST


def measure_server(orch, folder):
    to_ready, to_node = [], []
    for number in range(STARTS):
        server = Server(orch, f"{folder}/start-{number}")
        to_ready.append(server.wait_ready())
        server.log_in()
        to_node.append(server.wait_node())
        if number < STARTS - 1:
            server.stop()
    settle(server.process.pid)
    rest = at_rest(server.process.pid)
    idle = memory(server.process.pid, "Pss")
    times = pods(server)
    private = statistics.median(memory(pid, "Private_Clean", "Private_Dirty") for pid in shims())
    for number in range(PODS):
        server.call("DELETE", f"/api/v1/namespaces/default/pods/bench-{number}")
    server.retry(lambda: not list(shims()))
    server.stop()
    return {
        "ready": statistics.median(to_ready),
        "node": statistics.median(to_node),
        "pod": statistics.median(times),
        "rest": rest,
        "pss": idle / 1024,
        "shim": private / 1024,
    }


def lines(program, *args):
    output = subprocess.run([program, *args], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {name: float(value) for name, value in map(str.split, output.splitlines())}


def main():
    orch, folder = sys.argv[1:3]
    programs = dict(argument.split("=", 1) for argument in sys.argv[3:])
    print("measuring containers", flush=True)
    os.mkdir(f"{folder}/runtime")
    container = lines(programs["runtime"], orch, f"{folder}/runtime")
    print("measuring commits", flush=True)
    store = lines(programs["store"], f"{folder}/store")
    print("measuring the server", flush=True)
    server = measure_server(orch, folder)

    print("measuring the API under load", flush=True)
    api = lines(programs["api"], orch, f"{folder}/api")

    rows = [
        ("process start to /readyz, s", server["ready"], None, "0.3"),
        ("process start to node Ready, s", server["node"], None, "1"),
        (f"pod create to Running, median of {PODS}, ms", server["pod"] * 1000, None, "100"),
    ]
    for peer, goal in [("crun", "0.5"), ("runc", "0.35")]:
        if f"container_{peer}" in container:
            rows.append((f"container create+start+delete, ms, against {peer}", container["container_orch"], container[f"container_{peer}"], f"ratio {goal}"))
    rows += [
        ("idle server with a node, % of a core", server["rest"], None, "1"),
        ("idle server with a node, MiB PSS", server["pss"], None, "50"),
        ("shim of a pod, MiB private", server["shim"], None, "1"),
        ("commits/s, 1 client, against fdatasync/s", store["commit_rate_1"], store["fdatasync_rate"], ""),
        ("commits/s, 64 clients, against fdatasync/s", store["commit_rate_64"], store["fdatasync_rate"], ""),
    ]
    rows += [(f"API: {name}", value, None, API_GOALS.get(name, "")) for name, value in api.items()]
    print(f"\n{'what':<52} {'ours':>10} {'peer':>10} {'ratio':>7}  goal (at most)")
    for what, ours, peer, goal in rows:
        other = f"{peer:>10.2f} {ours / peer:>7.2f}" if peer else f"{'':>10} {'':>7}"
        print(f"{what:<52} {ours:>10.2f} {other}  {goal}")


main()
