// What may stand at the cursor: found from the text's indents, since a text that is being
// typed is seldom whole.

import type { GroupSchemas, Schema } from "./schemas";

export interface Place {
  /** From the top of the document; `[]` is an element. */
  path: string[];
  want: "key" | "value";
  /** What is typed of it, and where that begins. */
  from: number;
  typed: string;
  /** Fields that stand beside it. */
  siblings: Set<string>;
  indent: number;
}

interface Line {
  /** Where each dash and the key stand. */
  dashes: number[];
  column: number;
  key?: string;
  value: string;
}

const LINE = /^( *)((?:- +)*(?:-$)?)(.*)$/;
const PAIR =
  /^(?:"([^"]*)"|'([^']*)'|([^\s#:"'{}[\],&*!|>%@`-][^#:]*?|-[^\s#:][^#:]*?))\s*:(?:\s+(.*))?$/;

function lineOf(text: string): Line | undefined {
  const found = LINE.exec(text);
  if (!found) return undefined;
  const [, space = "", marks = "", rest = ""] = found;
  const dashes = [...marks.matchAll(/-/g)].map((mark) => space.length + mark.index);
  const column = space.length + marks.length;
  if (rest.trim() === "" && dashes.length === 0) return undefined;
  if (rest.startsWith("#")) return undefined;
  const pair = PAIR.exec(rest);
  const key = pair?.[1] ?? pair?.[2] ?? pair?.[3];
  return { dashes, column, key, value: pair ? (pair[4] ?? "") : rest };
}

/** The document around a place: its lines, and the place's line and column in it. */
function around(text: string, position: number) {
  const lines = text.split("\n");
  let offset = 0;
  let at = 0;
  while (at < lines.length - 1 && offset + (lines[at]?.length ?? 0) < position) {
    offset += (lines[at]?.length ?? 0) + 1;
    at += 1;
  }
  const isMark = (line: string | undefined) => line !== undefined && /^---(\s|$)/.test(line);
  let first = at;
  while (first > 0 && !isMark(lines[first - 1])) first -= 1;
  let end = at + 1;
  while (end < lines.length && !isMark(lines[end])) end += 1;
  return { lines, at, first, end, column: position - offset, offset };
}

const isEmpty = (value: string): boolean => /^(?:[&!]\S+\s*)*(#.*)?$/.test(value);

/** Climbs from the cursor's line to the top of its document. */
class Climb {
  private indent: number;
  /** Below a dash: what holds the list may stand at the dash's own indent. */
  private inList = false;
  /** Still among the fields that stand beside the cursor. */
  private beside: boolean;

  constructor(
    private readonly path: string[],
    private readonly siblings: Set<string>,
    indent: number,
    dashes: number[],
  ) {
    this.indent = indent;
    this.beside = true;
    this.leave(dashes);
  }

  private leave(dashes: number[]): void {
    for (const dash of [...dashes].reverse()) {
      if (dash >= this.indent) continue;
      this.path.unshift("[]");
      this.indent = dash;
      this.inList = true;
      this.beside = false;
    }
  }

  /** Whether the line makes sense where it is. */
  take(line: Line): boolean {
    if (line.key === undefined) {
      if (line.dashes.length > 0) this.leave(line.dashes);
      // Text that stands above what is deeper: no structure that can be followed.
      return line.dashes.length > 0 || line.column >= this.indent;
    }
    const holds = line.column < this.indent || (line.column === this.indent && this.inList);
    if (holds) {
      if (!isEmpty(line.value)) return false;
      this.path.unshift(line.key);
      this.indent = line.column;
      this.inList = false;
      this.beside = false;
      this.leave(line.dashes);
    } else if (line.column === this.indent) {
      if (this.beside) this.siblings.add(line.key);
      this.leave(line.dashes);
    }
    return true;
  }

  /** Whether the top was reached, and not a list that nothing holds. */
  ends(): boolean {
    return !this.inList;
  }
}

/** Where the cursor is; nothing inside of flow collections, block texts and comments. */
export function placeAt(text: string, position: number): Place | undefined {
  const { lines, at, first, end, column, offset } = around(text, position);
  const before = (lines[at] ?? "").slice(0, column);
  const [, space = "", marks = "", rest = ""] = LINE.exec(before) ?? [];
  if (/^---/.test(before) || /(^|\s)#/.test(rest)) return undefined;
  const own = space.length + marks.length;
  const pair = /^([\w./$-]+)\s*:\s+(.*)$/.exec(rest);
  const typed = pair ? (pair[2] ?? "") : rest;
  if (!/^["']?[\w./$-]*$/.test(typed)) return undefined;
  const path: string[] = pair ? [pair[1] ?? ""] : [];
  const siblings = new Set<string>();
  const dashes = [...marks.matchAll(/-/g)].map((mark) => space.length + mark.index);
  const climb = new Climb(path, siblings, own, dashes);
  for (let number = at - 1; number >= first; number -= 1) {
    const line = lineOf(lines[number] ?? "");
    if (line && !climb.take(line)) return undefined;
  }
  if (!climb.ends()) return undefined;
  for (let number = at + 1; number < end; number += 1) {
    const line = lineOf(lines[number] ?? "");
    if (!line) continue;
    if (line.column < own || line.dashes.some((dash) => dash < own)) break;
    if (line.column === own && line.key) siblings.add(line.key);
  }
  const from = offset + column - typed.length;
  return { path, want: pair ? "value" : "key", from, typed, siblings, indent: own };
}

export interface Suggestion {
  label: string;
  detail?: string;
  info?: string;
  /** What is written after the cursor's word. */
  apply: string;
}

/** `Deployment`, `text`, `list of Container`: what a field holds. */
export function typeName(schemas: GroupSchemas, schema: Schema): string {
  const { schema: own, name } = schemas.resolve(schema);
  const short = name.slice(name.lastIndexOf(".") + 1);
  if (own.type === "array" && own.items) return `[]${typeName(schemas, own.items)}`;
  return short || own.type || "";
}

/** What is written for a field, ready for what it holds. */
export function opening(
  schemas: GroupSchemas,
  schema: Schema,
  name: string,
  indent: number,
): string {
  const own = schemas.resolve(schema).schema;
  const next = `\n${" ".repeat(indent + 2)}`;
  if (own.type === "array") return `${name}:${next}- `;
  if (own.properties || own.additionalProperties || own.type === "object") return `${name}:${next}`;
  return `${name}: `;
}

const CHOICES =
  /(?:[Vv]alid|[Pp]ossible|[Ss]upported|[Aa]llowed|[Aa]ccepted) (?:\w+ )?(?:values|options|types|policies)|[Mm]ust be(?: one of)?|[Cc]an be|[Oo]ne of|[Dd]efaults to/;

/** Values that a description names: no list is served, and a person may take others. */
export function named(description: string): string[] {
  const found = new Set<string>();
  for (const sentence of description.split(/(?<=[.;:])\s+|\n+/)) {
    const listed =
      /^\s*-\s*["`']?([A-Z]\w+)["`']?:/.exec(sentence) ?? /^["`']([A-Z]\w+)["`']:/.exec(sentence);
    if (listed?.[1]) found.add(listed[1]);
    if (!CHOICES.test(sentence)) continue;
    for (const word of sentence.matchAll(
      /["'`]([A-Za-z][\w./-]*)["'`]|\b([A-Z][a-z]+(?:[A-Z][a-zA-Z]*)+|[A-Z]{3,})\b/g,
    )) {
      const value = word[1] ?? word[2] ?? "";
      if (
        !/^(Defaults?|IANA|DNS_LABEL|IANA_SVC_NAME|RFC|URL|JSON|YAML|API|IP|This|Cannot)$/.test(
          value,
        )
      )
        found.add(value);
    }
    for (const word of sentence.matchAll(
      /(?:are|is|to|be|of|,|or|and)\s+([A-Z][a-z]+)(?=[,.]|\s(?:or|and)\b|$)/g,
    )) {
      if (word[1]) found.add(word[1]);
    }
  }
  return [...found].slice(0, 12);
}

/** The fields or values for a place of which the document's schema is known. */
export function suggestions(place: Place, schemas: GroupSchemas, root: Schema): Suggestion[] {
  if (place.want === "key") {
    const holder = schemas.at(root, place.path);
    if (!holder) return [];
    const own = schemas.resolve(holder).schema;
    const required = new Set(Array.isArray(own.required) ? own.required : []);
    return Object.entries(own.properties ?? {})
      .filter(
        ([name]) => !place.siblings.has(name) && !(place.path.length === 0 && name === "status"),
      )
      .map(([name, schema]) => ({
        label: name,
        detail: `${typeName(schemas, schema)}${required.has(name) ? " *" : ""}`,
        info: schema.description ?? schemas.resolve(schema).schema.description,
        apply: opening(schemas, schema, name, place.indent),
      }));
  }
  const schema = schemas.at(root, place.path);
  if (!schema) return [];
  const own = schemas.resolve(schema).schema;
  if (own.type === "boolean") return ["true", "false"].map((label) => ({ label, apply: label }));
  if (Array.isArray(own.enum))
    return own.enum.map((one) => ({ label: String(one), apply: String(one) }));
  if (own.type !== "string") return [];
  return named(schema.description ?? own.description ?? "").map((label) => ({
    label,
    apply: label,
  }));
}
