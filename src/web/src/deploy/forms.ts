// The form's side of a text: what it shows is read from the text, and what is entered is
// written into it, so that form and editor can never disagree.

import {
  type Document,
  isMap,
  isScalar,
  isSeq,
  type Pair,
  type Scalar,
  type ToStringOptions,
} from "yaml";
import { type Part, parse } from "./manifest";

export type Path = (string | number)[];

/** Where the pods' template stands in each kind that a form is for. */
const POD: Record<string, Path> = {
  Deployment: ["spec", "template"],
  StatefulSet: ["spec", "template"],
  DaemonSet: ["spec", "template"],
  ReplicaSet: ["spec", "template"],
  Job: ["spec", "template"],
  CronJob: ["spec", "jobTemplate", "spec", "template"],
};

export const podOf = (kind: string): Path | undefined => (kind === "Pod" ? [] : POD[kind]);

export const hasForm = (kind: string): boolean =>
  podOf(kind) !== undefined || ["Service", "ConfigMap", "Namespace"].includes(kind);

export const read = (part: Part, path: Path): unknown => {
  const found = part.document.getIn(path, true);
  if (isScalar(found)) return found.value;
  return isMap(found) || isSeq(found) ? found.toJS(part.document) : undefined;
};

export const readText = (part: Part, path: Path): string => {
  const found = read(part, path);
  return typeof found === "string" || typeof found === "number" || typeof found === "boolean"
    ? String(found)
    : "";
};

export const readList = (part: Part, path: Path): unknown[] => {
  const found = read(part, path);
  return Array.isArray(found) ? found : [];
};

/** As the text is written already. */
function style(text: string): ToStringOptions {
  return {
    lineWidth: 0,
    nullStr: "",
    indentSeq: !/^( *)[^\s#-][^#\n]*:[ \t]*\n\1- /m.test(text),
    flowCollectionPadding: !/[{[][^\s{}[\]][^\n]*[}\]]/.test(text),
  };
}

/** Takes away what has become empty above a field that was taken away. */
function prune(document: Document, path: Path): void {
  for (let depth = path.length; depth > 1; depth -= 1) {
    const above = path.slice(0, depth - 1);
    const holder = document.getIn(above, true);
    const empty = (isMap(holder) || isSeq(holder)) && holder.items.length === 0;
    if (!empty) return;
    document.deleteIn(above);
  }
}

/** The whole text with a change in one of its documents. */
export function change(text: string, part: Part, work: (document: Document) => void): string {
  // The part's own tree is what is shown; it must not change before the text does.
  const own = text.slice(part.from, part.to);
  const [fresh] = parse(own);
  if (!fresh) return text;
  work(fresh.document as unknown as Document);
  const written = fresh.document.toString(style(own));
  return text.slice(0, part.from) + written + text.slice(part.to);
}

function put(scalar: Scalar, value: unknown): void {
  // Quotes around nothing were there because it was nothing.
  if (scalar.value === "") scalar.type = "PLAIN";
  scalar.value = value;
}

/** Sets a field; `undefined` takes it away, with what was only there for it. */
export function write(text: string, part: Part, path: Path, value: unknown): string {
  return change(text, part, (document) => {
    if (value === undefined) {
      if (!document.hasIn(path)) return;
      document.deleteIn(path);
      prune(document, path);
      return;
    }
    const before = document.getIn(path, true);
    // A scalar keeps its comment, and its quotes where they are needed.
    if (isScalar(before) && (typeof value !== "object" || value === null)) {
      put(before, value);
    } else document.setIn(path, document.createNode(value));
  });
}

/** Fields that repeat an object's name by habit. */
function sayName(document: Document, old: string, name: string): void {
  const same = (path: Path) => {
    const found = document.getIn(path, true);
    if (isScalar(found) && String(found.value ?? "") === old) put(found, name);
  };
  const values = (path: Path) => {
    const found = document.getIn(path, true);
    for (const pair of isMap(found) ? (found.items as Pair[]) : []) {
      if (isScalar(pair.key)) same([...path, String(pair.key.value)]);
    }
  };
  same(["metadata", "name"]);
  same(["spec", "serviceName"]);
  values(["metadata", "labels"]);
  values(["spec", "selector"]);
  values(["spec", "selector", "matchLabels"]);
  for (const pod of [POD.Deployment ?? [], POD.CronJob ?? []]) {
    values([...pod, "metadata", "labels"]);
    same([...pod, "spec", "containers", 0, "name"]);
  }
}

/**
 * Gives a workload another name, and the Service of the same name beside it.
 *
 * Nothing is no name: what is empty elsewhere must not become what is typed next, and the
 * Service would lose whose it is. Where two workloads share the name it is nobody's alone.
 */
export function rename(text: string, own: Part, to: string): string {
  const { name, namespace } = own;
  if (own.problems.length > 0) return text;
  if (name === "" || to === "") return write(text, own, ["metadata", "name"], to);
  const same = parse(text).filter(
    (part) => part.from !== own.from && part.name === name && part.namespace === namespace,
  );
  const shared = same.some((part) => podOf(part.kind) !== undefined);
  const services = same.filter(
    (part) => part.kind === "Service" && part.problems.length === 0 && !shared,
  );
  const concerned = [own, ...services].sort((a, b) => a.from - b.from);
  // From the end, so that the places of those before it stay.
  return concerned.reduceRight(
    (all, part) => change(all, part, (document) => sayName(document, name, to)),
    text,
  );
}

/** `a "b c" d` as a list of words, and back. */
export function wordsOf(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|(\S+)/g)].map(
    (found) => found[1]?.replace(/\\(.)/g, "$1") ?? found[2] ?? found[3] ?? "",
  );
}

export const lineOfWords = (words: unknown[]): string =>
  words
    .map(String)
    .map((word) =>
      word === "" || /[\s"'\\]/.test(word) ? `"${word.replace(/["\\]/g, "\\$&")}"` : word,
    )
    .join(" ");
