// What is asked of the server, what its answers mean, and how far an object is.

import assert from "node:assert/strict";
import test from "node:test";
import type { Obj } from "../src/api/objects";
import { check } from "../src/deploy/check";
import { lineOf } from "../src/deploy/manifest";
import { progressOf } from "../src/deploy/progress";
import { readable } from "../src/deploy/readable";
import { GroupSchemas, type OpenApi } from "../src/deploy/schemas";

Object.assign(globalThis, { window: globalThis });
globalThis.addEventListener = (() => undefined) as typeof globalThis.addEventListener;

function group(version: string, ...kinds: [string, string, boolean][]): GroupSchemas {
  const document: OpenApi = { paths: {}, components: { schemas: {} } };
  const root = version === "v1" ? "/api/v1" : `/apis/${version}`;
  for (const [kind, plural, namespaced] of kinds) {
    const gvk = { group: version.split("/").at(-2) ?? "", version: "v1", kind };
    const path = `${root}${namespaced ? "/namespaces/{namespace}" : ""}/${plural}/{name}`;
    document.paths[path] = { patch: { "x-kubernetes-group-version-kind": gvk } };
    document.components.schemas[kind] = { "x-kubernetes-group-version-kind": [gvk] };
  }
  return new GroupSchemas(document);
}
const GROUPS: Record<string, GroupSchemas> = {
  v1: group("v1", ["ConfigMap", "configmaps", true], ["Namespace", "namespaces", false]),
  "apiextensions.k8s.io/v1": group("apiextensions.k8s.io/v1", [
    "CustomResourceDefinition",
    "customresourcedefinitions",
    false,
  ]),
};

interface Asked {
  method: string;
  path: string;
  query: URLSearchParams;
  body: unknown;
}

/** A server of which each answer is written down; tells what it was asked. */
function server(answers: [number, unknown][]): Asked[] {
  const asked: Asked[] = [];
  globalThis.fetch = async (input, init) => {
    const url = new URL(String(input), "https://node");
    const body = typeof init?.body === "string" ? JSON.parse(init.body) : undefined;
    const method = init?.method ?? "GET";
    asked.push({ method, path: url.pathname, query: url.searchParams, body });
    const [status, answer] = answers.shift() ?? [500, { message: "nothing more was expected" }];
    return new Response(JSON.stringify(answer), { status });
  };
  return asked;
}

const MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n";
const stored = (data: object): Obj =>
  ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "a", namespace: "n" }, data }) as Obj;

async function targetsOf(text: string) {
  const { targets } = await import("../src/deploy/cluster");
  const checked = await check(text, async (version) => GROUPS[version]);
  assert.deepEqual(checked.problems, []);
  return targets(checked, "n");
}

test("what is not there is created, and nothing else is asked", async () => {
  const { compare } = await import("../src/deploy/cluster");
  const asked = server([[201, stored({ k: "v" })]]);
  const all = await targetsOf(MAP);
  const [target] = all;
  assert.ok(target);
  const found = await compare(target, all, false);
  assert.equal(found.state, "create");
  assert.equal(asked.length, 1);
  assert.equal(asked[0]?.path, "/api/v1/namespaces/n/configmaps/a");
  assert.equal(asked[0]?.query.get("dryRun"), "All");
  assert.equal(asked[0]?.query.get("fieldManager"), "holdfast-admin-page");
  assert.equal(asked[0]?.query.get("force"), null);
});

test("what is there is compared with what it would be", async () => {
  const { compare } = await import("../src/deploy/cluster");
  const all = await targetsOf(MAP);
  const [target] = all;
  assert.ok(target);
  server([
    [200, stored({ k: "v" })],
    [200, stored({ k: "old" })],
  ]);
  const changed = await compare(target, all, false);
  assert.equal(changed.state, "change");
  assert.match(changed.before, /k: old/);
  server([
    [200, stored({ k: "v" })],
    [200, stored({ k: "v" })],
  ]);
  assert.equal((await compare(target, all, false)).state, "same");
});

test("a conflict names the field and who holds it, and is taken over only when asked", async () => {
  const { compare } = await import("../src/deploy/cluster");
  const all = await targetsOf(MAP);
  const [target] = all;
  assert.ok(target);
  const causes = [{ field: ".data.k", message: 'conflict with "kubectl" using v1', reason: "x" }];
  server([[409, { code: 409, reason: "Conflict", message: "Apply failed", details: { causes } }]]);
  const found = await compare(target, all, false);
  assert.equal(found.state, "refused");
  assert.deepEqual(found.conflicts, [{ field: ".data.k", manager: "kubectl" }]);
  const asked = server([[201, stored({ k: "v" })]]);
  await compare(target, all, true);
  assert.equal(asked[0]?.query.get("force"), "true");
});

test("the same object twice is told at the second, wherever its namespace is said", async () => {
  const { repeated } = await import("../src/deploy/cluster");
  const told = async (text: string, namespace: string) => {
    const checked = await check(text, async (version) => GROUPS[version]);
    return repeated(checked, namespace).map((one) => [lineOf(text, one.from), one.key]);
  };
  const there = MAP.replace("name: a", "name: a, namespace: near");
  const other = MAP.replace("name: a", "name: a, namespace: other");
  const text = [MAP, there, other].join("---\n");
  assert.deepEqual(await told(text, "near"), [[8, "check.repeated"]]);
  assert.deepEqual(await told(text, "other"), [[13, "check.repeated"]]);
  assert.deepEqual(await told(text, "third"), []);
  // Without a name it is told as such, and not as the same.
  const none = MAP.replace("{name: a}", "{}");
  assert.deepEqual(await told([none, none].join("---\n"), "near"), []);
});

test("a definition in the text whose schema is none is no end of the checking", async () => {
  const definition = (schema: string) => `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ships.sea.example}
spec:
  group: sea.example
  scope: Cluster
  names: {kind: Ship, plural: ships}
  versions: [{name: v1, schema: {openAPIV3Schema: ${schema}}}]
---
apiVersion: sea.example/v1
kind: Ship
metadata: {name: one}
spec: {colour: green, size: 3}
`;
  for (const schema of [
    "text",
    "[1, 2]",
    "{required: name}",
    "{properties: text}",
    "{properties: {spec: {required: {a: b}, properties: {colour: {enum: red}, size: {$ref: 1}}}}}",
    "{properties: {spec: {allOf: [{$ref: {a: b}}]}}}",
    "{properties: {spec: {properties: {colour: {enum: {a: b}}, size: null}}}}",
  ]) {
    const found = await check(definition(schema), async (version) => GROUPS[version]);
    assert.equal(found.kinds.size, 2, schema);
  }
});

const NEW = `apiVersion: v1
kind: Namespace
metadata: {name: fresh}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: fresh}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: other}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ships.sea.example}
spec:
  group: sea.example
  scope: Cluster
  names: {kind: Ship, plural: ships}
  versions: [{name: v1, schema: {openAPIV3Schema: {type: object, properties: {}}}}]
---
apiVersion: sea.example/v1
kind: Ship
metadata: {name: one}
`;

test("what the same text makes first is waited for, and nothing else", async () => {
  const { compare } = await import("../src/deploy/cluster");
  const all = await targetsOf(NEW);
  assert.equal(all.length, 5);
  const missing: [number, unknown] = [404, { code: 404, reason: "NotFound", message: "not found" }];
  const states: string[] = [];
  for (const target of all.filter((one) => !/Namespace|Definition/.test(one.served.kind))) {
    server([missing]);
    states.push((await compare(target, all, false)).state);
  }
  assert.deepEqual(states, ["waits", "refused", "waits"]);
});

test("a kind that comes into being is tried again; what is refused is not", async () => {
  const { apply } = await import("../src/deploy/cluster");
  const all = await targetsOf(NEW);
  const ship = all.at(-1);
  assert.ok(ship);
  const missing: [number, unknown] = [404, { code: 404, message: "not found" }];
  const of = { target: ship, before: "", after: "", conflicts: [] };
  const stop = new AbortController().signal;
  const asked = server([missing, [201, { metadata: { name: "one" } }]]);
  assert.equal((await apply({ ...of, state: "waits" }, false, stop)).state, "created");
  assert.equal(asked.length, 2);
  assert.equal(asked[0]?.path, "/apis/sea.example/v1/ships/one");
  const once = server([missing]);
  assert.equal((await apply({ ...of, state: "create" }, false, stop)).state, "failed");
  assert.equal(once.length, 1);
});

test("what the server writes for itself and the values of secrets are not compared", () => {
  const secret = (data: object, version: string): Obj =>
    ({
      apiVersion: "v1",
      kind: "Secret",
      metadata: {
        name: "s",
        resourceVersion: version,
        annotations: { "kubectl.kubernetes.io/last-applied-configuration": "opensesame" },
      },
      data,
    }) as Obj;
  const old = secret({ a: "b3BlbnNlc2FtZQ==", b: "eA==" }, "1");
  const [before, after] = readable(old, secret({ b: "eA==", a: "b3RoZXJzZXNhbQ==" }, "2"));
  const changed = (text: string) => text.split("\n").filter((line) => line.includes("•"));
  assert.deepEqual(changed(before), ["  a: •••••••• (10)", "  b: •••••••• (1)"]);
  assert.deepEqual(changed(after), ["  a: •••••••• * (10)", "  b: •••••••• (1)"]);
  for (const text of [before, after]) assert.doesNotMatch(text, /opensesame|b3Blb|resourceV/);
  const [same, too] = readable(old, secret({ b: "eA==", a: "b3BlbnNlc2FtZQ==" }, "9"));
  assert.equal(same, too);
});

test("an object is ready when its controller says so of what was applied last", () => {
  const deployment = (status: object, generation = 2): Obj => ({
    metadata: { name: "d", generation },
    spec: { replicas: 3 },
    status: { observedGeneration: 2, ...status } as Obj["status"],
  });
  const all = { replicas: 3, updatedReplicas: 3, availableReplicas: 3 };
  const key = (kind: string, object: Obj) => progressOf(kind, object).key;
  assert.equal(key("Deployment", deployment(all)), "follow.allReady");
  assert.equal(key("Deployment", deployment(all, 3)), "follow.unseen");
  assert.equal(key("Deployment", deployment({ ...all, updatedReplicas: 1 })), "follow.updated");
  assert.equal(key("Deployment", deployment({ ...all, replicas: 4 })), "follow.old");
  assert.equal(key("Deployment", deployment({ ...all, availableReplicas: 2 })), "follow.ready");
  const late = [{ type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded" }];
  assert.equal(progressOf("Deployment", deployment({ conditions: late })).state, "failed");
  const set: Obj = {
    metadata: { name: "s", generation: 1 },
    spec: { replicas: 3, updateStrategy: { rollingUpdate: { partition: 2 } } },
    status: { observedGeneration: 1, updatedReplicas: 1, readyReplicas: 3 },
  };
  assert.equal(key("StatefulSet", set), "follow.allReady");
  const job = (type: string): Obj => ({
    metadata: { name: "j" },
    status: { conditions: [{ type, status: "True" }] },
  });
  assert.equal(progressOf("Job", job("Complete")).state, "done");
  assert.equal(progressOf("Job", job("Failed")).state, "failed");
  assert.equal(progressOf("ConfigMap", job("x")).state, "done");
});
