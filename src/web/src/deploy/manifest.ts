// A text of several YAML documents, taken apart so that every value has its place.
//
// Why split before parsing: a line of `---` ends a document whatever stands before it, so a
// quote that is not closed spoils one document and not those after it. Values are read as
// kubectl reads them (YAML 1.1: `0644` is octal, `yes` is true; but no times of the day and
// no dates), since what is sent must be what kubectl would send.

import {
  type Document,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  type Node,
  type ParseOptions,
  parseDocument,
} from "yaml";
import type { Key } from "../i18n";
import { yamlFaults } from "./yaml-faults";

export interface Problem {
  /** Offsets in the whole text. */
  from: number;
  to: number;
  key: Key;
  values?: Record<string, string | number>;
}

export interface Part {
  /** Where it begins in the whole text, and where it ends. */
  from: number;
  to: number;
  document: Document.Parsed;
  /** Faults of the YAML itself. */
  problems: Problem[];
  apiVersion: string;
  kind: string;
  name: string;
  namespace: string;
}

const OPTIONS: ParseOptions & { schema: "yaml-1.1"; [more: string]: unknown } = {
  schema: "yaml-1.1",
  keepSourceTokens: false,
  prettyErrors: false,
  strict: true,
  uniqueKeys: true,
  // Of YAML 1.1 only what Go's reader takes when it makes JSON.
  customTags: (tags: { tag: string; format?: string }[]) =>
    tags.filter(
      (one) =>
        typeof one !== "object" ||
        (!/timestamp|binary|omap|pairs|set$/.test(one.tag) && one.format !== "TIME"),
    ),
};

/** The stretches between lines of `---`. */
export function split(text: string): { from: number; to: number }[] {
  const found: { from: number; to: number }[] = [];
  let from = 0;
  for (const mark of text.matchAll(/^---(?=[ \t\r\n]|$).*(?:\n|$)/gm)) {
    if (mark.index > from) found.push({ from, to: mark.index });
    // What follows on the line of the mark belongs to the document after it.
    from = mark.index + (/^---[ \t]+[^#\s]/.test(mark[0]) ? 3 : mark[0].length);
  }
  if (from < text.length) found.push({ from, to: text.length });
  return found;
}

const scalarText = (document: Document, path: string[]): string => {
  const found = document.getIn(path);
  return typeof found === "string" || typeof found === "number" ? String(found) : "";
};

export function parse(text: string): Part[] {
  return split(text).flatMap(({ from, to }) => {
    const own = text.slice(from, to);
    const document = parseDocument(own, OPTIONS as ParseOptions);
    const problems = yamlFaults(document, own).map((fault) => ({
      ...fault,
      from: from + fault.from,
      to: from + Math.max(fault.from, fault.to),
    }));
    if (document.contents === null && problems.length === 0) return [];
    const asMap = isMap(document.contents);
    const read = (...path: string[]) => (asMap ? scalarText(document, path) : "");
    const part: Part = {
      from,
      to,
      document,
      problems,
      apiVersion: read("apiVersion"),
      kind: read("kind"),
      name: isMap(document.get("metadata", true)) ? read("metadata", "name") : "",
      namespace: isMap(document.get("metadata", true)) ? read("metadata", "namespace") : "",
    };
    return [part];
  });
}

/** What an alias stands for, and everything else itself. */
export function real(node: unknown, document: Document): unknown {
  return isAlias(node) ? node.resolve(document) : node;
}

export const rangeOf = (node: unknown): [number, number] | undefined => {
  const range = (node as Node | null)?.range;
  return range ? [range[0], range[1]] : undefined;
};

/** The part that holds a place of the text. */
export const partAt = (parts: Part[], position: number): Part | undefined =>
  parts.find((part) => position >= part.from && position <= part.to);

/** `spec.containers[0].image`, `.spec.containers[name="a"].image`, `metadata.labels[a/b]`. */
export function steps(field: string): string[] {
  const found: string[] = [];
  const pattern = /\.?([^.[\]]+)|\[((?:[^\]"]|"(?:[^"\\]|\\.)*")*)\]/g;
  for (const step of field.matchAll(pattern)) found.push(step[1] ?? `[${step[2] ?? ""}]`);
  return found;
}

function element(node: { items: unknown[] }, step: string, document: Document): unknown {
  const inner = step.slice(1, -1);
  if (/^\d+$/.test(inner)) return node.items[Number(inner)];
  const wanted = [...inner.matchAll(/([^=,]+)=("(?:[^"\\]|\\.)*"|[^,]*)/g)].map((one) => [
    one[1] ?? "",
    (one[2] ?? "").replace(/^"|"$/g, ""),
  ]);
  return node.items.find((item) => {
    const own = real(item, document);
    // What a key leaves out has its default, which the text does not show.
    return (
      isMap(own) &&
      wanted.length > 0 &&
      wanted.every(([key, value]) => !own.has(key) || String(own.get(key)) === value) &&
      wanted.some(([key]) => own.has(key))
    );
  });
}

/** Where a field that the server names stands in the text, or the nearest that is there. */
export function placeOf(part: Part, field: string): { from: number; to: number } {
  let node: unknown = part.document.contents;
  let place = rangeOf(firstKey(node)) ?? rangeOf(node) ?? [0, 0];
  for (const step of steps(field)) {
    const own = real(node, part.document);
    if (isSeq(own) && step.startsWith("[")) {
      node = element(own, step, part.document);
      place = rangeOf(firstKey(node)) ?? rangeOf(node) ?? place;
    } else if (isMap(own)) {
      const name = step.startsWith("[") ? step.slice(1, -1).replace(/^"|"$/g, "") : step;
      const pair = own.items.find((one) => isScalar(one.key) && String(one.key.value) === name);
      if (!pair) break;
      node = pair.value;
      place = rangeOf(pair.key) ?? place;
    } else break;
    if (node === undefined || node === null) break;
  }
  return { from: part.from + place[0], to: part.from + place[1] };
}

export function firstKey(node: unknown): unknown {
  const first = isMap(node) ? node.items[0] : undefined;
  return isPair(first) ? first.key : undefined;
}

/** The line of an offset, from 1. */
export function lineOf(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at !== -1 && at < offset; at = text.indexOf("\n", at + 1)) {
    line += 1;
  }
  return line;
}
