// One node: facts, conditions, pods, and taking it out of service.

import { Button, Tabs } from "antd";
import { useState } from "react";
import { Link, useParams } from "wouter";
import { cordon } from "../api/actions";
import { collection, NODES, PODS } from "../api/kinds";
import { at, center, list, map, nodeState, roles, text } from "../api/objects";
import { useWords } from "../i18n";
import { useAct } from "../parts/act";
import { Conditions } from "../parts/conditions";
import { Drain } from "../parts/drain";
import { Facts, PageHead, Pairs, Panel } from "../parts/frame";
import { useLive, useObject } from "../parts/hooks";
import { DataTable } from "../parts/listing";
import { lastTabs } from "../parts/object-tabs";
import { PodTable } from "../parts/pod-table";
import { NodeTag } from "../parts/state-tag";
import { Followed, Nothing } from "../parts/states";
import { addressOf } from "./nodes";

export default function NodePage() {
  const { t, moment } = useWords();
  const { name = "" } = useParams<{ name: string }>();
  const { object: node, gone, snapshot } = useObject(collection(NODES), name);
  const pods = useLive({ path: collection(PODS), fields: `spec.nodeName=${name}` });
  const act = useAct();
  const [draining, setDraining] = useState(false);
  const cordoned = at(node, "spec.unschedulable") === true;
  const switchOver = () =>
    act(
      () => cordon(name, !cordoned),
      t(cordoned ? "nodes.uncordoned" : "nodes.cordoned", { name }),
    );
  const info = (field: string) => text(node, `status.nodeInfo.${field}`);
  return (
    <>
      <PageHead
        title={name}
        above={<Link href="/nodes">{t("nodes.title")}</Link>}
        tag={node && <NodeTag state={nodeState(node)} />}
      >
        {node && (
          <>
            <Button onClick={() => void switchOver()}>
              {t(cordoned ? "nodes.uncordon" : "nodes.cordon")}
            </Button>
            <Button onClick={() => setDraining(true)}>{t("nodes.drain")}</Button>
          </>
        )}
      </PageHead>
      <Followed of={snapshot}>
        {gone && <Nothing text={t("object.gone")} />}
        {node && (
          <Tabs
            items={[
              {
                key: "summary",
                label: t("common.summary"),
                children: (
                  <div className="grid">
                    <Panel title={t("nodes.facts")}>
                      <Facts
                        facts={[
                          [t("nodes.center"), center(node)],
                          [t("nodes.roles"), roles(node).join(", ")],
                          [t("nodes.address"), addressOf(node)],
                          [t("nodes.podRange"), text(node, "spec.podCIDR")],
                          [t("nodes.os"), info("osImage")],
                          [t("nodes.kernel"), info("kernelVersion")],
                          [t("nodes.architecture"), info("architecture")],
                          [t("nodes.engine"), info("containerRuntimeVersion")],
                          [t("nodes.agent"), info("kubeletVersion")],
                          [t("common.created"), moment(node.metadata.creationTimestamp ?? "")],
                        ]}
                      />
                    </Panel>
                    <Panel title={t("nodes.capacity")}>
                      <DataTable
                        label={t("nodes.capacity")}
                        rows={Object.entries(map(node, "status.capacity")).map(
                          ([resource, all]) => ({
                            resource,
                            all: String(all),
                            free: text(map(node, "status.allocatable"), resource),
                          }),
                        )}
                        rowKey={(row) => row.resource}
                        columns={[
                          { title: t("nodes.resource"), dataIndex: "resource" },
                          { title: t("nodes.capacity"), dataIndex: "all", align: "right" },
                          { title: t("nodes.allocatable"), dataIndex: "free", align: "right" },
                        ]}
                      />
                    </Panel>
                    <Panel wide title={t("common.conditions")}>
                      <Conditions object={node} />
                    </Panel>
                    <Panel title={t("common.labels")}>
                      <Pairs pairs={node.metadata.labels ?? {}} />
                    </Panel>
                    <Panel title={t("nodes.taints")}>
                      <Pairs
                        pairs={Object.fromEntries(
                          list(node, "spec.taints").map((taint) => [
                            text(taint, "key"),
                            [text(taint, "value"), text(taint, "effect")].filter(Boolean).join(" "),
                          ]),
                        )}
                      />
                    </Panel>
                  </div>
                ),
              },
              {
                key: "pods",
                label: `${t("common.pods")} (${pods.items.length})`,
                children: (
                  <Followed of={pods}>
                    <PodTable pods={pods.items} withNamespace />
                  </Followed>
                ),
              },
              ...lastTabs(node, t),
            ]}
          />
        )}
      </Followed>
      {draining && <Drain node={name} onClose={() => setDraining(false)} />}
    </>
  );
}
