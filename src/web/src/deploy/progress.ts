// How far an object is that was applied: as `kubectl rollout status` judges it.

import { at, condition, list, num, type Obj, podState, text } from "../api/objects";
import type { Key } from "../i18n";

export interface Progress {
  state: "done" | "busy" | "failed";
  key: Key;
  values?: Record<string, string | number>;
}

const done = (key: Key, values?: Progress["values"]): Progress => ({ state: "done", key, values });
const busy = (key: Key, values?: Progress["values"]): Progress => ({ state: "busy", key, values });

/** How many pods are wanted. */
function replicasOf(object: Obj): number {
  const replicas = at(object, "spec.replicas");
  return typeof replicas === "number" ? replicas : 1;
}

function deployment(object: Obj): Progress {
  const progressing = condition(object, "Progressing");
  if (text(progressing, "reason") === "ProgressDeadlineExceeded") {
    const values = { message: text(progressing, "message") };
    return { state: "failed", key: "follow.deadline", values };
  }
  const wanted = replicasOf(object);
  const updated = num(object, "status.updatedReplicas");
  const old = num(object, "status.replicas") - updated;
  if (updated < wanted) return busy("follow.updated", { updated, wanted });
  if (old > 0) return busy("follow.old", { old });
  return usable(num(object, "status.availableReplicas"), wanted);
}

function usable(ready: number, wanted: number): Progress {
  const values = { ready, wanted };
  return ready < wanted ? busy("follow.ready", values) : done("follow.allReady", values);
}

function statefulSet(object: Obj): Progress {
  const wanted = replicasOf(object);
  const ready = num(object, "status.readyReplicas");
  if (text(object, "spec.updateStrategy.type") === "OnDelete") return usable(ready, wanted);
  const kept = num(object, "spec.updateStrategy.rollingUpdate.partition");
  const updated = num(object, "status.updatedReplicas");
  const meant = Math.max(0, wanted - kept);
  if (updated < meant) return busy("follow.updated", { updated, wanted: meant });
  return usable(ready, wanted);
}

function daemonSet(object: Obj): Progress {
  const wanted = num(object, "status.desiredNumberScheduled");
  const updated = num(object, "status.updatedNumberScheduled");
  const byHand = text(object, "spec.updateStrategy.type") === "OnDelete";
  if (updated < wanted && !byHand) return busy("follow.updated", { updated, wanted });
  return usable(num(object, "status.numberAvailable"), wanted);
}

const ROLLED: Record<string, (object: Obj) => Progress> = {
  Deployment: deployment,
  StatefulSet: statefulSet,
  DaemonSet: daemonSet,
};

function job(object: Obj): Progress {
  const failed = condition(object, "Failed");
  if (text(failed, "status") === "True") {
    return {
      state: "failed",
      key: "follow.jobFailed",
      values: { message: text(failed, "message") },
    };
  }
  if (text(condition(object, "Complete"), "status") === "True") return done("follow.jobDone");
  return busy("follow.jobRuns", { active: num(object, "status.active") });
}

function pod(object: Obj): Progress {
  const { state, reason } = podState(object);
  const values = { reason };
  if (state === "ready" || state === "succeeded") return done("follow.podReady");
  if (state === "failed") return { state: "failed", key: "follow.podFailed", values };
  return busy(reason ? "follow.podWaits" : "follow.podStarts", values);
}

/** What an object that is there has come to. */
export function progressOf(kind: string, object: Obj): Progress {
  const rolled = ROLLED[kind];
  if (rolled) {
    const seen = num(object, "status.observedGeneration") >= (object.metadata.generation ?? 0);
    return seen ? rolled(object) : busy("follow.unseen");
  }
  switch (kind) {
    case "ReplicaSet":
      return usable(num(object, "status.readyReplicas"), replicasOf(object));
    case "Job":
      return job(object);
    case "CronJob":
      return at(object, "spec.suspend") === true
        ? done("follow.suspended")
        : done("follow.scheduled", { schedule: text(object, "spec.schedule") });
    case "Pod":
      return pod(object);
    case "PersistentVolumeClaim": {
      const phase = text(object, "status.phase");
      return phase === "Bound" ? done("follow.bound") : busy("follow.unbound");
    }
    case "CustomResourceDefinition":
      return text(condition(object, "Established"), "status") === "True"
        ? done("follow.served")
        : busy("follow.unserved");
    default:
      return done("follow.there");
  }
}

/** Whose events tell of an object: its own, and of what it made. */
export const ownedBy = (owners: Set<string>, objects: Obj[]): Obj[] =>
  objects.filter((one) =>
    list(one, "metadata.ownerReferences").some((owner) => owners.has(text(owner, "uid"))),
  );
