// One thing at a time with the cluster: comparing a text, or applying it.
//
// Why not in the page: an apply that has begun is finished also while one looks at other pages,
// and who comes back meanwhile must not begin a second one.

import { useSyncExternalStore } from "react";

export type Running = "comparing" | "applying";

let running: Running | undefined;
const listeners = new Set<() => void>();

function set(next: Running | undefined): void {
  running = next;
  for (const listener of listeners) listener();
}

const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

/** Only the browser's own question keeps somebody from closing the page. */
const ask = (event: BeforeUnloadEvent): void => event.preventDefault();

/** Does the work unless other work still runs. */
export async function alone(what: Running, work: () => Promise<void>): Promise<void> {
  if (running) return;
  set(what);
  if (what === "applying") window.addEventListener("beforeunload", ask);
  try {
    await work();
  } finally {
    window.removeEventListener("beforeunload", ask);
    set(undefined);
  }
}

export const useRunning = (): Running | undefined => useSyncExternalStore(subscribe, () => running);
