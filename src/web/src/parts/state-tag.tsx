// A state as a coloured word: never by colour alone.

import type { NodeState, PodState } from "../api/objects";
import { type Key, useWords } from "../i18n";

export type Tone = "good" | "busy" | "warn" | "bad" | "calm";

export const Dot = ({ tone, text }: { tone: Tone; text: string }) => (
  <span className={`dot ${tone}`}>{text}</span>
);

export const POD_TONES: Record<PodState, Tone> = {
  ready: "good",
  starting: "busy",
  pending: "warn",
  failing: "bad",
  failed: "bad",
  succeeded: "calm",
  terminating: "calm",
};

export const NODE_TONES: Record<NodeState, Tone> = {
  ready: "good",
  cordoned: "warn",
  notReady: "bad",
  unknown: "bad",
};

export function PodTag({ state, reason }: { state: PodState; reason?: string }) {
  const { t } = useWords();
  const word = t(`pod.state.${state}` as Key);
  return <Dot tone={POD_TONES[state]} text={reason ? `${word} · ${reason}` : word} />;
}

export function NodeTag({ state }: { state: NodeState }) {
  const { t } = useWords();
  return <Dot tone={NODE_TONES[state]} text={t(`node.state.${state}` as Key)} />;
}

/** A bar of how much of something is used. */
export function Meter({ used, all, text }: { used: number; all: number; text: string }) {
  const share = all > 0 ? Math.min(1, used / all) : 0;
  const tone = share > 0.9 ? "bad" : share > 0.75 ? "warn" : "good";
  return (
    <span className="meter">
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
        <rect className="ground" width="100" height="6" rx="1" />
        <rect className={tone} width={share * 100} height="6" rx="1" />
      </svg>
      <span>{text}</span>
    </span>
  );
}
