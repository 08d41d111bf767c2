// After applying: each object's result, its page, and how far it is until it is ready.

import { Link } from "wouter";
import { collection, EVENTS, PODS, pageOf, REPLICA_SETS } from "../api/kinds";
import { list, type Obj, selectorText, text } from "../api/objects";
import { type Key, useWords } from "../i18n";
import { EventTable, lastSeen } from "../parts/events";
import { Panel } from "../parts/frame";
import { useLive, useObject } from "../parts/hooks";
import { Dot } from "../parts/state-tag";
import { Failed } from "../parts/states";
import { type Applied, MANAGER } from "./cluster";
import { titleOf, todoOf } from "./compare";
import { ownedBy, progressOf } from "./progress";

const TONES = { done: "good", busy: "busy", failed: "bad" } as const;

/** When the server has applied it, by its own clock. */
function appliedAt(object: Obj): number {
  const times = list(object, "metadata.managedFields")
    .filter((one) => text(one, "manager") === MANAGER)
    .map((one) => Date.parse(text(one, "time")));
  return Math.max(0, ...times.filter((time) => !Number.isNaN(time)));
}

/** How far it is, followed. */
function Progress({ of }: { of: Applied }) {
  const { t } = useWords();
  const { served, namespace, name } = of.target;
  const { object, gone } = useObject(collection(served, namespace), name);
  const seen = object ?? of.object;
  if (!seen) return null;
  if (gone) return <Dot tone="bad" text={t("object.gone")} />;
  const since = appliedAt(of.object ?? seen);
  const { state, key, values } = progressOf(served.kind, seen);
  return (
    <>
      <Dot tone={TONES[state]} text={t(key, values)} />
      {namespace && <Happened object={seen} since={since} namespace={namespace} />}
    </>
  );
}

/** Warnings about the object and what it made, since it was applied. */
function Happened({ object, since, namespace }: { object: Obj; since: number; namespace: string }) {
  const labels = selectorText(object.spec?.selector);
  const chosen = labels !== "" && object.metadata.uid !== undefined;
  const pods = useLive(chosen ? { path: collection(PODS, namespace), labels } : undefined);
  const sets = useLive(chosen ? { path: collection(REPLICA_SETS, namespace), labels } : undefined);
  const events = useLive({ path: collection(EVENTS, namespace) });
  const owners = new Set([object.metadata.uid ?? ""]);
  for (const set of ownedBy(owners, sets.items)) owners.add(set.metadata.uid ?? "");
  for (const pod of ownedBy(owners, pods.items)) owners.add(pod.metadata.uid ?? "");
  const own = events.items.filter(
    (event) =>
      text(event, "type") === "Warning" &&
      owners.has(text(event, "involvedObject.uid")) &&
      Date.parse(lastSeen(event)) >= since,
  );
  if (own.length === 0) return null;
  return (
    <div className="happened">
      <EventTable events={own} withObject />
    </div>
  );
}

export function Followed({ all }: { all: Applied[] }) {
  const { t } = useWords();
  return (
    <Panel wide title={t("deploy.results")}>
      <ul className="plain stack">
        {all.map((one) => {
          const { served, namespace, name } = one.target;
          return (
            <li key={one.target.id} className="compared">
              <div className="compared-head">
                <h3>
                  {one.state === "failed" ? (
                    titleOf(one.target)
                  ) : (
                    <Link href={pageOf(served, namespace, name)}>{titleOf(one.target)}</Link>
                  )}
                </h3>
                <span className="soft">{t(`deploy.applied.${one.state}` as Key)}</span>
                {one.state !== "failed" && <Progress of={one} />}
              </div>
              {one.error && <Failed error={one.error} todo={todoOf(one.error)} />}
            </li>
          );
        })}
      </ul>
    </Panel>
  );
}
