// Everything at a glance: what runs, what does not, how full it is, what happened last.

import { useEffect, useState } from "react";
import { Link } from "wouter";
import { ApiError } from "../api/http";
import {
  collection,
  DAEMON_SETS,
  DEPLOYMENTS,
  EVENTS,
  NODES,
  PODS,
  pageOf,
  STATEFUL_SETS,
} from "../api/kinds";
import {
  at,
  center,
  nodeState,
  num,
  type Obj,
  type PodState,
  podState,
  quantity,
  requests,
  text,
} from "../api/objects";
import { type Key, useWords } from "../i18n";
import { EventTable, lastSeen, newestFirst } from "../parts/events";
import { PageHead, Panel } from "../parts/frame";
import { useLive, useNow } from "../parts/hooks";
import { DataTable } from "../parts/listing";
import { byPeople, type Operations, OperationTable, readOperations } from "../parts/operations";
import { Dot, Meter, POD_TONES, type Tone } from "../parts/state-tag";
import { Failed, Followed, Loading } from "../parts/states";

const SHOWN = 8;
/** Records that are looked through for the last ten of people. */
const READ = 500;
const HOUR_MS = 3_600_000;
const STATES: PodState[] = [
  "ready",
  "starting",
  "pending",
  "failing",
  "failed",
  "succeeded",
  "terminating",
];

interface Trouble {
  key: string;
  href: string;
  text: string;
  tone: Tone;
}

interface App {
  kind: string;
  object: Obj;
  wanted: number;
  ready: number;
  href: string;
}

function apps(sets: [string, typeof DEPLOYMENTS, Obj[]][]): App[] {
  return sets.flatMap(([kind, place, objects]) =>
    objects.map((object) => ({
      kind,
      object,
      wanted:
        kind === "DaemonSet"
          ? num(object, "status.desiredNumberScheduled")
          : num(object, "spec.replicas"),
      ready: num(object, kind === "DaemonSet" ? "status.numberReady" : "status.readyReplicas"),
      href: pageOf(place, object.metadata.namespace, object.metadata.name),
    })),
  );
}

function Tile({
  title,
  figure,
  href,
  parts,
}: {
  title: string;
  figure: string;
  href: string;
  parts: [Tone, string][];
}) {
  return (
    <Link href={href} className="tile third">
      <h2>{title}</h2>
      <div className="figure">{figure}</div>
      <div className="parts">
        {parts.map(([tone, said]) => (
          <Dot key={said} tone={tone} text={said} />
        ))}
      </div>
    </Link>
  );
}

function Capacity({ nodes, pods }: { nodes: Obj[]; pods: Obj[] }) {
  const { t, n } = useWords();
  const rows = [...new Set(nodes.map(center))].sort().map((name) => {
    const own = nodes.filter((node) => center(node) === name);
    const names = new Set(own.map((node) => node.metadata.name));
    const there = pods.filter(
      (pod) =>
        names.has(text(pod, "spec.nodeName")) &&
        !["succeeded", "failed"].includes(podState(pod).state),
    );
    const asked = there.map(requests);
    const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
    const all = (resource: string) =>
      sum(own.map((node) => quantity(text(node, `status.allocatable.${resource}`) || "0")));
    return {
      name,
      nodes: own.length,
      ready: own.filter((node) => nodeState(node) === "ready").length,
      cpu: [sum(asked.map((one) => one.cpu)), all("cpu")] as const,
      memory: [sum(asked.map((one) => one.memory)), all("memory")] as const,
      pods: [there.length, all("pods")] as const,
    };
  });
  const gib = (value: number) => n(value / 1024 ** 3, 1);
  return (
    <DataTable
      label={t("overview.capacity")}
      rows={rows}
      rowKey={(row) => row.name}
      columns={[
        { title: t("overview.center"), render: (_, row) => row.name || t("common.unknown") },
        { title: t("overview.nodes"), render: (_, row) => `${row.ready} / ${row.nodes}` },
        {
          title: t("overview.cpu"),
          render: (_, row) => (
            <Meter
              used={row.cpu[0]}
              all={row.cpu[1]}
              text={t("common.of", { used: n(row.cpu[0], 2), all: n(row.cpu[1], 1) })}
            />
          ),
        },
        {
          title: t("overview.memory"),
          render: (_, row) => (
            <Meter
              used={row.memory[0]}
              all={row.memory[1]}
              text={`${t("common.of", { used: gib(row.memory[0]), all: gib(row.memory[1]) })} GiB`}
            />
          ),
        },
        {
          title: t("overview.podsUsed"),
          render: (_, row) => (
            <Meter
              used={row.pods[0]}
              all={row.pods[1]}
              text={t("common.of", { used: row.pods[0], all: row.pods[1] })}
            />
          ),
        },
      ]}
    />
  );
}

/** What was done last; read again when `mark` changes, at most every few seconds. */
function LastOperations({ mark }: { mark: string }) {
  const { t } = useWords();
  const [found, setFound] = useState<Operations>();
  const [error, setError] = useState<ApiError>();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the mark says that something was written
  useEffect(() => {
    const timer = setTimeout(
      () => {
        readOperations(READ).then(
          (operations) => {
            setFound(operations);
            setError(undefined);
          },
          (problem: unknown) => setError(problem instanceof ApiError ? problem : undefined),
        );
      },
      found ? 3_000 : 0,
    );
    return () => clearTimeout(timer);
  }, [mark]);
  if (found)
    return <OperationTable items={found.items.filter(byPeople).slice(0, 10)} full={false} />;
  if (error?.code === 403) return <p className="soft">{t("audit.forbidden")}</p>;
  return error ? <Failed error={error} /> : <Loading />;
}

export default function Overview() {
  const { t, n } = useWords();
  const now = useNow(30_000);
  const nodes = useLive({ path: collection(NODES) });
  const pods = useLive({ path: collection(PODS) });
  const deployments = useLive({ path: collection(DEPLOYMENTS) });
  const statefulSets = useLive({ path: collection(STATEFUL_SETS) });
  const daemonSets = useLive({ path: collection(DAEMON_SETS) });
  const events = useLive({ path: collection(EVENTS) });

  const all = apps([
    ["Deployment", DEPLOYMENTS, deployments.items],
    ["StatefulSet", STATEFUL_SETS, statefulSets.items],
    ["DaemonSet", DAEMON_SETS, daemonSets.items],
  ]);
  const short = all.filter((app) => app.ready < app.wanted);
  const states = pods.items.map((pod) => ({ pod, ...podState(pod) }));
  const counted = STATES.map(
    (state) => [state, states.filter((one) => one.state === state).length] as const,
  );
  const ready = nodes.items.filter((node) => nodeState(node) === "ready").length;
  const warnings = events.items.filter(
    (event) => text(event, "type") === "Warning" && now - Date.parse(lastSeen(event)) < HOUR_MS,
  );

  const troubles: Trouble[] = [
    ...nodes.items
      .filter((node) => nodeState(node) !== "ready")
      .map((node) => ({
        key: `node ${node.metadata.name}`,
        href: `/nodes/${node.metadata.name}`,
        text: t("overview.node", {
          name: node.metadata.name,
          state: t(`node.state.${nodeState(node)}` as Key),
        }),
        tone: nodeState(node) === "cordoned" ? ("warn" as const) : ("bad" as const),
      })),
    ...short.map((app) => ({
      key: `${app.kind} ${app.href}`,
      href: app.href,
      text: t("overview.app", {
        kind: app.kind,
        name: `${app.object.metadata.namespace}/${app.object.metadata.name}`,
        ready: app.ready,
        wanted: app.wanted,
      }),
      tone: "warn" as const,
    })),
    ...states
      .filter(({ state }) => state === "failing" || state === "failed" || state === "pending")
      .map(({ pod, state, reason }) => ({
        key: `pod ${pod.metadata.uid}`,
        href: pageOf(PODS, pod.metadata.namespace, pod.metadata.name),
        text: t("overview.pod", {
          name: `${pod.metadata.namespace}/${pod.metadata.name}`,
          state: t(`pod.state.${state}` as Key),
          reason,
        }),
        tone: POD_TONES[state],
      })),
  ];
  const mark = [...nodes.items, ...deployments.items, ...statefulSets.items, ...daemonSets.items]
    .map((one) => `${one.metadata.uid} ${one.metadata.generation ?? at(one, "spec.unschedulable")}`)
    .concat(String(pods.items.length))
    .join();
  const latest = [...events.items].sort(newestFirst);

  return (
    <>
      <PageHead title={t("overview.title")} />
      <Followed of={nodes}>
        <div className="grid">
          <Tile
            title={t("overview.nodes")}
            href="/nodes"
            figure={`${n(ready)} / ${n(nodes.items.length)}`}
            parts={(["ready", "cordoned", "notReady", "unknown"] as const)
              .map(
                (state) =>
                  [state, nodes.items.filter((node) => nodeState(node) === state).length] as const,
              )
              .filter(([, count]) => count > 0)
              .map(([state, count]) => [
                state === "ready" ? "good" : state === "cordoned" ? "warn" : "bad",
                `${n(count)} ${t(`node.state.${state}` as Key)}`,
              ])}
          />
          <Tile
            title={t("overview.pods")}
            href="/pods"
            figure={n(pods.items.length)}
            parts={counted
              .filter(([, count]) => count > 0)
              .map(([state, count]) => [
                POD_TONES[state],
                `${n(count)} ${t(`pod.state.${state}` as Key)}`,
              ])}
          />
          <Tile
            title={t("overview.apps")}
            href="/kinds/apps/v1/deployments"
            figure={n(all.length)}
            parts={(
              [
                ["good", all.length - short.length, t("overview.apps.ready")],
                ["warn", short.length, t("overview.apps.degraded")],
              ] as [Tone, number, string][]
            )
              .filter(([, count]) => count > 0)
              .map(([tone, count, said]) => [tone, `${n(count)} ${said}`])}
          />
          <Tile
            title={t("overview.warnings")}
            href="/events"
            figure={n(warnings.length)}
            parts={[...new Set(warnings.map((event) => text(event, "reason")))]
              .slice(0, 3)
              .map((reason) => ["warn", reason])}
          />
          <Panel title={t("overview.attention")}>
            {troubles.length === 0 ? (
              <Dot tone="good" text={t("overview.calm")} />
            ) : (
              <ul className="attention">
                {troubles.slice(0, SHOWN).map((trouble) => (
                  <li key={trouble.key}>
                    <Link href={trouble.href}>
                      <Dot tone={trouble.tone} text={trouble.text} />
                    </Link>
                  </li>
                ))}
                {troubles.length > SHOWN && (
                  <li className="soft">
                    {t("overview.andMore", { count: troubles.length - SHOWN })}
                  </li>
                )}
              </ul>
            )}
          </Panel>
          <Panel title={t("overview.capacity")}>
            <Capacity nodes={nodes.items} pods={pods.items} />
          </Panel>
          <Panel
            wide
            title={t("overview.lastOperations")}
            more={<Link href="/audit">{t("overview.allOperations")}</Link>}
          >
            <LastOperations mark={mark} />
          </Panel>
          <Panel
            wide
            title={t("overview.lastEvents")}
            more={<Link href="/events">{t("overview.allEvents")}</Link>}
          >
            <EventTable events={latest.slice(0, 10)} withObject />
          </Panel>
        </div>
      </Followed>
    </>
  );
}
