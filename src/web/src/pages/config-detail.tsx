// One config map or secret. A secret's values are not even loaded until somebody asks.

import { Button } from "antd";
import { useState } from "react";
import { Link, useParams } from "wouter";
import { CONFIG_MAPS, collection, objectPath, SECRETS } from "../api/kinds";
import type { Row } from "../api/live";
import { map, type Obj, text } from "../api/objects";
import { useWords } from "../i18n";
import { Facts, PageHead, Pairs, Panel } from "../parts/frame";
import { useLive, useLoaded } from "../parts/hooks";
import { DataTable } from "../parts/listing";
import { Failed, Followed, Loading, Nothing } from "../parts/states";

function bytesOf(encoded: string): Uint8Array {
  return Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
}

/** Text, if it is some. */
function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

interface Entry {
  key: string;
  size: number;
  shown?: string;
}

function entries(object: Obj, secret: boolean): Entry[] {
  const plain = secret ? {} : map(object, "data");
  const coded = secret ? map(object, "data") : map(object, "binaryData");
  return [
    ...Object.entries(plain).map(([key, value]) => ({
      key,
      size: new TextEncoder().encode(String(value)).length,
      shown: String(value),
    })),
    ...Object.entries(coded).map(([key, value]) => {
      const bytes = bytesOf(String(value));
      return { key, size: bytes.length, shown: textOf(bytes) };
    }),
  ].sort((a, b) => a.key.localeCompare(b.key));
}

function Values({ path, secret }: { path: string; secret: boolean }) {
  const { t, n } = useWords();
  const { value, error, again } = useLoaded<Obj>(path);
  if (error) return <Failed error={error} again={again} />;
  if (!value) return <Loading />;
  return (
    <DataTable<Entry>
      label={t("config.keys")}
      rows={entries(value, secret)}
      rowKey={(entry) => entry.key}
      columns={[
        { title: t("config.key"), width: 260, dataIndex: "key" },
        {
          title: t("config.value"),
          render: (_, entry) =>
            entry.shown === undefined ? (
              <span className="soft">{t("config.binary", { count: n(entry.size) })}</span>
            ) : (
              <pre className="value">{entry.shown}</pre>
            ),
        },
        {
          title: t("config.size"),
          width: 100,
          align: "right",
          render: (_, entry) => n(entry.size),
        },
      ]}
    />
  );
}

export default function ConfigDetail() {
  const { t, moment } = useWords();
  const { plural = "", ns = "", name = "" } = useParams<Record<string, string>>();
  const secret = plural === "secrets";
  const place = secret ? SECRETS : CONFIG_MAPS;
  const [asked, setAsked] = useState(!secret);
  const found = useLive<Row>({
    path: collection(place, ns),
    table: true,
    fields: `metadata.name=${name}`,
  });
  const row = found.items.find((one) => one.object.metadata.name === name);
  const metadata = row?.object.metadata;
  const cell = (column: string) => {
    const at = found.columns.findIndex((one) => one.name === column);
    return at < 0 ? "" : text(row?.cells, String(at));
  };
  return (
    <>
      <PageHead title={name} above={<Link href="/config">{t("config.title")}</Link>}>
        {secret && metadata && (
          <Button onClick={() => setAsked(!asked)}>
            {t(asked ? "config.hide" : "config.show")}
          </Button>
        )}
      </PageHead>
      <Followed of={found}>
        {!metadata && <Nothing text={t("object.gone")} />}
        {metadata && (
          <div className="grid">
            <Panel title={t("common.summary")}>
              <Facts
                facts={[
                  [t("common.namespace"), ns],
                  [t("config.type"), secret ? cell("Type") : ""],
                  [t("config.keys"), cell("Data")],
                  [t("common.created"), moment(metadata.creationTimestamp ?? "")],
                ]}
              />
            </Panel>
            <Panel title={t("common.labels")}>
              <Pairs pairs={metadata.labels ?? {}} />
            </Panel>
            <Panel wide title={t("config.keys")}>
              {asked ? (
                <Values
                  key={metadata.resourceVersion}
                  path={objectPath(place, ns, name)}
                  secret={secret}
                />
              ) : (
                <span className="soft">{t("config.hidden")}</span>
              )}
            </Panel>
          </div>
        )}
      </Followed>
    </>
  );
}
