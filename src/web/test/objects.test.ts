// What is read out of objects.

import assert from "node:assert/strict";
import test from "node:test";
import {
  nodeState,
  type Obj,
  podState,
  quantity,
  requests,
  selectorText,
} from "../src/api/objects";

const pod = (more: object): Obj => ({ metadata: { name: "p" }, ...more });
const ready = [{ type: "Ready", status: "True" }];

test("quantities are numbers", () => {
  const all = { "500m": 0.5, "2": 2, "1Gi": 1024 ** 3, "128Mi": 128 * 1024 ** 2, "3k": 3000 };
  for (const [text, value] of Object.entries(all)) assert.equal(quantity(text), value, text);
});

test("a pod's state is one word, the gravest first", () => {
  const waiting = { containerStatuses: [{ state: { waiting: { reason: "CrashLoopBackOff" } } }] };
  assert.deepEqual(podState(pod({ status: { phase: "Running", conditions: ready } })), {
    state: "ready",
    reason: "",
  });
  assert.equal(podState(pod({ status: { phase: "Running", ...waiting } })).state, "failing");
  assert.equal(podState(pod({ status: { phase: "Pending" } })).state, "pending");
  assert.equal(
    podState(pod({ status: { phase: "Pending" }, spec: { nodeName: "a" } })).state,
    "starting",
  );
  assert.equal(podState(pod({ status: { phase: "Failed" } })).state, "failed");
  const gone: Obj = {
    metadata: { name: "p", deletionTimestamp: "now" },
    status: { phase: "Running" },
  };
  assert.equal(podState(gone).state, "terminating");
});

test("a silent node is unknown and not merely unready", () => {
  const node = (status: string, unschedulable = false): Obj => ({
    metadata: { name: "n" },
    spec: { unschedulable },
    status: { conditions: [{ type: "Ready", status }] },
  });
  assert.equal(nodeState(node("True")), "ready");
  assert.equal(nodeState(node("True", true)), "cordoned");
  assert.equal(nodeState(node("False", true)), "notReady");
  assert.equal(nodeState(node("Unknown")), "unknown");
});

test("requests add up and selectors are written as the query takes them", () => {
  const containers = [
    { resources: { requests: { cpu: "250m", memory: "64Mi" } } },
    { resources: {} },
    { resources: { requests: { cpu: "1" } } },
  ];
  assert.deepEqual(requests(pod({ spec: { containers } })), { cpu: 1.25, memory: 64 * 1024 ** 2 });
  const selector = {
    matchLabels: { app: "shop" },
    matchExpressions: [
      { key: "tier", operator: "In", values: ["a", "b"] },
      { key: "old", operator: "DoesNotExist" },
    ],
  };
  assert.equal(selectorText(selector), "app=shop,tier in (a,b),!old");
});
