// Objects as text to be compared: the same order on both sides, without what the server
// writes for itself, and without the values of secrets.

import { stringify } from "yaml";
import type { Obj } from "../api/objects";

const OWN = [
  "managedFields",
  "resourceVersion",
  "uid",
  "creationTimestamp",
  "generation",
  "selfLink",
];
/** It repeats the object, secrets too. */
const REPEATED = "kubectl.kubernetes.io/last-applied-configuration";
const FIRST = ["apiVersion", "kind", "metadata", "name", "namespace"];

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (value === null || typeof value !== "object") return value;
  const rank = (key: string) => (FIRST.includes(key) ? FIRST.indexOf(key) : FIRST.length);
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => rank(a) - rank(b) || (a < b ? -1 : a > b ? 1 : 0))
      .map(([key, inner]) => [key, ordered(inner)]),
  );
}

function plain(object: Obj): Record<string, unknown> {
  const { status: _, ...rest } = object;
  const metadata: Record<string, unknown> = { ...object.metadata };
  for (const name of OWN) delete metadata[name];
  const { [REPEATED]: __, ...annotations } = object.metadata.annotations ?? {};
  if (Object.keys(annotations).length > 0) metadata.annotations = annotations;
  else delete metadata.annotations;
  return { ...rest, metadata };
}

/** Bytes of a value in base64, or of one that is plain. */
function size(value: unknown, encoded: boolean): number {
  const text = String(value);
  if (!encoded) return new TextEncoder().encode(text).length;
  return Math.floor((text.replace(/[=\s]/g, "").length * 3) / 4);
}

/** `••• (3)`: how long it is, and with a mark that it is another than before. */
function hidden(values: unknown, other: unknown, encoded: boolean): unknown {
  if (values === null || typeof values !== "object") return values;
  const old = (other ?? {}) as Record<string, unknown>;
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => {
      const changed = key in old && old[key] !== value;
      return [key, `••••••••${changed ? " *" : ""} (${size(value, encoded)})`];
    }),
  );
}

/** The object before and after; the one that is not there is the empty text. */
export function readable(before: Obj | undefined, after: Obj): [string, string] {
  const sides = [before && plain(before), plain(after)] as const;
  if (after.kind === "Secret") {
    const [old, next] = [sides[0], { ...sides[1] }];
    for (const field of ["data", "stringData"]) {
      const encoded = field === "data";
      if (sides[1][field])
        Object.assign(sides[1], { [field]: hidden(next[field], old?.[field], encoded) });
      if (old?.[field]) Object.assign(old, { [field]: hidden(old[field], undefined, encoded) });
    }
  }
  const write = (value: unknown) =>
    value === undefined
      ? ""
      : stringify(ordered(value), { lineWidth: 0, aliasDuplicateObjects: false });
  return [write(sides[0]), write(sides[1])];
}
