// What is wrong with a document as YAML, told where a person has to mend it.
//
// Why not as the reader tells it: it notices a quote that is not closed at the end of the
// text, and a line that is too deep at the line before it. Of faults of the structure only
// the first is told: the others follow from it.

import {
  type Document,
  isAlias,
  isCollection,
  isScalar,
  type Node,
  visit,
  type YAMLError,
} from "yaml";
import type { Key } from "../i18n";

export interface YamlFault {
  /** Offsets in the document's own text. */
  from: number;
  to: number;
  key: Key;
  values?: Record<string, string>;
}

const WORDS: Record<string, Key> = {
  BAD_DQ_ESCAPE: "yaml.escape",
  BAD_INDENT: "yaml.indent",
  BAD_SCALAR_START: "yaml.start",
  BLOCK_AS_IMPLICIT_KEY: "yaml.nested",
  DUPLICATE_KEY: "yaml.twice",
  MULTILINE_IMPLICIT_KEY: "yaml.colon",
  TAB_AS_INDENT: "yaml.tab",
  UNEXPECTED_TOKEN: "yaml.after",
};
/** These do not make what stands after them unreadable. */
const ALONE = new Set(["DUPLICATE_KEY", "BAD_DQ_ESCAPE"]);

/** As the reader's own bound; see its `maxAliasCount`. */
export const ALIASES_MAX = 100;

const start = (node: Node): number => node.range?.[0] ?? 0;
const end = (node: Node): number => node.range?.[1] ?? 0;

function find(document: Document, fits: (node: Node) => boolean): Node | undefined {
  let found: Node | undefined;
  visit(document, {
    Node: (_, node) => {
      if (fits(node as Node)) found = node as Node;
    },
  });
  return found;
}

/** The first line of a stretch, without what stands around it. */
function line(text: string, from: number): { from: number; to: number } {
  const next = text.indexOf("\n", from);
  return { from, to: next === -1 ? text.length : next };
}

/** A text in quotes that is not closed, or goes on over lines into the place of the error. */
function openQuote(document: Document, text: string, error: YAMLError): number | undefined {
  const at = Math.min(error.pos[0], text.length);
  const open = error.message.startsWith("Missing closing");
  const node = find(document, (one) => {
    if (!isScalar(one) || !one.type?.startsWith("QUOTE_")) return false;
    const own = text.slice(start(one), end(one));
    return (
      (open || own.includes("\n")) && end(one) <= at + 1 && !text.slice(end(one), at).includes("\n")
    );
  });
  return node && start(node);
}

function structural(document: Document, text: string, errors: YAMLError[]): YamlFault | undefined {
  const [error] = errors;
  if (!error) return undefined;
  const at = Math.min(error.pos[0], Math.max(0, text.length - 1));
  const quote = openQuote(document, text, error);
  if (quote !== undefined) return { ...line(text, quote), key: "yaml.quote" };
  const bracket =
    /^Flow (?:sequence|map)|must end with|Missing , /.test(error.message) &&
    find(document, (one) => isCollection(one) && one.flow === true && start(one) < at);
  if (bracket && text.slice(start(bracket), at).includes("\n")) {
    return { ...line(text, start(bracket)), key: "yaml.bracket" };
  }
  const deeper =
    error.code === "BLOCK_AS_IMPLICIT_KEY" &&
    errors.find((one) => one.code === "MULTILINE_IMPLICIT_KEY" && one.pos[0] === error.pos[0]);
  if (deeper) {
    // A value, and below it a key that is too deep: the key is what is wrong.
    const next = text.indexOf("\n", at) + 1;
    const indent = /^\s*/.exec(text.slice(next))?.[0].length ?? 0;
    return { ...line(text, next + indent), key: "yaml.indent" };
  }
  const key = WORDS[error.code] ?? "yaml.other";
  const message = error.message.replace(/ at line \d+.*/s, "");
  const plain = error.message.startsWith("Sequence item without") ? "yaml.indent" : key;
  const first = at + (/^\s*/.exec(text.slice(at))?.[0].replace(/\n.*/s, "").length ?? 0);
  return { ...line(text, Math.min(first, text.length)), key: plain, values: { message } };
}

export function yamlFaults(document: Document.Parsed, text: string): YamlFault[] {
  const found: YamlFault[] = document.errors
    .filter((error) => ALONE.has(error.code))
    .map((error) => ({
      from: error.pos[0],
      to: error.pos[1],
      key: WORDS[error.code] ?? "yaml.other",
    }));
  const rest = document.errors.filter((error) => !ALONE.has(error.code));
  const first = structural(document, text, rest);
  if (first) found.push(first);
  visit(document, {
    Alias: (_, node) => {
      if (!isAlias(node) || node.resolve(document)) return;
      const values = { name: node.source };
      found.push({ from: start(node), to: end(node), key: "yaml.alias", values });
    },
  });
  if (found.length === 0) found.push(...swollen(document));
  return found;
}

/** Aliases of aliases, of which a short text makes a value that fills the memory. */
function swollen(document: Document.Parsed): YamlFault[] {
  try {
    document.toJS({ maxAliasCount: ALIASES_MAX });
    return [];
  } catch (error) {
    const node = find(document, isAlias);
    const values = { message: error instanceof Error ? error.message : String(error) };
    return [{ from: node ? start(node) : 0, to: node ? end(node) : 0, key: "yaml.other", values }];
  }
}

/** Whether what the document says can be relied on in spite of the fault. */
export const harmless = (key: Key): boolean => key === "yaml.twice" || key === "yaml.escape";
