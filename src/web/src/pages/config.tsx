// Config maps and secrets: which there are, without what is in them.

import { Segmented } from "antd";
import { useState } from "react";
import { Link } from "wouter";
import { CONFIG_MAPS, collection, pageOf, SECRETS } from "../api/kinds";
import type { Row } from "../api/live";
import { age, useWords } from "../i18n";
import { PageHead } from "../parts/frame";
import { useLive, useNow } from "../parts/hooks";
import { Listing, NamespaceSelect, useNamespace } from "../parts/listing";

const SHOWN = "holdfast-config";

export default function Config() {
  const { t } = useWords();
  const now = useNow();
  const [ns, setNs] = useNamespace();
  const [what, setWhat] = useState(() => sessionStorage.getItem(SHOWN) ?? "configmaps");
  const place = what === "secrets" ? SECRETS : CONFIG_MAPS;
  // Rows of a Table carry metadata only: no value leaves the server.
  const found = useLive<Row>({ path: collection(place, ns || undefined), table: true });
  const cell = (row: Row, name: string) => {
    const at = found.columns.findIndex((column) => column.name === name);
    return at < 0 ? "" : String(row.cells[at] ?? "");
  };
  return (
    <>
      <PageHead title={t("config.title")} />
      <Listing<Row>
        key={what}
        label={t("config.title")}
        of={found}
        rows={found.items}
        rowKey={(row) => `${row.object.metadata.namespace}/${row.object.metadata.name}`}
        matches={(row, typed) => row.object.metadata.name.includes(typed)}
        tools={
          <>
            <Segmented
              value={what}
              onChange={(next) => {
                sessionStorage.setItem(SHOWN, next);
                setWhat(next);
              }}
              options={[
                { value: "configmaps", label: t("config.configMaps") },
                { value: "secrets", label: t("config.secrets") },
              ]}
            />
            <NamespaceSelect ns={ns} onChange={setNs} />
          </>
        }
        columns={[
          {
            title: t("common.name"),
            sorter: (a, b) => a.object.metadata.name.localeCompare(b.object.metadata.name),
            render: (_, { object: { metadata } }) => (
              <Link href={pageOf(place, metadata.namespace, metadata.name)}>{metadata.name}</Link>
            ),
          },
          {
            title: t("common.namespace"),
            sorter: (a, b) =>
              (a.object.metadata.namespace ?? "").localeCompare(b.object.metadata.namespace ?? ""),
            render: (_, row) => row.object.metadata.namespace,
          },
          ...(what === "secrets"
            ? [{ title: t("config.type"), render: (_: unknown, row: Row) => cell(row, "Type") }]
            : []),
          {
            title: t("config.keys"),
            align: "right",
            width: 90,
            render: (_, row) => cell(row, "Data"),
          },
          {
            title: t("common.age"),
            width: 100,
            render: (_, row) => age(row.object.metadata.creationTimestamp, now),
          },
        ]}
      />
    </>
  );
}
