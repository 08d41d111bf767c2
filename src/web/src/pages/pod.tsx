// One pod: its containers, their logs, a terminal, what happened to it.

import { Button, Select, Tabs } from "antd";
import { lazy, Suspense, useState } from "react";
import { Link, useLocation, useParams } from "wouter";
import { remove } from "../api/actions";
import { collection, objectPath, PODS } from "../api/kinds";
import { at, list, num, type Obj, podState, text } from "../api/objects";
import { age, type Key, useWords } from "../i18n";
import { Ask, type Question } from "../parts/act";
import { Conditions } from "../parts/conditions";
import { Owners } from "../parts/family";
import { Facts, PageHead, Pairs, Panel } from "../parts/frame";
import { useNow, useObject } from "../parts/hooks";
import { DataTable } from "../parts/listing";
import { LogView } from "../parts/log-view";
import { lastTabs } from "../parts/object-tabs";
import { appOf } from "../parts/pod-table";
import { Dot, PodTag, type Tone } from "../parts/state-tag";
import { Followed, Loading, Nothing } from "../parts/states";

const Terminal = lazy(() => import("../parts/terminal"));

interface Container {
  name: string;
  spec: unknown;
  status: unknown;
  part: "" | "init" | "ephemeral";
}

function containers(pod: Obj): Container[] {
  const of = (specs: string, statuses: string, part: Container["part"]) =>
    list(pod, `spec.${specs}`).map((spec) => {
      const name = text(spec, "name");
      const status = list(pod, `status.${statuses}`).find((one) => text(one, "name") === name);
      return { name, spec, status, part };
    });
  return [
    ...of("containers", "containerStatuses", ""),
    ...of("initContainers", "initContainerStatuses", "init"),
    ...of("ephemeralContainers", "ephemeralContainerStatuses", "ephemeral"),
  ];
}

function State({ container }: { container: Container }) {
  const { t } = useWords();
  const state = ["running", "waiting", "terminated"].find(
    (one) => at(container.status, `state.${one}`) != null,
  );
  if (!state) return <span className="soft">{t("common.unknown")}</span>;
  const code = at(container.status, "state.terminated.exitCode");
  const reason = text(container.status, `state.${state}.reason`);
  const ready = at(container.status, "ready") === true;
  const tone: Tone =
    state === "running" ? (ready ? "good" : "busy") : code === 0 ? "calm" : code ? "bad" : "warn";
  return (
    <Dot tone={tone} text={[t(`pod.state.${state}` as Key), reason].filter(Boolean).join(" · ")} />
  );
}

function Containers({ pod }: { pod: Obj }) {
  const { t, moment } = useWords();
  const now = useNow();
  return (
    <DataTable<Container>
      label={t("pod.containers")}
      rows={containers(pod)}
      rowKey={(one) => one.name}
      columns={[
        {
          title: t("common.name"),
          render: (_, one) => (
            <>
              {one.name}
              {one.part && <span className="soft"> · {t(`pod.${one.part}` as Key)}</span>}
            </>
          ),
        },
        { title: t("common.state"), render: (_, one) => <State container={one} /> },
        {
          title: t("pods.restarts"),
          align: "right",
          render: (_, one) => num(one.status, "restartCount"),
        },
        { title: t("pod.image"), render: (_, one) => text(one.spec, "image") },
        {
          title: t("pod.ports"),
          render: (_, one) =>
            list(one.spec, "ports")
              .map((port) => `${num(port, "containerPort")}/${text(port, "protocol") || "TCP"}`)
              .join(", "),
        },
        {
          title: t("pod.started"),
          render: (_, one) => {
            const started = text(one.status, "state.running.startedAt");
            return started && <time title={moment(started)}>{age(started, now)}</time>;
          },
        },
        {
          title: t("pod.lastEnd"),
          render: (_, one) => {
            const ended = at(one.status, "lastState.terminated");
            if (ended == null) return "";
            const code = t("pod.exitCode", { code: num(ended, "exitCode") });
            return `${text(ended, "reason")} (${code})`;
          },
        },
      ]}
    />
  );
}

function Summary({ pod }: { pod: Obj }) {
  const { t, moment } = useWords();
  const node = text(pod, "spec.nodeName");
  return (
    <div className="grid">
      <Panel wide title={t("pod.containers")}>
        <Containers pod={pod} />
      </Panel>
      <Panel title={t("common.summary")}>
        <Facts
          facts={[
            [t("pods.app"), appOf(pod)],
            [t("common.namespace"), pod.metadata.namespace],
            [t("common.node"), node && <Link href={`/nodes/${node}`}>{node}</Link>],
            [t("pods.ip"), text(pod, "status.podIP")],
            [t("pod.service"), text(pod, "status.qosClass")],
            [t("common.created"), moment(pod.metadata.creationTimestamp ?? "")],
            [
              t("common.owner"),
              pod.metadata.ownerReferences?.length ? <Owners key="owners" object={pod} /> : "",
            ],
            [t("common.reason"), podState(pod).reason],
          ]}
        />
      </Panel>
      <Panel title={t("common.labels")}>
        <Pairs pairs={pod.metadata.labels ?? {}} />
      </Panel>
      <Panel wide title={t("common.conditions")}>
        <Conditions object={pod} />
      </Panel>
    </div>
  );
}

export default function PodPage() {
  const { t } = useWords();
  const { ns = "", name = "" } = useParams<{ ns: string; name: string }>();
  const [, go] = useLocation();
  const { object: pod, gone, snapshot } = useObject(collection(PODS, ns), name);
  const [chosen, setChosen] = useState<string>();
  const [question, setQuestion] = useState<Question>();
  const all = pod ? containers(pod) : [];
  const container = chosen ?? all[0]?.name ?? "";
  const path = objectPath(PODS, ns, name);
  const choice = all.length > 1 && (
    <div className="filters">
      <Select
        className="namespace"
        aria-label={t("pod.container")}
        value={container}
        onChange={setChosen}
        options={all.map((one) => ({ value: one.name, label: one.name }))}
      />
    </div>
  );
  const deleting: Question = {
    title: t("object.deleteTitle", { kind: "Pod", name }),
    text: t("pod.deleteText"),
    ok: t("object.delete"),
    danger: true,
    run: () => remove(PODS, ns, name, pod?.metadata.uid),
    done: t("object.deleted", { name }),
    after: () => go("/pods"),
  };
  return (
    <>
      <PageHead
        title={name}
        above={<Link href="/pods">{t("common.pods")}</Link>}
        tag={pod && <PodTag {...podState(pod)} />}
      >
        {pod && (
          <Button danger onClick={() => setQuestion(deleting)}>
            {t("object.delete")}
          </Button>
        )}
      </PageHead>
      <Followed of={snapshot}>
        {gone && <Nothing text={t("object.gone")} />}
        {pod && (
          <Tabs
            destroyOnHidden
            items={[
              { key: "summary", label: t("common.summary"), children: <Summary pod={pod} /> },
              {
                key: "logs",
                label: t("pod.logs"),
                children: (
                  <>
                    {choice}
                    <LogView key={container} path={`${path}/log`} container={container} />
                  </>
                ),
              },
              {
                key: "terminal",
                label: t("pod.terminal"),
                children: (
                  <Suspense fallback={<Loading />}>
                    {choice}
                    <Terminal key={container} path={path} container={container} />
                  </Suspense>
                ),
              },
              ...lastTabs(pod, t),
            ]}
          />
        )}
      </Followed>
      <Ask question={question} onClose={() => setQuestion(undefined)} />
    </>
  );
}
