// A round with the official JavaScript client: create, read, patch, list, watch, informer, custom objects.
import * as k8s from "@kubernetes/client-node";
import assert from "node:assert";

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const within = (what, promise) =>
  Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error(`not in time: ${what}`)), 30000).unref())]);

await core.createNamespace({ body: { metadata: { name: "node" } } });
const made = await core.createNamespacedConfigMap({ namespace: "node", body: { metadata: { name: "a" }, data: { k: "v" } } });
assert(made.metadata.uid && made.data.k === "v");
const read = await core.readNamespacedConfigMap({ namespace: "node", name: "a" });
assert.equal(read.metadata.resourceVersion, made.metadata.resourceVersion);
const merge = k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.MergePatch);
const patched = await core.patchNamespacedConfigMap({ namespace: "node", name: "a", body: { data: { k: "w" } } }, merge);
assert.equal(patched.data.k, "w");
await assert.rejects(core.readNamespacedConfigMap({ namespace: "node", name: "none" }), (refused) => refused.code === 404);

const seen = [];
const watch = new k8s.Watch(config);
let stop;
await within(
  "three events",
  new Promise((done, failed) => {
    watch
      .watch(
        "/api/v1/namespaces/node/configmaps",
        { resourceVersion: patched.metadata.resourceVersion },
        (type, object) => {
          seen.push(`${type} ${object.metadata.name}`);
          if (seen.length === 3) done();
        },
        (error) => error && seen.length < 3 && failed(error),
      )
      .then(async (handle) => {
        stop = handle;
        await core.createNamespacedConfigMap({ namespace: "node", body: { metadata: { name: "b" } } });
        await core.patchNamespacedConfigMap({ namespace: "node", name: "b", body: { data: { x: "y" } } }, merge);
        await core.deleteNamespacedConfigMap({ namespace: "node", name: "b" });
      })
      .catch(failed);
  }),
);
stop.abort();
assert.deepEqual(seen, ["ADDED b", "MODIFIED b", "DELETED b"]);

const informer = k8s.makeInformer(config, "/api/v1/namespaces/node/configmaps", () =>
  core.listNamespacedConfigMap({ namespace: "node" }),
);
const informed = within("the informer", new Promise((done) => informer.on("add", (map) => map.metadata.name === "c" && done())));
await informer.start();
await core.createNamespacedConfigMap({ namespace: "node", body: { metadata: { name: "c" } } });
await informed;
await informer.stop();

const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const applied = await objects.patch(
  { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "d", namespace: "node" }, data: { owned: "yes" } },
  undefined, undefined, "node-client", true, k8s.PatchStrategy.ServerSideApply,
);
assert(applied.metadata.managedFields.some((entry) => entry.manager === "node-client" && entry.operation === "Apply"));
await core.deleteNamespace({ name: "node" });
console.log("round complete");
process.exit(0);
