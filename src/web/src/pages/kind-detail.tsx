// One object of any kind.

import { Tabs, type TabsProps } from "antd";
import { Link, useParams } from "wouter";
import { collection, type Kind, listPage } from "../api/kinds";
import { at, list, num, type Obj, text } from "../api/objects";
import { useWords } from "../i18n";
import { Conditions } from "../parts/conditions";
import { Children, choosesPods, hasChildren, Owners, PodsOf } from "../parts/family";
import { type Fact, Facts, PageHead, Pairs, Panel } from "../parts/frame";
import { useObject } from "../parts/hooks";
import { useKinds } from "../parts/kinds-context";
import { ObjectActions } from "../parts/object-actions";
import { lastTabs } from "../parts/object-tabs";
import { Revisions } from "../parts/revisions";
import { Dot } from "../parts/state-tag";
import { Followed, Nothing } from "../parts/states";

/** How many of a workload's pods are ready, if it has some. */
function readiness(object: Obj): [number, number] | undefined {
  if (at(object, "status.desiredNumberScheduled") !== undefined) {
    return [num(object, "status.numberReady"), num(object, "status.desiredNumberScheduled")];
  }
  if (at(object, "spec.replicas") === undefined) return undefined;
  return [num(object, "status.readyReplicas"), num(object, "spec.replicas")];
}

function Summary({ kind, object }: { kind: Kind; object: Obj }) {
  const { t, moment } = useWords();
  const images = list(object, "spec.template.spec.containers").map((one) => text(one, "image"));
  const facts: Fact[] = [
    [t("common.kind"), `${kind.kind} (${object.apiVersion ?? ""})`],
    [t("common.namespace"), object.metadata.namespace],
    [t("common.created"), moment(object.metadata.creationTimestamp ?? "")],
    [
      t("common.owner"),
      object.metadata.ownerReferences?.length ? <Owners key="owners" object={object} /> : "",
    ],
    [t("object.images"), images.join(", ")],
    [t("common.status"), text(object, "status.phase")],
  ];
  return (
    <div className="grid">
      <Panel title={t("common.summary")}>
        <Facts facts={facts} />
      </Panel>
      <Panel title={t("common.labels")}>
        <Pairs pairs={object.metadata.labels ?? {}} />
      </Panel>
      {list(object, "status.conditions").length > 0 && (
        <Panel wide title={t("common.conditions")}>
          <Conditions object={object} />
        </Panel>
      )}
      {hasChildren(kind) && (
        <Panel title={t("common.children")}>
          <Children object={object} kind={kind} />
        </Panel>
      )}
      <Panel title={t("common.annotations")}>
        <Pairs pairs={object.metadata.annotations ?? {}} />
      </Panel>
    </div>
  );
}

function Detail({ kind, object }: { kind: Kind; object: Obj }) {
  const { t } = useWords();
  const workload = choosesPods(object) && ["apps", "batch"].includes(kind.group);
  const tabs: TabsProps["items"] = [
    {
      key: "summary",
      label: t("common.summary"),
      children: <Summary kind={kind} object={object} />,
    },
    ...(workload
      ? [{ key: "pods", label: t("common.pods"), children: <PodsOf kind={kind} object={object} /> }]
      : []),
    ...(kind.kind === "Deployment"
      ? [
          {
            key: "revisions",
            label: t("object.revisions"),
            children: <Revisions deployment={object} />,
          },
        ]
      : []),
    ...lastTabs(object, t),
  ];
  return <Tabs defaultActiveKey={workload ? "pods" : "summary"} items={tabs} />;
}

export default function KindDetail() {
  const { t } = useWords();
  const kinds = useKinds();
  const {
    group = "",
    version = "",
    plural = "",
    ns = "",
    name = "",
  } = useParams<Record<string, string>>();
  const found = kinds.find(
    (one) => (one.group || "core") === group && one.version === version && one.plural === plural,
  );
  const place = found ?? { group: group === "core" ? "" : group, version, plural };
  const path = collection(place, ns === "-" ? undefined : ns);
  const { object, gone, snapshot } = useObject(path, name);
  const ready = object && readiness(object);
  return (
    <>
      <PageHead
        title={name}
        above={found && <Link href={listPage(found)}>{found.kind}</Link>}
        tag={
          ready && (
            <Dot tone={ready[0] >= ready[1] ? "good" : "warn"} text={`${ready[0]} / ${ready[1]}`} />
          )
        }
      >
        {object && found && <ObjectActions kind={found} object={object} />}
      </PageHead>
      <Followed of={snapshot}>
        {gone && <Nothing text={t("object.gone")} />}
        {object && found && <Detail kind={found} object={object} />}
      </Followed>
    </>
  );
}
