// What an object says of itself.

import { list, type Obj, text } from "../api/objects";
import { age, useWords } from "../i18n";
import { useNow } from "./hooks";
import { DataTable } from "./listing";

/** Conditions that are good when they are not true. */
const GOOD_WHEN_FALSE = /Pressure$|Unavailable$|^ReplicaFailure$|^Failed$|^DisruptionTarget$/;

export function Conditions({ object }: { object: Obj }) {
  const { t } = useWords();
  const now = useNow();
  const tone = (one: unknown): string => {
    const status = text(one, "status");
    if (status === "Unknown") return "dot bad";
    const good = GOOD_WHEN_FALSE.test(text(one, "type")) ? status === "False" : status === "True";
    return good ? "dot good" : "dot warn";
  };
  return (
    <DataTable
      label={t("common.conditions")}
      rows={list(object, "status.conditions") as object[]}
      rowKey={(one) => text(one, "type")}
      columns={[
        { title: t("common.type"), render: (_, one) => text(one, "type") },
        {
          title: t("common.status"),
          render: (_, one) => <span className={tone(one)}>{text(one, "status")}</span>,
        },
        { title: t("common.reason"), render: (_, one) => text(one, "reason") },
        { title: t("common.message"), render: (_, one) => text(one, "message") },
        {
          title: t("common.since"),
          className: "tight",
          render: (_, one) => age(text(one, "lastTransitionTime"), now),
        },
      ]}
    />
  );
}
