// What a node uses of its processors and memory, since this page was opened.
//
// Why asked again and again: the server measures when it is asked and keeps no history;
// what is drawn is what was heard here. Nothing is asked while nobody looks.

import { useEffect, useState } from "react";
import { ApiError, json } from "../api/http";
import { type Obj, quantity, text } from "../api/objects";
import { extended, line, type Point } from "../api/usage";
import { useWords } from "../i18n";
import { Panel } from "./frame";
import { Failed } from "./states";

const PATH = "/apis/metrics.k8s.io/v1beta1/nodes";
const EVERY_MS = 15_000;
function useUsage(node: string): { points: Point[]; error?: ApiError } {
  const [points, setPoints] = useState<Point[]>([]);
  const [error, setError] = useState<ApiError>();
  useEffect(() => {
    const stop = new AbortController();
    const ask = async () => {
      if (document.hidden) return;
      try {
        const { items } = await json<{ items: Obj[] }>(PATH, { signal: stop.signal });
        setPoints((old) => extended(old, items, node));
        setError(undefined);
      } catch (problem) {
        if (!stop.signal.aborted && problem instanceof ApiError) setError(problem);
      }
    };
    void ask();
    const timer = setInterval(() => void ask(), EVERY_MS);
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, [node]);
  return { points, error };
}

function Chart({
  title,
  said,
  drawn,
  since,
}: {
  title: string;
  said: string;
  drawn: string;
  since: string;
}) {
  const last = drawn.split(" ").at(-1)?.split(",") ?? [];
  const first = drawn.split(" ")[0]?.split(",")[0];
  return (
    <figure className="chart">
      <figcaption>
        <span>{title}</span>
        <span>{said}</span>
      </figcaption>
      <svg
        viewBox="0 0 600 100"
        preserveAspectRatio="none"
        role="img"
        aria-label={`${title}: ${said}`}
      >
        <path className="rule" d="M0 25H600M0 50H600M0 75H600" />
        <polygon className="area" points={`${first},100 ${drawn} ${last[0]},100`} />
        <polyline className="line" points={drawn} />
        <line className="now" x1={last[0]} x2={last[0]} y1={last[1]} y2="100" />
      </svg>
      <span className="soft">{since}</span>
    </figure>
  );
}

export function Usage({ node }: { node: Obj }) {
  const { t, n, clock } = useWords();
  const { points, error } = useUsage(node.metadata.name);
  const all = {
    cpu: quantity(text(node, "status.capacity.cpu") || "0"),
    memory: quantity(text(node, "status.capacity.memory") || "0"),
  };
  const now = points.at(-1);
  const since = t("nodes.usageSince", { time: clock(points[0]?.at ?? 0) });
  const gib = (value: number) => n(value / 1024 ** 3, 1);
  return (
    <Panel wide title={t("nodes.usage")}>
      {error && points.length === 0 ? (
        <Failed error={error} />
      ) : now ? (
        <div className="charts">
          <Chart
            title={t("nodes.usedCpu")}
            said={t("common.of", { used: n(now.cpu, 2), all: n(all.cpu, 1) })}
            drawn={line(points, "cpu", all.cpu)}
            since={since}
          />
          <Chart
            title={t("nodes.usedMemory")}
            said={`${t("common.of", { used: gib(now.memory), all: gib(all.memory) })} GiB`}
            drawn={line(points, "memory", all.memory)}
            since={since}
          />
        </div>
      ) : (
        <p className="soft">{t("nodes.usageNone")}</p>
      )}
    </Panel>
  );
}
