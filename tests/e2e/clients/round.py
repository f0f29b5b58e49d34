"""A round with the official Python client: typed and dynamic, watch, patches, apply, logs and an exec stream."""

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

config.load_kube_config()
core, apps = client.CoreV1Api(), client.AppsV1Api()

version = client.VersionApi().get_code()
assert version.major == "1", version

core.create_namespace({"metadata": {"name": "python"}})
made = core.create_namespaced_config_map("python", {"metadata": {"name": "a"}, "data": {"k": "v"}})
assert made.metadata.uid and made.data == {"k": "v"}, made
patched = core.patch_namespaced_config_map("a", "python", {"data": {"k": "w"}})
assert patched.data == {"k": "w"}, patched
try:
    core.create_namespaced_config_map("python", {"metadata": {"name": "a"}})
    raise SystemExit("a second creation must conflict")
except ApiException as refused:
    assert refused.status == 409 and "AlreadyExists" in refused.body, refused

# A watch from a list sees what follows, in order.
listed = core.list_namespaced_config_map("python")
core.create_namespaced_config_map("python", {"metadata": {"name": "b"}})
core.delete_namespaced_config_map("b", "python")
seen = []
for event in watch.Watch().stream(
    core.list_namespaced_config_map, "python", resource_version=listed.metadata.resource_version, timeout_seconds=30
):
    seen.append((event["type"], event["object"].metadata.name))
    if len(seen) == 2:
        break
assert seen == [("ADDED", "b"), ("DELETED", "b")], seen

# Pages.
for index in range(7):
    core.create_namespaced_secret("python", {"metadata": {"name": f"s{index}"}, "stringData": {"x": "y"}})
names, token = [], None
while True:
    page = core.list_namespaced_secret("python", limit=3, _continue=token)
    names += [item.metadata.name for item in page.items]
    token = page.metadata._continue
    if not token:
        break
assert sorted(names) == [f"s{index}" for index in range(7)], names

# The dynamic client discovers, creates, applies with an owner, and meets a conflict.
dyn = dynamic.DynamicClient(client.ApiClient())
deployments = dyn.resources.get(api_version="apps/v1", kind="Deployment")
body = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    },
}
applied = deployments.server_side_apply(body=body, namespace="python", field_manager="one")
managers = [(entry.manager, entry.operation) for entry in applied.metadata.managedFields]
assert ("one", "Apply") in managers, managers
body["spec"]["replicas"] = 3
try:
    deployments.server_side_apply(body=body, namespace="python", field_manager="two")
    raise SystemExit("another owner must conflict")
except dynamic.exceptions.ConflictError as refused:
    assert ".spec.replicas" in str(refused.body), refused.body
forced = deployments.server_side_apply(body=body, namespace="python", field_manager="two", force_conflicts=True)
assert forced.spec.replicas == 3
scale = apps.patch_namespaced_deployment_scale("d", "python", {"spec": {"replicas": 0}})
assert not scale.spec.replicas, scale

# A pod: logs, and an exec with streams and an exit code.
core.create_namespaced_pod(
    "default",
    {
        "metadata": {"name": "box"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {"name": "c", "image": "127.0.0.1:5000/busybox:1", "command": ["sh", "-c", "echo hello; exec sleep 100000"]}
            ],
        },
    },
)
for event in watch.Watch().stream(
    core.list_namespaced_pod, "default", field_selector="metadata.name=box", timeout_seconds=90
):
    if event["object"].status.phase == "Running":
        break
else:
    raise SystemExit("the pod does not run")
assert core.read_namespaced_pod_log("box", "default") == "hello\n"
session = stream(
    core.connect_get_namespaced_pod_exec, "box", "default", command=["sh", "-c", "cat; echo oops >&2; exit 3"],
    stdin=True, stdout=True, stderr=True, _preload_content=False,
)
session.write_stdin("typed\n")
out = ""
while "typed" not in out and session.is_open():
    session.update(timeout=10)
    out += session.read_stdout() if session.peek_stdout() else ""
assert "typed" in out, out
session.close()
answer = stream(
    core.connect_get_namespaced_pod_exec, "box", "default", command=["sh", "-c", "echo out; exit 3"],
    stdin=False, stdout=True, stderr=True, _preload_content=False,
)
answer.run_forever(timeout=30)
assert answer.read_stdout() == "out\n" and answer.returncode == 3, answer.returncode
core.delete_namespaced_pod("box", "default")
core.delete_namespace("python")
print("round complete")
