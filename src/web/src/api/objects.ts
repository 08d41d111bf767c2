// Kubernetes' objects as the page reads them: JSON with accessors, no type per kind.

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };
export type Fields = { [key: string]: Json | undefined };

export interface Owner {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
}

export interface Meta {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: Owner[];
  generation?: number;
}

export interface Obj {
  apiVersion?: string;
  kind?: string;
  metadata: Meta;
  spec?: Fields;
  status?: Fields;
  [field: string]: unknown;
}

/** What stands at a path like `status.conditions.0.type`. */
export function at(value: unknown, path: string): unknown {
  let found: unknown = value;
  for (const part of path.split(".")) {
    if (found === null || typeof found !== "object") return undefined;
    found = (found as Record<string, unknown>)[part];
  }
  return found;
}

export const text = (value: unknown, path: string): string => {
  const found = at(value, path);
  return typeof found === "string" ? found : typeof found === "number" ? String(found) : "";
};

export const num = (value: unknown, path: string): number => {
  const found = at(value, path);
  return typeof found === "number" ? found : 0;
};

export const list = (value: unknown, path: string): unknown[] => {
  const found = at(value, path);
  return Array.isArray(found) ? found : [];
};

export const map = (value: unknown, path: string): Record<string, unknown> => {
  const found = at(value, path);
  return found !== null && typeof found === "object" && !Array.isArray(found)
    ? (found as Record<string, unknown>)
    : {};
};

export const keyOf = (meta: Meta): string => `${meta.namespace ?? ""}/${meta.name}`;

export const condition = (object: Obj | undefined, type: string): unknown =>
  list(object, "status.conditions").find((one) => text(one, "type") === type);

const UNITS: Record<string, number> = {
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 1024,
  Mi: 1024 ** 2,
  Gi: 1024 ** 3,
  Ti: 1024 ** 4,
  Pi: 1024 ** 5,
  n: 1e-9,
  u: 1e-6,
};

/** A quantity (`500m`, `1Gi`) as a number. */
export function quantity(value: string): number {
  const found = /^([0-9.+\-eE]+?)([a-zA-Z]*)$/.exec(value);
  if (!found) return 0;
  return Number(found[1]) * (UNITS[found[2] ?? ""] ?? 1);
}

/** The requests of a pod's containers. */
export function requests(pod: Obj): { cpu: number; memory: number } {
  let cpu = 0;
  let memory = 0;
  for (const container of list(pod, "spec.containers")) {
    cpu += quantity(text(container, "resources.requests.cpu") || "0");
    memory += quantity(text(container, "resources.requests.memory") || "0");
  }
  return { cpu, memory };
}

export type PodState =
  | "ready"
  | "starting"
  | "pending"
  | "failing"
  | "failed"
  | "succeeded"
  | "terminating";

/** One word for a pod, and the reason that the engine or the scheduler gives. */
export function podState(pod: Obj): { state: PodState; reason: string } {
  const phase = text(pod, "status.phase");
  if (pod.metadata.deletionTimestamp) return { state: "terminating", reason: "" };
  if (phase === "Succeeded") return { state: "succeeded", reason: text(pod, "status.reason") };
  if (phase === "Failed") return { state: "failed", reason: text(pod, "status.reason") };
  const statuses = [
    ...list(pod, "status.initContainerStatuses"),
    ...list(pod, "status.containerStatuses"),
  ];
  for (const status of statuses) {
    const reason = text(status, "state.waiting.reason");
    if (reason && reason !== "ContainerCreating" && reason !== "PodInitializing") {
      return { state: "failing", reason };
    }
  }
  if (text(condition(pod, "Ready"), "status") === "True") return { state: "ready", reason: "" };
  if (!text(pod, "spec.nodeName")) {
    return { state: "pending", reason: text(condition(pod, "PodScheduled"), "message") };
  }
  return { state: "starting", reason: "" };
}

export type NodeState = "ready" | "cordoned" | "notReady" | "unknown";

export function nodeState(node: Obj): NodeState {
  const status = text(condition(node, "Ready"), "status");
  if (status === "Unknown" || status === "") return "unknown";
  if (status !== "True") return "notReady";
  return at(node, "spec.unschedulable") === true ? "cordoned" : "ready";
}

export const center = (node: Obj): string =>
  node.metadata.labels?.["topology.kubernetes.io/zone"] ?? "";

export const roles = (node: Obj): string[] =>
  Object.keys(node.metadata.labels ?? {})
    .filter((label) => label.startsWith("node-role.kubernetes.io/"))
    .map((label) => label.slice("node-role.kubernetes.io/".length));

/** A label selector of a workload, as the query takes it. */
export function selectorText(selector: unknown): string {
  const parts = Object.entries(map(selector, "matchLabels")).map(
    ([key, value]) => `${key}=${value}`,
  );
  for (const one of list(selector, "matchExpressions")) {
    const key = text(one, "key");
    const values = list(one, "values").join(",");
    const operator = text(one, "operator");
    if (operator === "In") parts.push(`${key} in (${values})`);
    if (operator === "NotIn") parts.push(`${key} notin (${values})`);
    if (operator === "Exists") parts.push(key);
    if (operator === "DoesNotExist") parts.push(`!${key}`);
  }
  return parts.join(",");
}
