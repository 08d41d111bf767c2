// What components share: live lists, the clock, the session, the connection.

import { useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { connection, type Link } from "../api/connection";
import { ApiError, json } from "../api/http";
import { type Live, live, type Row, type Snapshot, type Source } from "../api/live";
import type { Obj } from "../api/objects";
import { current, type Session, subscribe } from "../session";

const NOTHING: Snapshot<never> = {
  state: "loading",
  items: [],
  columns: [],
  asOf: 0,
  replica: false,
};
const nobody = () => () => undefined;

/** A list that follows the cluster; `undefined` asks for nothing. */
export function useLive<T extends Obj | Row = Obj>(source: Source | undefined): Snapshot<T> {
  const name = source && JSON.stringify(source);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the name is the source
  const list: Live<T> | undefined = useMemo(() => source && live<T>(source), [name]);
  return useSyncExternalStore(
    list ? list.subscribe : nobody,
    () => list?.snapshot ?? (NOTHING as Snapshot<T>),
  );
}

/** One object that follows the cluster. */
export function useObject(
  collection: string,
  name: string,
): { object?: Obj; gone: boolean; snapshot: Snapshot<Obj> } {
  const snapshot = useLive<Obj>({ path: collection, fields: `metadata.name=${name}` });
  const object = snapshot.items.find((one) => one.metadata.name === name);
  return { object, gone: !object && snapshot.state === "live", snapshot };
}

/** The wall clock, every so often. */
export function useNow(everyMs = 5_000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

export const useLink = (): Link => useSyncExternalStore(connection.subscribe, connection.current);

export function useSession(): Session {
  const state = useSyncExternalStore(subscribe, current);
  return state.session ?? { signedIn: false, certificate: null };
}

export interface Loaded<T> {
  value?: T;
  error?: ApiError;
  loading: boolean;
  again: () => void;
}

/** What is read once, and again when asked. */
export function useLoaded<T>(path: string | undefined): Loaded<T> {
  const [round, setRound] = useState(0);
  const [state, setState] = useState<Omit<Loaded<T>, "again">>({ loading: true });
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new round reads again
  useEffect(() => {
    if (!path) return;
    const stop = new AbortController();
    setState((old) => ({ ...old, loading: true }));
    json<T>(path, { signal: stop.signal })
      .then((value) => setState({ value, loading: false }))
      .catch((error: unknown) => {
        if (stop.signal.aborted) return;
        const known = error instanceof ApiError ? error : new ApiError(0, "", String(error));
        setState((old) => ({ value: old.value, error: known, loading: false }));
      });
    return () => stop.abort();
  }, [path, round]);
  return { ...state, again: () => setRound((old) => old + 1) };
}
