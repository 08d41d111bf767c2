// A dense table with its filters: the same on every page.

import { Select, Table, type TableProps } from "antd";
import { type ReactNode, useState } from "react";
import { collection, NAMESPACES } from "../api/kinds";
import type { Snapshot } from "../api/live";
import { useWords } from "../i18n";
import { Filter } from "./filter";
import { useLive } from "./hooks";
import { Followed } from "./states";

const NS = "holdfast-namespace";

/** The namespace that lists are narrowed to; kept from page to page. */
export function useNamespace(): [string, (ns: string) => void] {
  const [ns, setNs] = useState(() => sessionStorage.getItem(NS) ?? "");
  return [
    ns,
    (next) => {
      sessionStorage.setItem(NS, next);
      setNs(next);
    },
  ];
}

export function NamespaceSelect({ ns, onChange }: { ns: string; onChange: (ns: string) => void }) {
  const { t } = useWords();
  const found = useLive({ path: collection(NAMESPACES) });
  const names = found.items.map((one) => one.metadata.name).sort();
  return (
    <Select
      className="namespace"
      showSearch
      aria-label={t("common.namespace")}
      value={ns}
      onChange={onChange}
      options={[
        { value: "", label: t("common.allNamespaces") },
        ...names.map((name) => ({ value: name, label: name })),
      ]}
    />
  );
}

export function Listing<T extends object>({
  of,
  rows,
  columns,
  rowKey,
  matches,
  tools,
  label,
}: {
  of: Snapshot<unknown>;
  rows: T[];
  columns: TableProps<T>["columns"];
  rowKey: (row: T) => string;
  /** Whether a row is meant by what was typed. */
  matches: (row: T, typed: string) => boolean;
  tools?: ReactNode;
  label: string;
}) {
  const { t, n } = useWords();
  const [typed, setTyped] = useState("");
  const wanted = typed.trim().toLowerCase();
  const shown = wanted === "" ? rows : rows.filter((row) => matches(row, wanted));
  return (
    <>
      <div className="filters">
        <Filter label={t("common.filter")} typed={typed} onType={setTyped} />
        {tools}
        <span className="count" role="status">
          {shown.length === rows.length
            ? t("common.total", { count: n(rows.length) })
            : t("common.shown", { shown: n(shown.length), count: n(rows.length) })}
        </span>
      </div>
      <Followed of={of}>
        <DataTable
          label={label}
          columns={columns}
          rows={shown}
          rowKey={rowKey}
          empty={wanted === "" ? t("state.empty") : t("state.emptyFiltered")}
        />
      </Followed>
    </>
  );
}

/** The table alone. */
export function DataTable<T extends object>({
  rows,
  columns,
  rowKey,
  empty,
  label,
  pageSize = 50,
}: {
  rows: T[];
  columns: TableProps<T>["columns"];
  rowKey: (row: T) => string;
  empty?: string;
  label: string;
  pageSize?: number;
}) {
  const { t } = useWords();
  return (
    // A wide table is moved sideways in its frame, by the keyboard too.
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a frame that scrolls must have the focus
    <section className="table-frame" aria-label={label} tabIndex={0}>
      <Table<T>
        size="small"
        dataSource={rows}
        columns={columns}
        rowKey={rowKey}
        showSorterTooltip={false}
        pagination={
          rows.length > pageSize
            ? { pageSize, showSizeChanger: false, size: "small", placement: ["bottomEnd"] }
            : false
        }
        locale={{ emptyText: <span className="soft">{empty ?? t("state.empty")}</span> }}
      />
    </section>
  );
}
