// Pods as rows, on every page that has some.

import { Link } from "wouter";
import { PODS, pageOf } from "../api/kinds";
import { list, num, type Obj, podState, text } from "../api/objects";
import { age, useWords, type Words } from "../i18n";
import { useNow } from "./hooks";
import { DataTable } from "./listing";
import { PodTag } from "./state-tag";

export const restartsOf = (pod: Obj): number =>
  list(pod, "status.containerStatuses").reduce<number>(
    (sum, one) => sum + num(one, "restartCount"),
    0,
  );

export const readyOf = (pod: Obj): string => {
  const statuses = list(pod, "status.containerStatuses");
  const ready = statuses.filter((one) => (one as { ready?: boolean }).ready).length;
  return `${ready}/${list(pod, "spec.containers").length}`;
};

export const appOf = (pod: Obj): string =>
  pod.metadata.labels?.["app.kubernetes.io/name"] ?? pod.metadata.labels?.app ?? "";

export function podColumns(words: Words, now: number, withNamespace: boolean) {
  const { t, n } = words;
  return [
    {
      title: t("common.name"),
      sorter: (a: Obj, b: Obj) => a.metadata.name.localeCompare(b.metadata.name),
      render: (_: unknown, pod: Obj) => (
        <Link href={pageOf(PODS, pod.metadata.namespace, pod.metadata.name)}>
          {pod.metadata.name}
        </Link>
      ),
    },
    ...(withNamespace
      ? [
          {
            title: t("common.namespace"),
            sorter: (a: Obj, b: Obj) =>
              (a.metadata.namespace ?? "").localeCompare(b.metadata.namespace ?? ""),
            render: (_: unknown, pod: Obj) => pod.metadata.namespace,
          },
        ]
      : []),
    { title: t("common.state"), render: (_: unknown, pod: Obj) => <PodTag {...podState(pod)} /> },
    { title: t("pods.ready"), className: "tight", render: (_: unknown, pod: Obj) => readyOf(pod) },
    {
      title: t("pods.restarts"),
      align: "right" as const,
      sorter: (a: Obj, b: Obj) => restartsOf(a) - restartsOf(b),
      render: (_: unknown, pod: Obj) => n(restartsOf(pod)),
    },
    { title: t("pods.app"), render: (_: unknown, pod: Obj) => appOf(pod) },
    { title: t("pods.ip"), render: (_: unknown, pod: Obj) => text(pod, "status.podIP") },
    {
      title: t("common.node"),
      sorter: (a: Obj, b: Obj) => text(a, "spec.nodeName").localeCompare(text(b, "spec.nodeName")),
      render: (_: unknown, pod: Obj) => {
        const node = text(pod, "spec.nodeName");
        return node && <Link href={`/nodes/${node}`}>{node}</Link>;
      },
    },
    {
      title: t("common.age"),
      className: "tight",
      render: (_: unknown, pod: Obj) => age(pod.metadata.creationTimestamp, now),
    },
  ];
}

export function PodTable({ pods, withNamespace }: { pods: Obj[]; withNamespace: boolean }) {
  const words = useWords();
  const now = useNow();
  return (
    <DataTable<Obj>
      label={words.t("common.pods")}
      rows={pods}
      rowKey={(pod) => pod.metadata.uid ?? pod.metadata.name}
      columns={podColumns(words, now, withNamespace)}
    />
  );
}
