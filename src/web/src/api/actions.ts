// What an operator changes from the page, each as one request that kubectl would make too.

import { json, query } from "./http";
import { collection, objectPath, PODS, REPLICA_SETS } from "./kinds";
import { list, map, type Obj, selectorText, text } from "./objects";

const STRATEGIC = "application/strategic-merge-patch+json";
const MERGE = "application/merge-patch+json";
const BY = query({ fieldManager: "holdfast-admin-page" });

interface Place {
  group: string;
  version: string;
  plural: string;
}

export const scale = (kind: Place, ns: string | undefined, name: string, replicas: number) =>
  json<Obj>(`${objectPath(kind, ns, name)}/scale${BY}`, {
    method: "PATCH",
    type: MERGE,
    body: { spec: { replicas } },
  });

/** As `kubectl rollout restart`: the template gets the time. */
export const restart = (kind: Place, ns: string | undefined, name: string) =>
  json<Obj>(`${objectPath(kind, ns, name)}${BY}`, {
    method: "PATCH",
    type: STRATEGIC,
    body: {
      spec: {
        template: {
          metadata: {
            annotations: { "kubectl.kubernetes.io/restartedAt": new Date().toISOString() },
          },
        },
      },
    },
  });

export const remove = (kind: Place, ns: string | undefined, name: string, uid?: string) =>
  json<Obj>(objectPath(kind, ns, name), {
    method: "DELETE",
    body: {
      apiVersion: "v1",
      kind: "DeleteOptions",
      propagationPolicy: "Background",
      // What was looked at, and not another that has its name by now.
      preconditions: uid ? { uid } : undefined,
    },
  });

export const cordon = (node: string, unschedulable: boolean) =>
  json<Obj>(`/api/v1/nodes/${node}${BY}`, {
    method: "PATCH",
    type: STRATEGIC,
    body: { spec: { unschedulable } },
  });

export const evict = (pod: Obj) =>
  json<Obj>(`${collection(PODS, pod.metadata.namespace)}/${pod.metadata.name}/eviction`, {
    method: "POST",
    body: {
      apiVersion: "policy/v1",
      kind: "Eviction",
      metadata: { name: pod.metadata.name, namespace: pod.metadata.namespace },
      deleteOptions: { preconditions: { uid: pod.metadata.uid } },
    },
  });

export interface Revision {
  number: number;
  set: Obj;
  images: string[];
  current: boolean;
}

const REVISION = "deployment.kubernetes.io/revision";
const revisionOf = (object: Obj): number => Number(object.metadata.annotations?.[REVISION] ?? 0);

/** The history of a Deployment: its ReplicaSets, newest first. */
export async function revisions(deployment: Obj): Promise<Revision[]> {
  const path = collection(REPLICA_SETS, deployment.metadata.namespace);
  const labelSelector = selectorText(deployment.spec?.selector);
  const found = await json<{ items: Obj[] }>(path + query({ labelSelector }));
  const current = revisionOf(deployment);
  return found.items
    .filter((set) =>
      (set.metadata.ownerReferences ?? []).some((owner) => owner.uid === deployment.metadata.uid),
    )
    .map((set) => ({
      number: revisionOf(set),
      set,
      images: list(set, "spec.template.spec.containers").map((one) => text(one, "image")),
      current: revisionOf(set) === current,
    }))
    .sort((a, b) => b.number - a.number);
}

/** As `kubectl rollout undo --to-revision`: the template of then. */
export function undo(deployment: Obj, revision: Revision) {
  const template = structuredClone(map(revision.set, "spec.template"));
  const labels = map(template, "metadata.labels");
  delete labels["pod-template-hash"];
  const { namespace, name, generation } = deployment.metadata;
  return json<Obj>(
    `${objectPath({ group: "apps", version: "v1", plural: "deployments" }, namespace, name)}${BY}`,
    {
      method: "PATCH",
      type: "application/json-patch+json",
      body: [
        // Refused if somebody has changed it since it was looked at; its status may go on, as
        // it does in the rollout that one wants to get out of.
        { op: "test", path: "/metadata/generation", value: generation },
        { op: "replace", path: "/spec/template", value: template },
      ],
    },
  );
}
