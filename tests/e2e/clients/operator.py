"""A kopf operator: each Greeting gets a ConfigMap, a status, and a finalizer until it is cleaned up."""

import kopf
import kubernetes


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    settings.posting.level = 20


@kopf.on.create("example.com", "v1", "greetings")
@kopf.on.update("example.com", "v1", "greetings", field="spec")
def greet(spec, name, namespace, patch, **_):
    api = kubernetes.client.CoreV1Api()
    body = {"metadata": {"name": name}, "data": {"text": f"hello {spec['who']}"}}
    kopf.adopt(body)
    try:
        api.create_namespaced_config_map(namespace, body)
    except kubernetes.client.rest.ApiException as refused:
        if refused.status != 409:
            raise
        api.patch_namespaced_config_map(name, namespace, body)
    patch.status["greeted"] = spec["who"]


@kopf.on.delete("example.com", "v1", "greetings")
def part(name, namespace, **_):
    api = kubernetes.client.CoreV1Api()
    api.create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-parted"}})
