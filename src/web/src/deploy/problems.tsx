// Every problem of the text with its line; a click goes there.

import { Button } from "antd";
import { useMemo } from "react";
import { useWords } from "../i18n";
import { reasonOf } from "../parts/states";
import { lineOf, type Problem } from "./manifest";
import { say } from "./say";

const SHOWN_MAX = 200;

export function Problems({
  text,
  problems,
  error,
  again,
  busy,
  onGo,
}: {
  text: string;
  problems: Problem[];
  /** Why the schemas could not be read. */
  error?: unknown;
  again: () => void;
  busy: boolean;
  onGo: (position: number) => void;
}) {
  const words = useWords();
  const { t, n } = words;
  const lines = useMemo(() => text.split("\n").length, [text]);
  const shown = useMemo(
    () => problems.slice(0, SHOWN_MAX).map((one) => ({ ...one, line: lineOf(text, one.from) })),
    [problems, text],
  );
  // What was checked in half is not well.
  const tone = problems.length > 0 ? "bad" : error !== undefined ? "warn" : busy ? "calm" : "good";
  return (
    <section className="problems" aria-label={t("editor.problems")} aria-busy={busy}>
      <p role="status" className={`dot ${tone}`}>
        {problems.length > 0
          ? t("deploy.problems", { count: n(problems.length), lines: n(lines) })
          : busy
            ? t("deploy.checking", { lines: n(lines) })
            : error !== undefined
              ? t("deploy.noSchemas", { message: reasonOf(error, words).reason })
              : t("deploy.noProblems", { lines: n(lines) })}
      </p>
      {error !== undefined && (
        <p>
          <Button size="small" onClick={again}>
            {t("error.retry")}
          </Button>
        </p>
      )}
      {shown.length > 0 && (
        <ul>
          {shown.map((one) => (
            <li key={`${one.from} ${one.key} ${JSON.stringify(one.values ?? {})}`}>
              <Button type="link" size="small" onClick={() => onGo(one.from)}>
                {t("deploy.line", { line: one.line })}
              </Button>
              <span>{say(one, t)}</span>
            </li>
          ))}
          {problems.length > shown.length && (
            <li>{t("overview.andMore", { count: n(problems.length - shown.length) })}</li>
          )}
        </ul>
      )}
    </section>
  );
}
