// Objects of any kind, in the columns that the server lays out for it.

import { Link, useParams } from "wouter";
import { collection, pageOf } from "../api/kinds";
import type { Column, Row } from "../api/live";
import { age, type Key, useWords } from "../i18n";
import { PageHead } from "../parts/frame";
import { useLive, useNow } from "../parts/hooks";
import { useKinds } from "../parts/kinds-context";
import { Listing, NamespaceSelect, useNamespace } from "../parts/listing";
import { Loading, Nothing } from "../parts/states";

/** What the server's columns are called that many kinds have. */
const NAMES: Record<string, Key> = {
  Name: "common.name",
  Namespace: "common.namespace",
  Status: "common.status",
  Ready: "pods.ready",
  Age: "common.age",
  Type: "common.type",
  Node: "common.node",
  Reason: "common.reason",
  Images: "object.images",
};

const compare = (a: unknown, b: unknown): number =>
  typeof a === "number" && typeof b === "number"
    ? a - b
    : String(a ?? "").localeCompare(String(b ?? ""), undefined, { numeric: true });

export default function KindList() {
  const { t } = useWords();
  const now = useNow();
  const kinds = useKinds();
  const { group = "", version = "", plural = "" } = useParams<Record<string, string>>();
  const [ns, setNs] = useNamespace();
  const kind = kinds.find(
    (one) => (one.group || "core") === group && one.version === version && one.plural === plural,
  );
  const narrowed = kind?.namespaced ? ns || undefined : undefined;
  const found = useLive<Row>(kind && { path: collection(kind, narrowed), table: true });
  if (!kind) return kinds.length === 0 ? <Loading /> : <Nothing text={t("app.notFound")} />;

  const cell = (column: Column, at: number) => (_: unknown, row: Row) => {
    const { name, namespace, creationTimestamp } = row.object.metadata;
    if (column.name === "Name") return <Link href={pageOf(kind, namespace, name)}>{name}</Link>;
    // The server's ages are of when the row was made.
    if (column.name === "Age") return age(creationTimestamp, now);
    const value = row.cells[at];
    return value === null || value === undefined ? "" : String(value);
  };
  const columns = found.columns
    .map((column, at) => ({
      title: NAMES[column.name] ? t(NAMES[column.name] as Key) : column.name,
      align: column.type === "integer" ? ("right" as const) : undefined,
      className: column.name === "Age" || column.name === "Ready" ? "tight" : undefined,
      sorter: (a: Row, b: Row) =>
        column.name === "Age"
          ? compare(b.object.metadata.creationTimestamp, a.object.metadata.creationTimestamp)
          : compare(a.cells[at], b.cells[at]),
      render: cell(column, at),
      priority: column.priority,
    }))
    .filter((column) => column.priority === 0);
  if (kind.namespaced && ns === "" && columns.length > 0) {
    columns.splice(1, 0, {
      title: t("common.namespace"),
      align: undefined,
      className: undefined,
      sorter: (a: Row, b: Row) => compare(a.object.metadata.namespace, b.object.metadata.namespace),
      render: (_: unknown, row: Row) => <>{row.object.metadata.namespace}</>,
      priority: 0,
    });
  }
  return (
    <>
      <PageHead title={kind.kind} above={`${kind.group ? `${kind.group}/` : ""}${kind.version}`} />
      <Listing<Row>
        label={kind.kind}
        of={found}
        rows={found.items}
        rowKey={(row) =>
          row.object.metadata.uid ?? `${row.object.metadata.namespace}/${row.object.metadata.name}`
        }
        matches={(row, typed) => row.object.metadata.name.includes(typed)}
        tools={kind.namespaced && <NamespaceSelect ns={ns} onChange={setNs} />}
        columns={columns}
      />
    </>
  );
}
