// All nodes: where they stand, how they are, how full.

import { Link } from "wouter";
import { collection, NODES, PODS } from "../api/kinds";
import {
  center,
  list,
  nodeState,
  type Obj,
  podState,
  quantity,
  requests,
  roles,
  text,
} from "../api/objects";
import { age, useWords } from "../i18n";
import { PageHead } from "../parts/frame";
import { useLive, useNow } from "../parts/hooks";
import { Listing } from "../parts/listing";
import { Meter, NodeTag } from "../parts/state-tag";

export const addressOf = (node: Obj): string =>
  text(
    list(node, "status.addresses").find((one) => text(one, "type") === "InternalIP"),
    "address",
  );

export default function Nodes() {
  const { t, n } = useWords();
  const now = useNow();
  const nodes = useLive({ path: collection(NODES) });
  const pods = useLive({ path: collection(PODS) });
  const rows = [...nodes.items]
    .sort((a, b) => a.metadata.name.localeCompare(b.metadata.name))
    .map((node) => {
      const there = pods.items.filter(
        (pod) =>
          text(pod, "spec.nodeName") === node.metadata.name &&
          !["succeeded", "failed"].includes(podState(pod).state),
      );
      const asked = there.map(requests);
      return {
        node,
        pods: there.length,
        cpu: asked.reduce((sum, one) => sum + one.cpu, 0),
        memory: asked.reduce((sum, one) => sum + one.memory, 0),
        allCpu: quantity(text(node, "status.allocatable.cpu") || "0"),
        allMemory: quantity(text(node, "status.allocatable.memory") || "0"),
      };
    });
  const gib = (value: number) => n(value / 1024 ** 3, 1);
  return (
    <>
      <PageHead title={t("nodes.title")} />
      <Listing
        label={t("nodes.title")}
        of={nodes}
        rows={rows}
        rowKey={(row) => row.node.metadata.name}
        matches={(row, typed) =>
          row.node.metadata.name.includes(typed) || center(row.node).includes(typed)
        }
        columns={[
          {
            title: t("common.name"),
            sorter: (a, b) => a.node.metadata.name.localeCompare(b.node.metadata.name),
            render: (_, { node }) => (
              <Link href={`/nodes/${node.metadata.name}`}>{node.metadata.name}</Link>
            ),
          },
          {
            title: t("common.state"),
            render: (_, { node }) => <NodeTag state={nodeState(node)} />,
          },
          {
            title: t("nodes.center"),
            sorter: (a, b) => center(a.node).localeCompare(center(b.node)),
            render: (_, { node }) => center(node),
          },
          { title: t("nodes.roles"), render: (_, { node }) => roles(node).join(", ") },
          { title: t("nodes.address"), render: (_, { node }) => addressOf(node) },
          {
            title: t("nodes.cpu"),
            render: (_, row) => (
              <Meter
                used={row.cpu}
                all={row.allCpu}
                text={t("common.of", { used: n(row.cpu, 2), all: n(row.allCpu, 1) })}
              />
            ),
          },
          {
            title: t("nodes.memory"),
            render: (_, row) => (
              <Meter
                used={row.memory}
                all={row.allMemory}
                text={`${t("common.of", { used: gib(row.memory), all: gib(row.allMemory) })} GiB`}
              />
            ),
          },
          { title: t("common.pods"), align: "right", render: (_, row) => n(row.pods) },
          {
            title: t("nodes.version"),
            render: (_, { node }) => text(node, "status.nodeInfo.kubeletVersion"),
          },
          {
            title: t("common.age"),
            className: "tight",
            render: (_, { node }) => age(node.metadata.creationTimestamp, now),
          },
        ]}
      />
    </>
  );
}
