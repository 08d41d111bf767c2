// Whether this node answers, and whether it has a majority: one small question every few
// seconds, over the connection that also carries the watches.
//
// Why: a host that loses its power says nothing; without a question a watch would look
// alive for minutes. The answer also says whether the session still holds.

import { ApiError, open } from "./http";

const EVERY_MS = 3_000;
const DEADLINE_MS = 4_000;

export type Link = "up" | "noMajority" | "down";

class Connection {
  private link: Link = "up";
  private heard = 0;
  private listeners = new Set<() => void>();
  private cuts = new Set<AbortController>();
  private wakers = new Set<() => void>();
  private running?: AbortController;

  current = (): Link => this.link;
  lastHeard = (): number => this.heard;

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  start(): void {
    if (this.running) return;
    this.running = new AbortController();
    void this.run(this.running.signal);
  }

  stop(): void {
    this.running?.abort();
    this.running = undefined;
    this.link = "up";
  }

  /** A signal that also ends when the node is found to be gone. */
  whileUp(signal: AbortSignal): { signal: AbortSignal; done: () => void } {
    const cut = new AbortController();
    const pass = () => cut.abort();
    signal.addEventListener("abort", pass);
    this.cuts.add(cut);
    const done = () => {
      signal.removeEventListener("abort", pass);
      this.cuts.delete(cut);
    };
    return { signal: cut.signal, done };
  }

  /** Waits so long, or until the node answers again. */
  pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.wakers.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.wakers.add(wake);
      signal.addEventListener("abort", wake);
    });
  }

  private set(link: Link): void {
    if (link !== "down") this.heard = Date.now();
    if (link === this.link) return;
    const returned = this.link === "down";
    this.link = link;
    if (link === "down") for (const cut of [...this.cuts]) cut.abort();
    if (returned) for (const wake of [...this.wakers]) wake();
    for (const listener of [...this.listeners]) listener();
  }

  private async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const deadline = AbortSignal.timeout(DEADLINE_MS);
      try {
        await open("/readyz", { accept: "*/*", signal: AbortSignal.any([signal, deadline]) });
        this.set("up");
      } catch (error) {
        if (signal.aborted) return;
        const answered = error instanceof ApiError && error.code !== 0;
        this.set(answered ? "noMajority" : "down");
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }
}

export const connection = new Connection();
