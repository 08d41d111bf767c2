// What a text would change in the cluster, and changing it: each object by server-side
// apply, first without effect (dry run).

import { ApiError, json, open, query } from "../api/http";
import { objectPath } from "../api/kinds";
import { type Fields, map, type Obj } from "../api/objects";
import type { Checked } from "./check";
import { type Part, type Problem, placeOf } from "./manifest";
import { readable } from "./readable";
import type { Served } from "./schemas";
import { ALIASES_MAX } from "./yaml-faults";

export const MANAGER = "holdfast-admin-page";
const APPLY = "application/apply-patch+yaml";

/** One document, as the object that it stands for. */
export interface Target {
  /** Its number in the text. */
  id: string;
  part: Part;
  served: Served;
  namespace?: string;
  name: string;
  value: Fields;
}

export interface Conflict {
  field: string;
  manager: string;
}

export interface Compared {
  target: Target;
  /** `waits`: for a namespace or a definition that the same text makes. */
  state: "create" | "change" | "same" | "refused" | "waits";
  before: string;
  after: string;
  error?: ApiError;
  conflicts: Conflict[];
}

export interface Applied {
  target: Target;
  state: "created" | "changed" | "same" | "failed";
  object?: Obj;
  error?: ApiError;
}

/** The objects of a text without problems, in its order. */
export function targets(
  checked: Checked,
  namespace: string,
  concerns: (part: Part) => boolean = () => true,
): Target[] {
  return checked.parts.flatMap((part, number) => {
    const served = checked.kinds.get(part)?.served;
    if (!served || !concerns(part)) return [];
    const value = part.document.toJS({ maxAliasCount: ALIASES_MAX }) as Fields;
    const ns = served.namespaced ? part.namespace || namespace : undefined;
    const metadata = { ...map(value, "metadata") } as Fields;
    if (ns) metadata.namespace = ns;
    return [
      {
        id: String(number),
        part,
        served,
        namespace: ns,
        name: part.name,
        value: { ...value, metadata },
      },
    ];
  });
}

/**
 * Objects that stand in the text before: the second would undo the first when it is applied,
 * which no comparison shows, since both are compared with what is there now. What a document
 * with other problems names may not be what it means.
 */
export function repeated(checked: Checked, namespace: string): Problem[] {
  const faulty = (part: Part) =>
    checked.problems.some((one) => one.from >= part.from && one.from <= part.to);
  const seen = new Set<string>();
  return targets(checked, namespace, (part) => !faulty(part)).flatMap((target) => {
    const { served, part, name } = target;
    // Another version of a group is another view of the same object.
    const own = JSON.stringify([served.group, served.kind, target.namespace, name]);
    if (!seen.has(own)) {
      seen.add(own);
      return [];
    }
    const values = { kind: served.kind, name };
    return [{ ...placeOf(part, "metadata.name"), key: "check.repeated", values }];
  });
}

const known = (error: unknown): ApiError =>
  error instanceof ApiError ? error : new ApiError(-1, "", String(error));

/** Applies; says too whether the object was not there before. */
async function send(
  target: Target,
  force: boolean,
  dryRun: boolean,
): Promise<{ object: Obj; created: boolean }> {
  const { served, namespace, name } = target;
  const more = query({
    fieldManager: MANAGER,
    fieldValidation: "Strict",
    force: force || undefined,
    dryRun: dryRun ? "All" : undefined,
  });
  const response = await open(objectPath(served, namespace, name) + more, {
    method: "PATCH",
    type: APPLY,
    body: target.value,
  });
  return { object: (await response.json()) as Obj, created: response.status === 201 };
}

/** Which fields others hold, as the refusal of an apply names them. */
export function conflictsOf(error: ApiError): Conflict[] {
  if (error.code !== 409) return [];
  return error.fields.flatMap(({ field, message }) => {
    const manager = /conflict with "([^"]*)"/.exec(message)?.[1];
    return manager === undefined ? [] : [{ field, manager }];
  });
}

/** Whether an object can only be judged when an earlier one of the text is there. */
function waitsFor(target: Target, all: Target[], error: ApiError): boolean {
  if (error.code !== 404) return false;
  const before = all.slice(0, all.indexOf(target));
  return before.some((other) =>
    other.served.kind === "Namespace"
      ? other.name === target.namespace
      : other.served.kind === "CustomResourceDefinition" &&
        other.name === `${target.served.plural}.${target.served.group}`,
  );
}

/** What applying one object would do. */
export async function compare(target: Target, all: Target[], force: boolean): Promise<Compared> {
  const nothing = { target, before: "", after: "", conflicts: [] };
  try {
    const { object: next, created } = await send(target, force, true);
    const { served, namespace, name } = target;
    const old = created ? undefined : await json<Obj>(objectPath(served, namespace, name));
    const [before, after] = readable(old, next);
    const state = !old ? "create" : before === after ? "same" : "change";
    return { target, state, before, after, conflicts: [] };
  } catch (problem) {
    const error = known(problem);
    if (waitsFor(target, all, error)) {
      return {
        ...nothing,
        state: "waits",
        after: readable(undefined, target.value as unknown as Obj)[1],
      };
    }
    return { ...nothing, state: "refused", error, conflicts: conflictsOf(error) };
  }
}

const AGAIN_MS = 400;
const AGAIN_MAX = 40;

/** Applies one object; what waits for its definition is tried until that is served. */
export async function apply(of: Compared, force: boolean, stop: AbortSignal): Promise<Applied> {
  const { target } = of;
  for (let round = 1; ; round += 1) {
    try {
      const { object, created } = await send(target, force, false);
      return {
        target,
        object,
        state: created ? "created" : of.state === "same" ? "same" : "changed",
      };
    } catch (problem) {
      const error = known(problem);
      const again = of.state === "waits" && error.code === 404 && round < AGAIN_MAX;
      if (!again || stop.aborted) return { target, state: "failed", error };
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}
