// The YAML editor: CodeMirror, with faults marked while one types and fields proposed.
//
// Its styles come in as style elements with the nonce of this answer (see `csp.ts`); it sets
// the rest by properties, which the page's policy lets be.

import {
  autocompletion,
  type Completion,
  type CompletionContext,
  type CompletionResult,
  completionKeymap,
} from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import {
  bracketMatching,
  foldGutter,
  foldKeymap,
  HighlightStyle,
  indentOnInput,
  indentUnit,
  syntaxHighlighting,
} from "@codemirror/language";
import { lintGutter, lintKeymap, setDiagnostics } from "@codemirror/lint";
import { highlightSelectionMatches, search, searchKeymap } from "@codemirror/search";
import { Annotation, Compartment, EditorState } from "@codemirror/state";
import {
  drawSelection,
  highlightActiveLine,
  highlightActiveLineGutter,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { EditorView } from "codemirror";
import { type RefObject, useEffect, useImperativeHandle, useRef } from "react";
import { type Key, useWords, type Words } from "../i18n";
import { placeAt, type Suggestion, suggestions } from "./complete";
import type { Problem } from "./manifest";
import { say } from "./say";
import type { GroupSchemas } from "./schemas";

export interface EditorHandle {
  /** Moves the cursor there, shows it and takes the focus. */
  goTo: (position: number) => void;
}

export interface Knowledge {
  schemasOf: (apiVersion: string) => Promise<GroupSchemas | undefined>;
  /** Kinds by `apiVersion`, for the first two fields. */
  kinds: [string, string][];
}

const LOOK = EditorView.theme({
  "&": { height: "100%", backgroundColor: "#fff", color: "#1c2733", fontSize: "12px" },
  "&.cm-focused": { outline: "2px solid #2a7dbd", outlineOffset: "-2px" },
  ".cm-scroller": {
    fontFamily:
      'ui-monospace, "SF Mono", "DejaVu Sans Mono", "Noto Sans Mono CJK SC", Consolas, monospace',
    lineHeight: "1.5",
  },
  ".cm-gutters": { backgroundColor: "#f6f8fa", color: "#5a6875", borderRight: "1px solid #e1e7ec" },
  ".cm-activeLine": { backgroundColor: "#f3f7fa80" },
  ".cm-activeLineGutter": { backgroundColor: "#e9f1f7" },
  ".cm-tooltip": { border: "1px solid #c3ccd5", borderRadius: "4px", backgroundColor: "#fff" },
  ".cm-tooltip-autocomplete > ul": { maxHeight: "16em" },
  ".cm-tooltip-autocomplete > ul > li": { padding: "2px 8px" },
  ".cm-tooltip-autocomplete > ul > li[aria-selected]": {
    backgroundColor: "#0b4a78",
    color: "#fff",
  },
  ".cm-completionDetail": { color: "#5a6875", fontStyle: "normal", marginLeft: "12px" },
  "li[aria-selected] .cm-completionDetail": { color: "#d9e5ee" },
  ".cm-completionInfo": { maxWidth: "360px", padding: "8px 12px", whiteSpace: "pre-wrap" },
  ".cm-panel.cm-search": { padding: "6px 12px", fontSize: "12px" },
  ".cm-panel.cm-search label": { fontSize: "12px" },
  ".cm-textfield": {
    fontSize: "12px",
    padding: "2px 8px",
    border: "1px solid #c3ccd5",
    borderRadius: "4px",
    backgroundColor: "#fff",
  },
  ".cm-button": {
    fontSize: "12px",
    padding: "2px 10px",
    border: "1px solid #c3ccd5",
    borderRadius: "4px",
    backgroundColor: "#fff",
    backgroundImage: "none",
  },
  ".cm-button:active": { backgroundImage: "none", backgroundColor: "#e9f1f7" },
  ".cm-panels-top": { borderBottom: "1px solid #e1e7ec" },
  ".cm-panels": { backgroundColor: "#f6f8fa", color: "#1c2733" },
  ".cm-foldPlaceholder": { backgroundColor: "#e9f1f7", border: "1px solid #b8d2e4" },
});

const COLOURS = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "#0b4a78" },
  { tag: tags.string, color: "#1a6b3c" },
  { tag: [tags.content, tags.attributeValue], color: "#1c2733" },
  { tag: tags.comment, color: "#5a6875", fontStyle: "italic" },
  { tag: [tags.keyword, tags.meta, tags.labelName, tags.typeName], color: "#7a3e9d" },
  { tag: [tags.punctuation, tags.separator, tags.squareBracket, tags.brace], color: "#5a6875" },
]);

/** The editor's own words, by what it calls them. */
const PHRASES: Record<string, Key> = {
  "Control character": "editor.control",
  "Selection deleted": "editor.deleted",
  "Folded lines": "editor.folded",
  "Unfolded lines": "editor.unfolded",
  "folded code": "editor.foldedCode",
  unfold: "editor.unfold",
  "Fold line": "editor.fold",
  "Unfold line": "editor.unfold",
  Completions: "editor.completions",
  Diagnostics: "editor.problems",
  "No diagnostics": "editor.noProblems",
  Find: "editor.find",
  Replace: "editor.replaceWith",
  next: "editor.next",
  previous: "editor.previous",
  all: "editor.all",
  "match case": "editor.case",
  regexp: "editor.regexp",
  "by word": "editor.word",
  replace: "editor.replace",
  "replace all": "editor.replaceAll",
  close: "common.close",
  "current match": "editor.current",
  "replaced $ matches": "editor.replacedMany",
  "replaced match on line $": "editor.replacedOne",
  "on line": "editor.onLine",
  "Go to line": "editor.goTo",
  go: "editor.go",
  to: "editor.to",
};

/** What came from the form and not from the keys. */
const FromOutside = Annotation.define<boolean>();

function offered(one: Suggestion, key: boolean): Completion {
  return {
    label: one.label,
    detail: one.detail,
    info: one.info,
    type: key ? "property" : "constant",
    apply: one.apply,
  };
}

const headOf = (text: string, position: number, name: string): string => {
  const before = text.lastIndexOf("\n---", position - 1);
  const after = text.indexOf("\n---", position);
  const own = text.slice(before === -1 ? 0 : before + 4, after === -1 ? text.length : after);
  return new RegExp(`^${name}:\\s*["']?([^\\s"'#]+)`, "m").exec(own)?.[1] ?? "";
};

async function propose(
  context: CompletionContext,
  knowledge: Knowledge,
): Promise<CompletionResult | null> {
  const text = context.state.doc.toString();
  const place = placeAt(text, context.pos);
  if (!place) return null;
  if (!context.explicit && place.typed === "" && place.want === "key") return null;
  const apiVersion = headOf(text, context.pos, "apiVersion");
  const kind = headOf(text, context.pos, "kind");
  const answer = (options: Completion[]): CompletionResult => ({
    from: place.from,
    options,
    validFor: /^[\w./$-]*$/,
  });
  if (place.path.join() === "apiVersion" && place.want === "value") {
    const all = new Set(
      knowledge.kinds.filter((one) => !kind || one[1] === kind).map(([own]) => own),
    );
    return answer([...all].map((label) => ({ label, type: "constant" })));
  }
  if (place.path.join() === "kind" && place.want === "value") {
    const all = knowledge.kinds.filter(([own]) => !apiVersion || own === apiVersion);
    return answer(all.map(([own, label]) => ({ label, detail: own, type: "constant" })));
  }
  const group = apiVersion
    ? await knowledge.schemasOf(apiVersion).catch(() => undefined)
    : undefined;
  const served = group?.kinds.get(kind);
  if (!group || !served) {
    if (place.path.length > 0 || place.want !== "key") return null;
    const names = ["apiVersion", "kind", "metadata"].filter((name) => !place.siblings.has(name));
    return answer(names.map((label) => ({ label, apply: `${label}: `, type: "property" })));
  }
  const found = suggestions(place, group, served.schema);
  return answer(found.map((one) => offered(one, place.want === "key")));
}

/** The smallest stretch that makes one text the other. */
function difference(old: string, next: string): { from: number; to: number; insert: string } {
  let from = 0;
  const most = Math.min(old.length, next.length);
  while (from < most && old[from] === next[from]) from += 1;
  let back = 0;
  while (back < most - from && old[old.length - 1 - back] === next[next.length - 1 - back])
    back += 1;
  return { from, to: old.length - back, insert: next.slice(from, next.length - back) };
}

function diagnostics(problems: Problem[], length: number, words: Words) {
  return problems.map((one) => {
    const from = Math.min(one.from, length);
    return {
      from,
      to: Math.min(Math.max(one.to, from), length),
      severity: "error" as const,
      message: say(one, words.t),
    };
  });
}

export default function Editor({
  text,
  onText,
  onCursor,
  problems,
  knowledge,
  handle,
}: {
  text: string;
  onText: (text: string) => void;
  onCursor: (position: number) => void;
  /** Of this very text; else nothing is known yet. */
  problems?: Problem[];
  knowledge: Knowledge;
  handle: RefObject<EditorHandle | null>;
}) {
  const words = useWords();
  const frame = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView>(undefined);
  const spoken = useRef(new Compartment());
  const latest = useRef({ onText, onCursor, knowledge });
  latest.current = { onText, onCursor, knowledge };
  const first = useRef(text);

  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const editor = new EditorView({
      parent: element,
      state: EditorState.create({
        doc: first.current,
        extensions: [
          lineNumbers(),
          lintGutter(),
          foldGutter(),
          history(),
          drawSelection(),
          highlightActiveLine(),
          highlightActiveLineGutter(),
          indentOnInput(),
          bracketMatching(),
          highlightSelectionMatches(),
          search({ top: true }),
          indentUnit.of("  "),
          yaml(),
          syntaxHighlighting(COLOURS),
          LOOK,
          autocompletion({
            override: [(context) => propose(context, latest.current.knowledge)],
            activateOnCompletion: (one) => one.type === "property",
            icons: false,
          }),
          keymap.of([
            ...completionKeymap,
            ...searchKeymap,
            ...historyKeymap,
            ...foldKeymap,
            ...lintKeymap,
            ...defaultKeymap,
            indentWithTab,
          ]),
          spoken.current.of([]),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) {
              const ours = update.transactions.some((one) => one.annotation(FromOutside));
              if (!ours) latest.current.onText(update.state.doc.toString());
            }
            if (update.selectionSet || update.docChanged) {
              latest.current.onCursor(update.state.selection.main.head);
            }
          }),
        ],
      }),
    });
    view.current = editor;
    return () => {
      view.current = undefined;
      editor.destroy();
    };
  }, []);

  useEffect(() => {
    const phrases = Object.fromEntries(
      Object.entries(PHRASES).map(([own, key]) => [own, words.t(key)]),
    );
    view.current?.dispatch({
      effects: spoken.current.reconfigure([
        EditorState.phrases.of(phrases),
        EditorView.contentAttributes.of({ "aria-label": words.t("deploy.editor"), tabindex: "0" }),
      ]),
    });
  }, [words]);

  useEffect(() => {
    const editor = view.current;
    if (!editor) return;
    const old = editor.state.doc.toString();
    if (old === text) return;
    const annotations = FromOutside.of(true);
    editor.dispatch({ changes: difference(old, text), annotations });
  }, [text]);

  useEffect(() => {
    const editor = view.current;
    if (!editor || !problems) return;
    const found = diagnostics(problems, editor.state.doc.length, words);
    editor.dispatch(setDiagnostics(editor.state, found));
  }, [problems, words]);

  useImperativeHandle(handle, () => ({
    goTo: (position) => {
      const editor = view.current;
      if (!editor) return;
      const anchor = Math.min(position, editor.state.doc.length);
      editor.dispatch({
        selection: { anchor },
        effects: EditorView.scrollIntoView(anchor, { y: "center" }),
      });
      editor.focus();
    },
  }));

  return <div className="editor" ref={frame} />;
}
