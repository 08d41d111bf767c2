// A text against the schemas that are served: what is wrong, and where it stands.
//
// Not here: what only the cluster can judge (names that are taken, values that do not fit
// together); the comparison asks it.

import { type Document, isMap, isScalar, isSeq, type Pair, type YAMLMap } from "yaml";
import { definedBy } from "./definitions";
import { firstKey, type Part, type Problem, parse, rangeOf, real } from "./manifest";
import type { GroupSchemas, Schema, Served } from "./schemas";
import { harmless } from "./yaml-faults";

export interface Checked {
  text: string;
  parts: Part[];
  problems: Problem[];
  /** What each part is, as far as the server knows it. */
  kinds: Map<Part, { group: GroupSchemas; served: Served }>;
  /** The schemas could not be read: only the YAML was checked. */
  error?: unknown;
}

const QUANTITY = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|n|u)?$/;
/** A nesting that no manifest has and that a malicious definition might. */
const DEPTH_MAX = 64;

type Said = "text" | "number" | "integer" | "truth" | "list" | "map" | "nothing";

function kindOf(node: unknown): Said {
  if (isMap(node)) return "map";
  if (isSeq(node)) return "list";
  const value = isScalar(node) ? node.value : undefined;
  if (typeof value === "string") return "text";
  if (typeof value === "boolean") return "truth";
  if (typeof value === "bigint") return "integer";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return "nothing";
}

function wants(schema: Schema, name: string): Said[] {
  if (schema["x-kubernetes-int-or-string"] || name.endsWith(".IntOrString")) {
    return ["integer", "text"];
  }
  if (name.endsWith(".Quantity")) return ["text", "integer", "number"];
  switch (schema.type) {
    case "string":
      return ["text"];
    case "integer":
      return ["integer"];
    case "number":
      return ["number", "integer"];
    case "boolean":
      return ["truth"];
    case "array":
      return ["list"];
    case "object":
      return ["map"];
    default:
      return schema.properties ? ["map"] : [];
  }
}

/** A key as text; the reader has `<<` as a symbol. */
function keyText(key: unknown): string {
  const value = isScalar(key) ? key.value : "";
  return typeof value === "symbol" ? (value.description ?? "") : String(value);
}

/** How many letters are to be changed, put in or left out; at most `bound` + 1. */
function distance(a: string, b: string, bound: number): number {
  if (Math.abs(a.length - b.length) > bound) return bound + 1;
  let before = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = (before[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(change, (before[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    before = row;
  }
  return before[b.length] ?? bound + 1;
}

/** The name that was probably meant. */
export function nearest(typed: string, names: string[]): string | undefined {
  const folded = typed.toLowerCase();
  const bound = typed.length < 5 ? 1 : 2;
  const scored = names
    .map((name) => ({ name, far: distance(folded, name.toLowerCase(), bound) }))
    .filter((one) => one.far <= bound)
    .sort((a, b) => a.far - b.far);
  return scored[0]?.name;
}

class Walk {
  problems: Problem[] = [];

  constructor(
    private readonly part: Part,
    private readonly schemas: GroupSchemas,
  ) {}

  say(node: unknown, key: Problem["key"], values?: Problem["values"]): void {
    const [from, to] = rangeOf(node) ?? [0, 0];
    this.problems.push({ from: this.part.from + from, to: this.part.from + to, key, values });
  }

  /** `owner` is the key before the value: what is missing in it is told there. */
  value(node: unknown, schema: Schema, owner: unknown, depth = 0): void {
    const own = real(node, this.part.document);
    const { schema: found, name } = this.schemas.resolve(schema);
    const is = kindOf(own);
    if (is === "nothing" || depth > DEPTH_MAX) return;
    const wanted = wants(found, name);
    if (wanted.length > 0 && !wanted.includes(is)) {
      const values = { wanted: wanted[0] ?? "", found: is };
      const quotes = wanted[0] === "text" && ["integer", "number", "truth"].includes(is);
      // Of what is too long to be marked, its beginning.
      const place = is === "map" || is === "list" ? (owner ?? firstKey(own) ?? node) : node;
      this.say(place, quotes ? "check.quotes" : "check.type", values);
      return;
    }
    if (name.endsWith(".Quantity") && isScalar(own) && !QUANTITY.test(String(own.value))) {
      this.say(node, "check.quantity", { value: String(own.value) });
    }
    if (isScalar(own)) this.scalar(node, own.value, found);
    if (isSeq(own) && found.items) {
      for (const item of own.items)
        this.value(item, found.items, firstKey(item) ?? owner, depth + 1);
    }
    if (isMap(own)) this.map(own, found, owner, depth);
  }

  private scalar(node: unknown, value: unknown, schema: Schema): void {
    // A schema that the text itself defines may hold anything anywhere.
    if (Array.isArray(schema.enum) && !schema.enum.includes(value)) {
      this.say(node, "check.enum", { values: schema.enum.map(String).join(", ") });
    }
    const number = typeof value === "number" ? value : undefined;
    const { minimum, maximum } = schema;
    if (number !== undefined && minimum !== undefined && number < minimum) {
      this.say(node, "check.atLeast", { bound: minimum });
    }
    if (number !== undefined && maximum !== undefined && number > maximum) {
      this.say(node, "check.atMost", { bound: maximum });
    }
  }

  private map(node: YAMLMap, schema: Schema, owner: unknown, depth: number): void {
    const names = Object.keys(schema.properties ?? {});
    const open =
      schema["x-kubernetes-preserve-unknown-fields"] === true ||
      schema.additionalProperties !== undefined ||
      schema.properties === undefined;
    let merges = false;
    const there = new Set<string>();
    for (const pair of node.items as Pair[]) {
      const key = keyText(pair.key);
      if (key === "<<") merges = true;
      if (kindOf(real(pair.value, this.part.document)) !== "nothing") there.add(key);
      const below = this.schemas.below(schema, key);
      if (below) this.value(pair.value, below, pair.key, depth + 1);
      else if (!open && key !== "<<") {
        const meant = this.unknown(pair, key, names);
        // It is there, but for its spelling.
        if (meant) there.add(meant);
      }
    }
    const required = Array.isArray(schema.required) ? schema.required : [];
    const missing = required.filter((name) => !there.has(name));
    if (merges || missing.length === 0) return;
    this.say(owner ?? firstKey(node) ?? node, "check.required", { names: missing.join(", ") });
  }

  private unknown(pair: Pair, name: string, names: string[]): string | undefined {
    const meant = nearest(name, names);
    if (meant) this.say(pair.key, "check.meant", { name, meant });
    else this.say(pair.key, "check.unknown", { name });
    return meant;
  }
}

/** Values of the wrong kind for what is read before the schema is known. */
function headFault(part: Part, document: Document): Problem | undefined {
  const whole = document.contents;
  const [from, to] = rangeOf(firstKey(whole)) ?? rangeOf(whole) ?? [0, 0];
  const place = { from: part.from + from, to: part.from + to };
  if (!isMap(whole)) return { ...place, key: "check.noObject" };
  if (!part.apiVersion) return { ...place, key: "check.required", values: { names: "apiVersion" } };
  if (!part.kind) return { ...place, key: "check.required", values: { names: "kind" } };
  return undefined;
}

function placeOfKey(part: Part, name: string): { from: number; to: number } {
  const whole = part.document.contents;
  const pairs = isMap(whole) ? (whole.items as Pair[]) : [];
  const pair = pairs.find((one) => isScalar(one.key) && one.key.value === name);
  const [from, to] = rangeOf(pair?.value) ?? rangeOf(pair?.key) ?? [0, 0];
  return { from: part.from + from, to: part.from + to };
}

/** What is wrong in one document whose kind is known. */
export function checkPart(part: Part, group: GroupSchemas, served: Served): Problem[] {
  const walk = new Walk(part, group);
  const whole = part.document.contents;
  walk.value(whole, served.schema, undefined);
  // A name is what an object is applied by, though no schema demands one.
  const pairs = isMap(whole) ? (whole.items as Pair[]) : [];
  const key = pairs.find((pair) => keyText(pair.key) === "metadata")?.key;
  const metadata = isMap(whole) ? whole.get("metadata", true) : undefined;
  const told = walk.problems.some(
    (one) => one.values?.meant === "metadata" || String(one.values?.names).includes("metadata"),
  );
  const readable = metadata === undefined || isMap(metadata) || kindOf(metadata) === "nothing";
  if (part.name === "" && readable && !told) walk.say(key ?? firstKey(whole), "check.name");
  return walk.problems;
}

/** Every problem of a text, in the order of their places. */
export async function check(
  text: string,
  read: (apiVersion: string) => Promise<GroupSchemas | undefined>,
): Promise<Checked> {
  const parts = parse(text);
  const defined = definedBy(parts);
  const checked: Checked = { text, parts, problems: [], kinds: new Map() };
  for (const part of parts) {
    checked.problems.push(...part.problems);
    // What a document with a broken frame seems to say is not what it means.
    if (part.problems.some((one) => !harmless(one.key))) continue;
    const fault = headFault(part, part.document);
    if (fault) {
      checked.problems.push(fault);
      continue;
    }
    let group: GroupSchemas | undefined;
    try {
      group = await read(part.apiVersion);
    } catch (error) {
      checked.error = error;
      continue;
    }
    let served = group?.kinds.get(part.kind);
    if (!served) {
      // What the text itself defines will be served once it is applied.
      const own = defined.get(part.apiVersion);
      served = own?.kinds.get(part.kind);
      if (served) group = own;
    }
    if (group && served) {
      checked.kinds.set(part, { group, served });
      checked.problems.push(...checkPart(part, group, served));
    } else {
      const { apiVersion, kind } = part;
      const place = placeOfKey(part, group ? "kind" : "apiVersion");
      const meant = group && nearest(kind, [...group.kinds.keys()]);
      const key = meant ? "check.meant" : group ? "check.noKind" : "check.noVersion";
      checked.problems.push({
        ...place,
        key,
        values: { kind, apiVersion, name: kind, meant: meant ?? "" },
      });
    }
  }
  checked.problems.sort((a, b) => a.from - b.from);
  return checked;
}
