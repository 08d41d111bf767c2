// Deploy: a form and the YAML beside each other, what it would change, and how it goes.
//
//   write ─► check while typing ─► compare (dry run) ─► apply ─► follow until ready
//
// Invariant: only what was compared can be applied: another text makes the comparison void.

import "../deploy/deploy.css";
import { Alert, Button, Segmented, Select } from "antd";
import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { collection, NAMESPACES } from "../api/kinds";
import { alone, useRunning } from "../deploy/alone";
import { type Checked, check } from "../deploy/check";
import { type Applied, apply, type Compared, compare, repeated, targets } from "../deploy/cluster";
import { Comparison } from "../deploy/compare";
import type { EditorHandle, Knowledge } from "../deploy/editor";
import { Followed } from "../deploy/follow";
import { Form } from "../deploy/form";
import { hasForm } from "../deploy/forms";
import { type Problem, parse, partAt, placeOf } from "../deploy/manifest";
import { Problems } from "../deploy/problems";
import { forgetSchemas, schemasOf } from "../deploy/served";
import { TEMPLATES, type Template } from "../deploy/templates";
import { draftOf, keepDraft } from "../draft";
import { type Key, useWords } from "../i18n";
import { Ask, type Question } from "../parts/act";
import { PageHead, Panel } from "../parts/frame";
import { useLive, useSession } from "../parts/hooks";
import { useKinds } from "../parts/kinds-context";
import { Loading } from "../parts/states";
import { current, subscribe } from "../session";

const Editor = lazy(() => import("../deploy/editor"));
const QUIET_MS = 200;
const FILE_MAX = 1_000_000;

/** The text and everything that is known about it, and a way to ask again. */
function useChecked(text: string): [Checked | undefined, () => void] {
  const [checked, setChecked] = useState<Checked>();
  const [round, setRound] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new round checks again
  useEffect(() => {
    let current = true;
    const timer = setTimeout(() => {
      void check(text, schemasOf)
        // A text that cannot be judged is told as such, and is not checked for ever.
        .catch((error: unknown) => ({ text, parts: [], problems: [], kinds: new Map(), error }))
        .then((found) => {
          if (current) setChecked(found);
        });
    }, QUIET_MS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [text, round]);
  return [checked?.text === text ? checked : undefined, () => setRound((old) => old + 1)];
}

interface Round {
  /** Of this text and namespace. */
  text: string;
  namespace: string;
  compared?: Compared[];
  applied?: Applied[];
  busy: boolean;
}

/** What the server refuses, as problems at the fields that it names. */
function refused(compared: Compared[]): Problem[] {
  return compared.flatMap(({ target, error, conflicts }): Problem[] => {
    if (!error) return [];
    if (conflicts.length > 0) {
      return conflicts.map(({ field, manager }) => ({
        ...placeOf(target.part, field),
        key: "deploy.heldBy",
        values: { field, manager },
      }));
    }
    const fields = error.fields.length > 0 ? error.fields : [{ field: "", message: error.message }];
    return fields.map(({ field, message }) => ({
      ...placeOf(target.part, field),
      key: "deploy.serverSays",
      values: { message: [field, message].filter(Boolean).join(": ") },
    }));
  });
}

function NamespaceChoice({ value, onChange }: { value: string; onChange: (ns: string) => void }) {
  const { t } = useWords();
  const found = useLive({ path: collection(NAMESPACES) });
  const names = new Set([...found.items.map((one) => one.metadata.name), value]);
  return (
    <Select
      className="namespace"
      showSearch
      aria-label={t("deploy.namespace")}
      value={value}
      onChange={onChange}
      options={[...names].sort().map((name) => ({ value: name, label: name }))}
    />
  );
}

/** Templates and files; what is there already is replaced only when that is meant. */
function Begin({ empty, onText }: { empty: boolean; onText: (text: string) => void }) {
  const { t } = useWords();
  const [question, setQuestion] = useState<Question>();
  const begin = (next: string) => {
    if (empty) return onText(next);
    setQuestion({
      title: t("deploy.replaceTitle"),
      text: t("deploy.replaceText"),
      ok: t("deploy.replace"),
      run: async () => onText(next),
      done: t("deploy.replaced"),
    });
  };
  const picker = useRef<HTMLInputElement>(null);
  const [tooLarge, setTooLarge] = useState(false);
  const open = async (file: File | undefined) => {
    setTooLarge(file !== undefined && file.size > FILE_MAX);
    if (file && file.size <= FILE_MAX) {
      // The editor ends its lines with \n alone, and places are counted in the same text.
      begin((await file.text()).replace(/\r\n?/g, "\n"));
    }
  };
  return (
    <>
      {(Object.keys(TEMPLATES) as Template[]).map((name) => (
        <Button key={name} onClick={() => begin(TEMPLATES[name]("app"))}>
          {t(`deploy.template.${name}` as Key)}
        </Button>
      ))}
      <Button onClick={() => picker.current?.click()}>{t("deploy.open")}</Button>
      <input
        ref={picker}
        hidden
        type="file"
        accept=".yaml,.yml,.json,text/yaml,application/json"
        aria-label={t("deploy.open")}
        onChange={(event) => {
          void open(event.target.files?.[0]);
          event.target.value = "";
        }}
      />
      {tooLarge && <span role="alert">{t("deploy.tooLarge")}</span>}
      <Ask question={question} onClose={() => setQuestion(undefined)} />
    </>
  );
}

/** The form of the document where the cursor is, or of the one that was chosen. */
function FormSide({
  text,
  position,
  onText,
  onGo,
}: {
  text: string;
  position: number;
  onText: (text: string) => void;
  onGo: (position: number) => void;
}) {
  const { t } = useWords();
  const parts = useMemo(() => parse(text), [text]);
  const part = partAt(parts, position) ?? parts[0];
  if (!part) return <p className="soft">{t("deploy.formEmpty")}</p>;
  const label = (one: (typeof parts)[number]) => `${one.kind || t("common.unknown")} ${one.name}`;
  const number = parts.indexOf(part);
  return (
    <>
      {parts.length > 1 && (
        <Select
          className="documents"
          aria-label={t("deploy.document")}
          value={number}
          onChange={(chosen: number) => onGo(parts[chosen]?.from ?? 0)}
          options={parts.map((one, at) => ({ value: at, label: label(one) }))}
        />
      )}
      {part.problems.length > 0 ? (
        <Alert type="warning" showIcon title={t("deploy.formBroken")} />
      ) : hasForm(part.kind) ? (
        <Form text={text} part={part} onText={onText} />
      ) : (
        <p className="soft">{t("deploy.formNone", { kind: part.kind })}</p>
      )}
    </>
  );
}

/** Comparing and applying, one object after the other. */
function useRound(text: string, namespace: string, checked: Checked | undefined) {
  const [round, setRound] = useState<Round>();
  const [forced, setForced] = useState(new Set<string>());
  const running = useRunning();
  // What a comparison is for, as long as it is: another text or page makes it void.
  const wanted = `${namespace}\n${text}`;
  const latest = useRef<string>(undefined);
  useEffect(() => {
    latest.current = wanted;
    return () => {
      latest.current = undefined;
    };
  }, [wanted]);
  const valid = round && round.text === text && round.namespace === namespace;

  const compareAll = (force: Set<string>) =>
    alone("comparing", async () => {
      if (!checked) return;
      setForced(force);
      const all = targets(checked, namespace);
      setRound({ text, namespace, busy: true });
      const compared: Compared[] = [];
      for (const target of all) {
        if (latest.current !== wanted) return setRound(undefined);
        compared.push(await compare(target, all, force.has(target.id)));
      }
      setRound((old) =>
        old?.text === text && old.namespace === namespace ? { ...old, compared, busy: false } : old,
      );
    });
  const applyAll = (compared: Compared[]) =>
    alone("applying", async () => {
      // It goes on while one looks at other pages, but never as somebody else.
      const cut = new AbortController();
      const user = current().session?.user;
      const leave = subscribe(() => {
        const { session } = current();
        if (!session?.signedIn || session.user !== user) cut.abort();
      });
      const applied: Applied[] = [];
      const tell = (busy: boolean) =>
        setRound({ text, namespace, compared, applied: [...applied], busy });
      tell(true);
      try {
        for (const one of compared) {
          if (cut.signal.aborted) break;
          const { target } = one;
          applied.push(await apply(one, forced.has(target.id), cut.signal));
          if (target.served.kind === "CustomResourceDefinition") forgetSchemas();
          tell(true);
        }
      } finally {
        leave();
        tell(false);
      }
    });
  const again = () => {
    setRound(undefined);
    setForced(new Set());
  };
  return {
    round: valid ? round : undefined,
    last: round,
    running,
    forced,
    compareAll,
    applyAll,
    again,
  };
}

function Outcome({
  of,
  checked,
}: {
  of: ReturnType<typeof useRound>;
  checked: Checked | undefined;
}) {
  const { t, n } = useWords();
  const { last, running, forced, compareAll, applyAll } = of;
  // What was applied stays in sight while one goes on writing.
  const round = of.round ?? (last?.applied ? last : undefined);
  if (!round) return null;
  const { compared, applied } = round;
  if (applied) return <Followed all={applied} />;
  if (!compared) return <Loading />;
  const ready = compared.every((one) => one.state !== "refused");
  const effective = compared.filter((one) => one.state !== "same").length;
  return (
    <Panel
      wide
      title={t("deploy.comparison")}
      more={
        <Button
          type="primary"
          disabled={!ready || effective === 0 || running !== undefined || !checked}
          onClick={() => void applyAll(compared)}
        >
          {t("deploy.apply", { count: n(effective) })}
        </Button>
      }
    >
      {effective === 0 && <p className="soft">{t("deploy.nothingChanges")}</p>}
      <Comparison
        all={compared}
        forced={forced}
        onForce={(id, on) => {
          const next = new Set(forced);
          if (on) next.add(id);
          else next.delete(id);
          void compareAll(next);
        }}
      />
    </Panel>
  );
}

export default function Deploy() {
  const { t } = useWords();
  const session = useSession();
  const kinds = useKinds();
  const user = session.user ?? "";
  const draft = draftOf(user);
  const [text, setText] = useState(draft?.text ?? "");
  const [namespace, setNamespace] = useState(draft?.namespace ?? "default");
  const [position, setPosition] = useState(0);
  const [view, setView] = useState<"both" | "form" | "yaml">("both");
  const editor = useRef<EditorHandle>(null);
  const [checked, checkAgain] = useChecked(text);
  const of = useRound(text, namespace, checked);
  const { round, running, compareAll, again } = of;
  const applied = round?.applied !== undefined && !round.busy;

  useEffect(() => forgetSchemas(), []);
  useEffect(() => {
    // React may come here late, when the session is over and the draft is forgotten.
    if (current().session?.signedIn) keepDraft({ user, text, namespace });
  }, [user, text, namespace]);
  const goTo = useCallback((at: number) => {
    setPosition(at);
    editor.current?.goTo(at);
  }, []);
  const knowledge: Knowledge = useMemo(
    () => ({
      schemasOf,
      kinds: kinds.map(({ group, version, kind }) => [
        group ? `${group}/${version}` : version,
        kind,
      ]),
    }),
    [kinds],
  );
  const twice = useMemo(() => (checked ? repeated(checked, namespace) : []), [checked, namespace]);
  const problems = useMemo(() => {
    if (!checked) return undefined;
    const server = refused(round?.applied ? [] : (round?.compared ?? []));
    const own = [...checked.problems, ...twice, ...server];
    return own.sort((a, b) => a.from - b.from);
  }, [checked, twice, round]);
  const empty = text.trim() === "";
  // Every document, or none: what could not be judged must not be left out in silence.
  const whole = checked !== undefined && checked.kinds.size === checked.parts.length;
  const well = whole && checked.problems.length + twice.length === 0 && checked.parts.length > 0;

  return (
    <>
      <PageHead title={t("deploy.title")}>
        <Begin
          empty={text.trim() === "" || applied}
          onText={(next) => {
            setText(next);
            setPosition(0);
            again();
          }}
        />
      </PageHead>
      <div className="filters">
        <span className="soft">{t("deploy.into")}</span>
        <NamespaceChoice value={namespace} onChange={setNamespace} />
        <Segmented
          className="views"
          value={view}
          onChange={setView}
          aria-label={t("deploy.view")}
          options={(["both", "form", "yaml"] as const).map((value) => ({
            value,
            label: t(`deploy.view.${value}` as Key),
          }))}
        />
        <span className="grow" />
        <Button
          type="primary"
          disabled={!well || running !== undefined}
          loading={running !== undefined}
          onClick={() => void compareAll(new Set())}
        >
          {t("deploy.compare")}
        </Button>
      </div>
      <div className={`beside ${view}`}>
        <section className="panel form-side" aria-label={t("deploy.view.form")}>
          <div className="panel-body">
            <FormSide text={text} position={position} onText={setText} onGo={goTo} />
          </div>
        </section>
        <section className="panel editor-side" aria-label={t("deploy.editor")}>
          <Suspense fallback={<Loading />}>
            <Editor
              text={text}
              onText={setText}
              onCursor={setPosition}
              problems={problems}
              knowledge={knowledge}
              handle={editor}
            />
          </Suspense>
          <p className="soft hint">{t("deploy.keys")}</p>
        </section>
      </div>
      {!empty && (
        <Problems
          text={text}
          problems={problems ?? []}
          error={checked?.error}
          again={checkAgain}
          busy={checked === undefined}
          onGo={goTo}
        />
      )}
      <Outcome of={of} checked={checked} />
    </>
  );
}
