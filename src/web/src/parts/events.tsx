// Events: of the cluster, or of one object.

import { Link } from "wouter";
import { collection, EVENTS, type Kind, pageOf } from "../api/kinds";
import { num, type Obj, text } from "../api/objects";
import { age, type Key, useWords } from "../i18n";
import { useLive, useNow } from "./hooks";
import { useKinds } from "./kinds-context";
import { DataTable } from "./listing";
import { Dot } from "./state-tag";
import { Followed } from "./states";

export const lastSeen = (event: Obj): string =>
  text(event, "series.lastObservedTime") ||
  text(event, "lastTimestamp") ||
  text(event, "eventTime") ||
  event.metadata.creationTimestamp ||
  "";

export const newestFirst = (a: Obj, b: Obj): number => lastSeen(b).localeCompare(lastSeen(a));

function About({ event, kinds }: { event: Obj; kinds: Kind[] }) {
  const name = text(event, "involvedObject.name");
  const kind = text(event, "involvedObject.kind");
  const ns = text(event, "involvedObject.namespace") || undefined;
  const known = kinds.find((one) => one.kind === kind);
  const shown = `${kind} ${ns ? `${ns}/` : ""}${name}`;
  return known ? (
    <Link href={pageOf(known, known.namespaced ? ns : undefined, name)}>{shown}</Link>
  ) : (
    shown
  );
}

export function EventTable({ events, withObject }: { events: Obj[]; withObject: boolean }) {
  const { t, moment } = useWords();
  const now = useNow(15_000);
  const kinds = useKinds();
  return (
    <DataTable<Obj>
      label={t("events.title")}
      rows={[...events].sort(newestFirst)}
      rowKey={(event) => `${event.metadata.namespace}/${event.metadata.name}`}
      empty={t("events.none")}
      columns={[
        {
          title: t("common.type"),
          width: 96,
          render: (_, event) => {
            const type = text(event, "type") === "Warning" ? "Warning" : "Normal";
            return (
              <Dot
                tone={type === "Warning" ? "warn" : "calm"}
                text={t(`events.type.${type}` as Key)}
              />
            );
          },
        },
        { title: t("common.reason"), width: 170, render: (_, event) => text(event, "reason") },
        ...(withObject
          ? [
              {
                title: t("events.object"),
                width: 280,
                render: (_: unknown, event: Obj) => <About event={event} kinds={kinds} />,
              },
            ]
          : []),
        { title: t("common.message"), render: (_, event) => text(event, "message") },
        {
          title: t("events.count"),
          width: 72,
          align: "right",
          render: (_, event) => num(event, "series.count") || num(event, "count") || 1,
        },
        {
          title: t("events.last"),
          width: 96,
          render: (_, event) => (
            <time dateTime={lastSeen(event)} title={moment(lastSeen(event))}>
              {age(lastSeen(event), now)}
            </time>
          ),
        },
      ]}
    />
  );
}

/** What happened to one object. */
export function EventsOf({ object }: { object: Obj }) {
  const uid = object.metadata.uid ?? "";
  const found = useLive({
    path: collection(EVENTS, object.metadata.namespace),
    fields: `involvedObject.name=${object.metadata.name}`,
  });
  // A node's events name it by its own name.
  const own = found.items.filter((event) => {
    const about = text(event, "involvedObject.uid");
    return about === uid || about === object.metadata.name || about === "";
  });
  return (
    <Followed of={found}>
      <EventTable events={own} withObject={false} />
    </Followed>
  );
}
