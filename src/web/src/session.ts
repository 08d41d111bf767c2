// Who is signed in at this node, and why nobody is.

import { quietFor, somebodyIsHere } from "./api/activity";
import { connection } from "./api/connection";
import { json, onSessionLost, SESSION } from "./api/http";
import { forgetAll } from "./api/live";
import { forgetDraft } from "./draft";

export interface Session {
  signedIn: boolean;
  certificate: string | null;
  user?: string;
  groups?: string[];
  method?: "password" | "token" | "certificate";
  node?: string;
  cluster?: string;
  idleSeconds?: number;
  remainingSeconds?: number;
}

export type Why = "" | "idle" | "over" | "out";
export type Shown =
  | { method: "password"; user: string; password: string }
  | { method: "token"; token: string }
  | { method: "certificate" };

interface State {
  session?: Session;
  why: Why;
  /** The node did not even say who is signed in. */
  failed: boolean;
}

let state: State = { why: "", failed: false };
const listeners = new Set<() => void>();
let idle: number | undefined;

function set(next: State): void {
  state = next;
  for (const listener of listeners) listener();
}

function begin(session: Session): void {
  somebodyIsHere();
  connection.start();
  const minutes = session.idleSeconds ?? 1_800;
  clearInterval(idle);
  idle = window.setInterval(() => {
    if (quietFor() > minutes * 1_000) void end("idle");
  }, 5_000);
}

function over(why: Why): void {
  if (!state.session?.signedIn) return;
  clearInterval(idle);
  connection.stop();
  forgetAll();
  set({ session: { signedIn: false, certificate: state.session.certificate }, why, failed: false });
}

onSessionLost(() => over("over"));

export const current = (): State => state;
export const subscribe = (listener: () => void): (() => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

export async function load(): Promise<void> {
  try {
    const session = await json<Session>(SESSION);
    if (session.signedIn) begin(session);
    set({ session, why: state.why, failed: false });
  } catch {
    set({ ...state, failed: true });
  }
}

export async function signIn(shown: Shown): Promise<void> {
  const session = await json<Session>(SESSION, { method: "POST", body: shown });
  forgetAll();
  begin(session);
  set({ session, why: "", failed: false });
}

export async function end(why: Why): Promise<void> {
  // First what follows the cluster: it would ask once more, as nobody.
  connection.stop();
  forgetAll();
  // Where the node does not answer the session ends there by its own idleness.
  await json(SESSION, { method: "DELETE" }).catch(() => undefined);
  over(why);
  // Who leaves takes what he was writing with him; who was only away finds it again. After all
  // else: until then the page is there and keeps what is still typed.
  if (why === "out") forgetDraft();
}
