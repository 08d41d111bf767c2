// What applying would change, object by object; what is refused, and whose fields are in the
// way.

import { Alert, Checkbox } from "antd";
import { useMemo } from "react";
import type { ApiError } from "../api/http";
import { type Key, useWords } from "../i18n";
import { Dot } from "../parts/state-tag";
import { Failed } from "../parts/states";
import type { Compared, Target } from "./cluster";
import { diff, hunks } from "./diff";

export const titleOf = ({ served, namespace, name }: Target): string =>
  `${served.kind} ${namespace ? `${namespace}/` : ""}${name}`;

/** Nothing is found where the namespace is not there: there is no list to go back to. */
export const todoOf = (error: ApiError): Key | undefined =>
  error.code === 404 ? "deploy.noPlace" : undefined;

const TONES = {
  create: "good",
  change: "busy",
  same: "calm",
  waits: "warn",
  refused: "bad",
} as const;

function Difference({ before, after, label }: { before: string; after: string; label: string }) {
  const { t, n } = useWords();
  const found = useMemo(() => hunks(diff(before, after)), [before, after]);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a frame that scrolls must have the focus
    <section className="diff" aria-label={label} tabIndex={0}>
      {found.map((hunk, number) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the same texts have the same hunks
        <div key={number}>
          {hunk.skipped > 0 && (
            <div className="skipped">{t("deploy.skipped", { count: n(hunk.skipped) })}</div>
          )}
          {hunk.lines.map((line, at) => (
            <div
              // biome-ignore lint/suspicious/noArrayIndexKey: the same texts have the same lines
              key={at}
              className={line.sign === "+" ? "comes" : line.sign === "-" ? "goes" : undefined}
            >
              <span className="sign">{line.sign}</span>
              {line.text}
            </div>
          ))}
        </div>
      ))}
    </section>
  );
}

function One({
  of,
  forced,
  onForce,
}: {
  of: Compared;
  forced: boolean;
  onForce: (on: boolean) => void;
}) {
  const { t } = useWords();
  const title = titleOf(of.target);
  return (
    <li className="compared">
      <div className="compared-head">
        <h3>{title}</h3>
        <Dot tone={TONES[of.state]} text={t(`deploy.state.${of.state}` as Key)} />
        {(of.conflicts.length > 0 || forced) && (
          <Checkbox checked={forced} onChange={(event) => onForce(event.target.checked)}>
            {t("deploy.takeOver")}
          </Checkbox>
        )}
      </div>
      {of.conflicts.length > 0 ? (
        <Alert
          type="warning"
          showIcon
          title={t("deploy.conflict")}
          description={
            <ul>
              {of.conflicts.map(({ field, manager }) => (
                <li key={`${field} ${manager}`}>{t("deploy.heldBy", { field, manager })}</li>
              ))}
            </ul>
          }
        />
      ) : (
        of.error && <Failed error={of.error} todo={todoOf(of.error)} />
      )}
      {of.state === "waits" && <p className="soft">{t("deploy.waitsHint")}</p>}
      {of.before !== of.after && (
        <Difference before={of.before} after={of.after} label={t("deploy.difference", { title })} />
      )}
    </li>
  );
}

export function Comparison({
  all,
  forced,
  onForce,
}: {
  all: Compared[];
  forced: Set<string>;
  onForce: (id: string, on: boolean) => void;
}) {
  return (
    <ul className="plain stack">
      {all.map((one) => (
        <One
          key={one.target.id}
          of={one}
          forced={forced.has(one.target.id)}
          onForce={(on) => onForce(one.target.id, on)}
        />
      ))}
    </ul>
  );
}
