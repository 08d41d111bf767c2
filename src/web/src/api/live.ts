// A list that stays true: listed once, then followed by a streamed watch.
//
//   list ─► watch from its version ─► events, bookmarks ─► ended: watch again from there
//     ▲                                     │
//     └── 410: the version is gone ◄────────┴── cut: stale, back-off, watch again
//
// Invariants: what is shown is never older in silence (`state` is `stale` from the moment
// of the cut); watchers are told at most every 150 ms; nobody looks, nobody asks.

import { connection } from "./connection";
import { ApiError, json, open, query } from "./http";
import { readLines } from "./lines";
import { keyOf, type Meta, type Obj } from "./objects";

export interface Column {
  name: string;
  type: string;
  description: string;
  priority: number;
}

/** A row of a Table that the server has laid out. */
export interface Row {
  cells: unknown[];
  object: { metadata: Meta };
}

export type State = "loading" | "live" | "stale" | "failed";

export interface Snapshot<T> {
  state: State;
  items: T[];
  columns: Column[];
  error?: ApiError;
  /** When what is shown was last known to be true, milliseconds. */
  asOf: number;
  /** The local replica answered because no majority did. */
  replica: boolean;
}

interface Metadata {
  resourceVersion?: string;
  continue?: string;
}
interface Page {
  metadata: Metadata;
  items?: Obj[];
  rows?: Row[];
  columnDefinitions?: Column[];
}
interface Event {
  type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  object: Obj & { rows?: Row[]; code?: number; message?: string; reason?: string };
}

export interface Source {
  path: string;
  labels?: string;
  fields?: string;
  /** As a Table, laid out by the server. */
  table?: boolean;
}

const PAGE = 500;
const TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const TELL_EVERY_MS = 150;
const LINGER_MS = 10_000;
const BACK_OFF_MAX_MS = 8_000;

export class Live<T extends Obj | Row> {
  private items = new Map<string, T>();
  private columns: Column[] = [];
  private state: State = "loading";
  private error?: ApiError;
  private asOf = 0;
  private replica = false;
  private version = "";
  private listeners = new Set<() => void>();
  private stop?: AbortController;
  private telling?: number;
  private leaving?: number;
  snapshot: Snapshot<T> = { state: "loading", items: [], columns: [], asOf: 0, replica: false };

  constructor(private readonly source: Source) {}

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    clearTimeout(this.leaving);
    if (!this.stop) {
      this.stop = new AbortController();
      void this.run(this.stop.signal);
    }
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size > 0) return;
      this.leaving = window.setTimeout(() => this.close(), LINGER_MS);
    };
  };

  close(): void {
    this.stop?.abort();
    this.stop = undefined;
  }

  private tell(): void {
    if (this.telling !== undefined) return;
    this.telling = window.setTimeout(() => {
      this.telling = undefined;
      const { state, columns, error, asOf, replica } = this;
      this.snapshot = { state, items: [...this.items.values()], columns, error, asOf, replica };
      for (const listener of this.listeners) listener();
    }, TELL_EVERY_MS);
  }

  private async run(signal: AbortSignal): Promise<void> {
    let wait = 0;
    while (!signal.aborted) {
      try {
        if (this.version === "") await this.listAll(signal);
        wait = 0;
        await this.follow(signal);
      } catch (problem) {
        if (signal.aborted) return;
        const error =
          problem instanceof ApiError ? problem : new ApiError(0, "Unreachable", String(problem));
        if (error.code === 410) {
          this.version = "";
          continue;
        }
        this.error = error;
        this.state = this.asOf > 0 ? "stale" : "failed";
        this.tell();
        // Not allowed now is not allowed in a second; the person may ask again.
        if (error.code === 403 || error.code === 404 || error.code === 401) wait = BACK_OFF_MAX_MS;
        wait = Math.min(BACK_OFF_MAX_MS, wait === 0 ? 500 : wait * 2);
        await connection.pause(wait * (0.5 + Math.random() / 2), signal);
      }
    }
  }

  private ask(more: Record<string, string | number | boolean | undefined>): string {
    const { path, labels, fields } = this.source;
    return path + query({ labelSelector: labels, fieldSelector: fields, ...more });
  }

  private async listAll(signal: AbortSignal): Promise<void> {
    try {
      await this.list(signal, undefined);
      this.replica = false;
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 503) throw error;
      await this.list(signal, "0");
      this.replica = true;
    }
    this.state = "live";
    this.error = undefined;
    this.asOf = Date.now();
    this.tell();
  }

  private async list(signal: AbortSignal, version: string | undefined): Promise<void> {
    const found = new Map<string, T>();
    const accept = this.source.table ? TABLE : undefined;
    let next: string | undefined;
    do {
      const limit = version === undefined ? PAGE : undefined;
      const asked = this.ask({
        limit,
        continue: next,
        resourceVersion: next ? undefined : version,
      });
      const page: Page = await json(asked, { accept, signal });
      if (page.columnDefinitions && page.columnDefinitions.length > 0) {
        this.columns = page.columnDefinitions;
      }
      for (const item of (page.rows ?? page.items ?? []) as T[]) found.set(this.key(item), item);
      next = page.metadata.continue || undefined;
      this.version = page.metadata.resourceVersion ?? "";
    } while (next);
    this.items = found;
  }

  private key(item: T): string {
    return keyOf("metadata" in item ? item.metadata : item.object.metadata);
  }

  private async follow(signal: AbortSignal): Promise<void> {
    const asked = this.ask({
      watch: true,
      allowWatchBookmarks: true,
      resourceVersion: this.version,
      timeoutSeconds: 1_200 + Math.floor(Math.random() * 600),
    });
    const cut = connection.whileUp(signal);
    try {
      const accept = this.source.table ? TABLE : undefined;
      const response = await open(asked, { accept, signal: cut.signal });
      this.state = "live";
      this.error = undefined;
      this.asOf = Date.now();
      this.tell();
      if (!response.body) throw new ApiError(0, "Unreachable", "");
      await readLines(response.body, (lines) => {
        for (const line of lines) this.take(JSON.parse(line) as Event);
        this.asOf = Date.now();
        this.tell();
      });
    } catch (error) {
      if (cut.signal.aborted && !signal.aborted) throw new ApiError(0, "Unreachable", "");
      throw error;
    } finally {
      this.asOf = connection.lastHeard() || this.asOf;
      cut.done();
    }
  }

  private take(event: Event): void {
    const { type, object } = event;
    if (type === "ERROR") {
      throw new ApiError(object.code ?? 500, object.reason ?? "", object.message ?? "");
    }
    const version = object.metadata?.resourceVersion;
    if (version) this.version = version;
    if (type === "BOOKMARK") return;
    const changed = (this.source.table ? (object.rows ?? []) : [object]) as T[];
    for (const item of changed) {
      if (type === "DELETED") this.items.delete(this.key(item));
      else this.items.set(this.key(item), item);
    }
  }
}

const all = new Map<string, Live<Obj> | Live<Row>>();

/** The one list of a source; whoever asks for the same shares it. */
export function live<T extends Obj | Row>(source: Source): Live<T> {
  const name = JSON.stringify([source.path, source.labels, source.fields, source.table]);
  let found = all.get(name);
  if (!found) {
    found = source.table ? new Live<Row>(source) : new Live<Obj>(source);
    all.set(name, found);
  }
  return found as unknown as Live<T>;
}

/** Ends all and forgets what they held: another person may sign in. */
export function forgetAll(): void {
  for (const one of all.values()) one.close();
  all.clear();
}
