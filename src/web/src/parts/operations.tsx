// The audit log as the server gives it: pages, from the newest back.

import { json, query } from "../api/http";
import { useWords, type Words } from "../i18n";
import { DataTable } from "./listing";
import { Dot } from "./state-tag";

export interface Operation {
  id: string;
  time: string;
  actor: { user: string };
  impersonator?: { user: string };
  verb: string;
  group?: string;
  resource?: string;
  subresource?: string;
  namespace?: string;
  name?: string;
  uri?: string;
  source?: string;
  code: number;
  reason?: string;
  /** In the chain; none while it is being chained. */
  seq?: number;
}

interface Page {
  revision: number;
  anchor: { seq: number };
  head: { seq: number };
  items: { seq: number; record: Operation }[];
  pending: Operation[];
}

const AUDIT = "/holdfast/v1/audit";

export interface Operations {
  items: Operation[];
  /** The number before the oldest that was read. */
  before: number;
  /** The number before the oldest that is kept. */
  anchor: number;
  head: number;
}

/** The last `count` operations before number `before`, or of all; newest first. */
export async function readOperations(count: number, before?: number): Promise<Operations> {
  // One record tells where the chain ends.
  const top = before ?? (await json<Page>(AUDIT + query({ limit: 1 }))).head.seq;
  const after = Math.max(0, top - count);
  const page = await json<Page>(`${AUDIT}?after=${after}&limit=${count + 50}`);
  const chained = page.items
    .filter((one) => before === undefined || one.seq <= before)
    .map(({ seq, record }) => ({ ...record, seq }));
  const pending = before === undefined ? page.pending : [];
  const items = [...chained, ...pending].reverse();
  return { items, before: after, anchor: page.anchor.seq, head: page.head.seq };
}

/** Whether a person or his program did it, and not the cluster by itself. */
export const byPeople = (operation: Operation): boolean =>
  operation.actor.user !== "system:holdfast:controllers" &&
  !operation.actor.user.startsWith("system:node:");

export function objectOf(operation: Operation): string {
  const { group, resource, subresource, namespace, name, uri } = operation;
  if (!resource) return [uri?.split("?")[0], name].filter(Boolean).join(" ");
  const kind = [group ? `${resource}.${group}` : resource, subresource].filter(Boolean).join("/");
  return `${kind} ${[namespace, name].filter(Boolean).join("/")}`;
}

export function actorOf(operation: Operation, { t }: Words): string {
  const actor = operation.actor.user;
  const user = operation.impersonator?.user;
  return user ? t("audit.as", { user, actor }) : actor;
}

export function OperationTable({ items, full }: { items: Operation[]; full: boolean }) {
  const words = useWords();
  const { t, moment, clock } = words;
  return (
    <DataTable<Operation>
      label={t("audit.title")}
      rows={items}
      rowKey={(one) => one.id || String(one.seq)}
      columns={[
        ...(full
          ? [
              {
                title: t("audit.number"),
                width: 90,
                align: "right" as const,
                render: (_: unknown, one: Operation) =>
                  one.seq ?? <span className="soft">{t("audit.pending")}</span>,
              },
            ]
          : []),
        {
          title: t("audit.time"),
          width: full ? 180 : 90,
          className: "tight",
          render: (_, one) => (
            <time dateTime={one.time}>{full ? moment(one.time) : clock(one.time)}</time>
          ),
        },
        { title: t("audit.actor"), width: 210, render: (_, one) => actorOf(one, words) },
        { title: t("audit.verb"), width: 90, dataIndex: "verb" },
        { title: t("audit.object"), render: (_, one) => objectOf(one) },
        ...(full ? [{ title: t("audit.source"), width: 170, dataIndex: "source" as const }] : []),
        {
          title: t("audit.result"),
          width: 150,
          render: (_, one) => (
            <Dot
              tone={one.code < 400 ? "good" : "bad"}
              text={one.reason ? `${one.code} ${one.reason}` : String(one.code)}
            />
          ),
        },
      ]}
    />
  );
}
