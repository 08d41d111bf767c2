// Emptying a node: cordon, then an eviction for each pod, again as long as a budget refuses.

import { Alert, Button, Checkbox, Modal, Progress } from "antd";
import { useEffect, useRef, useState } from "react";
import { cordon, evict } from "../api/actions";
import { ApiError } from "../api/http";
import { collection, PODS } from "../api/kinds";
import { list, type Obj, podState, text } from "../api/objects";
import { useWords } from "../i18n";
import { useLive } from "./hooks";
import { Dot } from "./state-tag";
import { Failed } from "./states";

const AGAIN_MS = 3_000;

/** Whether a drain leaves it: its controller would put it back, or the node itself runs it. */
const stays = (pod: Obj): boolean =>
  (pod.metadata.ownerReferences ?? []).some(
    (owner) => owner.controller && owner.kind === "DaemonSet",
  ) || "kubernetes.io/config.mirror" in (pod.metadata.annotations ?? {});

type Told = Record<string, { state: "evicted" | "waits"; reason?: string }>;

export function Drain({ node, onClose }: { node: string; onClose: () => void }) {
  const { t } = useWords();
  const there = useLive({ path: collection(PODS), fields: `spec.nodeName=${node}` });
  const leaving = there.items.filter(
    (pod) => !stays(pod) && !["succeeded", "failed"].includes(podState(pod).state),
  );
  const [meant, setMeant] = useState<Obj[]>();
  const [told, setTold] = useState<Told>({});
  const [agreed, setAgreed] = useState(false);
  const [error, setError] = useState<ApiError>();
  const stop = useRef<AbortController>(undefined);
  const latest = useRef(leaving);
  latest.current = leaving;
  useEffect(() => () => stop.current?.abort(), []);

  const bare = leaving.filter(
    (pod) => !(pod.metadata.ownerReferences ?? []).some((one) => one.controller),
  );
  const scratch = leaving.filter((pod) =>
    list(pod, "spec.volumes").some((volume) => "emptyDir" in (volume as object)),
  );
  const warned = bare.length > 0 || scratch.length > 0;

  const run = async () => {
    const cut = new AbortController();
    stop.current = cut;
    setError(undefined);
    setMeant(latest.current);
    try {
      await cordon(node, true);
      while (!cut.signal.aborted && latest.current.length > 0) {
        for (const pod of latest.current) {
          if (cut.signal.aborted) return;
          if (pod.metadata.deletionTimestamp) continue;
          const uid = pod.metadata.uid ?? "";
          try {
            await evict(pod);
            setTold((old) => ({ ...old, [uid]: { state: "evicted" } }));
          } catch (problem) {
            if (!(problem instanceof ApiError)) throw problem;
            if (problem.code === 404 || problem.code === 409) continue;
            if (problem.code !== 429) throw problem;
            setTold((old) => ({ ...old, [uid]: { state: "waits", reason: problem.message } }));
          }
        }
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    } catch (problem) {
      setError(problem instanceof ApiError ? problem : new ApiError(0, "", String(problem)));
      cut.abort();
    }
  };

  const begun = meant !== undefined;
  const gone = (meant ?? []).filter(
    (pod) => !leaving.some((one) => one.metadata.uid === pod.metadata.uid),
  );
  const all = meant?.length ?? 0;
  const done = begun && leaving.length === 0;
  const stopped = begun && !done && (stop.current?.signal.aborted ?? false);
  const running = begun && !done && !stopped;
  useEffect(() => {
    if (!running) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [running]);
  return (
    <Modal
      open
      // It goes on only while this is open: that must not end by a slip.
      closable={!running}
      keyboard={!running}
      mask={{ closable: !running }}
      width={640}
      title={t("drain.title", { name: node })}
      onCancel={onClose}
      footer={
        running ? (
          <Button
            onClick={() => {
              stop.current?.abort();
              setTold((old) => ({ ...old }));
            }}
          >
            {t("drain.stop")}
          </Button>
        ) : begun ? (
          <Button onClick={onClose}>{t("common.close")}</Button>
        ) : (
          <>
            <Button onClick={onClose}>{t("common.cancel")}</Button>
            <Button
              type="primary"
              disabled={there.state !== "live" || (warned && !agreed)}
              onClick={() => void run()}
            >
              {t("drain.start")}
            </Button>
          </>
        )
      }
    >
      <div className="stack">
        {!begun && <p>{t("drain.lead")}</p>}
        {!begun && bare.length > 0 && (
          <Alert type="warning" showIcon title={t("drain.bare", { count: bare.length })} />
        )}
        {!begun && scratch.length > 0 && (
          <Alert type="warning" showIcon title={t("drain.emptyDir", { count: scratch.length })} />
        )}
        {!begun && warned && (
          <Checkbox checked={agreed} onChange={(event) => setAgreed(event.target.checked)}>
            {t("drain.agree")}
          </Checkbox>
        )}
        {running && <Alert type="info" showIcon title={t("drain.here")} />}
        {begun && (
          <div role="status">
            <Progress
              percent={all === 0 ? 100 : Math.round((gone.length / all) * 100)}
              status={done ? "success" : "normal"}
              aria-label={t("drain.title", { name: node })}
            />
            {done
              ? t("drain.done")
              : stopped
                ? t("drain.stopped")
                : t("drain.running", { done: gone.length, all })}
          </div>
        )}
        {error && <Failed error={error} />}
      </div>
      {(begun ? meant : leaving).length > 0 && (
        <ul className="progress-list">
          {(meant ?? leaving).map((pod) => {
            const uid = pod.metadata.uid ?? "";
            const left = gone.includes(pod);
            const state = told[uid];
            return (
              <li key={uid}>
                <span>{`${pod.metadata.namespace}/${pod.metadata.name}`}</span>
                {left ? (
                  <Dot tone="good" text={t("drain.gone")} />
                ) : state?.state === "waits" ? (
                  <Dot tone="warn" text={t("drain.waits", { reason: state.reason ?? "" })} />
                ) : state ? (
                  <Dot tone="busy" text={t("drain.evicted")} />
                ) : (
                  <Dot tone="calm" text={begun ? t("drain.queued") : text(pod, "status.phase")} />
                )}
              </li>
            );
          })}
        </ul>
      )}
    </Modal>
  );
}
