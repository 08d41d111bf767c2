// Requests to this node. A refusal is an ApiError with the server's own reason.

import { pageHeader } from "./activity";

interface Status {
  message?: string;
  reason?: string;
  code?: number;
  details?: { retryAfterSeconds?: number; causes?: { message?: string; field?: string }[] };
}

export class ApiError extends Error {
  constructor(
    /** 0 if the node was not reached. */
    readonly code: number,
    readonly reason: string,
    message: string,
    readonly causes: string[] = [],
    readonly retryAfter?: number,
    /** Which fields of what was sent are meant. */
    readonly fields: { field: string; message: string }[] = [],
  ) {
    super(message);
  }
}

export interface Ask {
  method?: string;
  body?: unknown;
  /** Of the body. */
  type?: string;
  accept?: string;
  signal?: AbortSignal;
}

type Listener = () => void;
const lost = new Set<Listener>();

/** Calls back when the server no longer knows the session. */
export function onSessionLost(listener: Listener): () => void {
  lost.add(listener);
  return () => lost.delete(listener);
}

async function refusal(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  let status: Status = {};
  try {
    status = JSON.parse(text) as Status;
  } catch {
    status = { message: text.slice(0, 500) };
  }
  const causes = (status.details?.causes ?? []).map((cause) =>
    [cause.field, cause.message].filter(Boolean).join(": "),
  );
  return new ApiError(
    response.status,
    status.reason ?? response.statusText,
    status.message ?? "",
    causes,
    status.details?.retryAfterSeconds ?? (Number(response.headers.get("retry-after")) || undefined),
    (status.details?.causes ?? []).flatMap(({ field, message }) =>
      field ? [{ field, message: message ?? "" }] : [],
    ),
  );
}

/** The answer as it comes; throws ApiError. */
export async function open(path: string, ask: Ask = {}): Promise<Response> {
  const headers: Record<string, string> = { ...pageHeader() };
  headers.Accept = ask.accept ?? "application/json";
  if (ask.body !== undefined) headers["Content-Type"] = ask.type ?? "application/json";
  let response: Response;
  try {
    response = await fetch(path, {
      method: ask.method ?? "GET",
      headers,
      body: ask.body === undefined ? undefined : JSON.stringify(ask.body),
      signal: ask.signal,
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    if (ask.signal?.aborted) throw error;
    throw new ApiError(0, "Unreachable", error instanceof Error ? error.message : "");
  }
  if (response.ok) return response;
  const error = await refusal(response);
  if (error.code === 401 && path !== SESSION) for (const listener of lost) listener();
  throw error;
}

export async function json<T>(path: string, ask: Ask = {}): Promise<T> {
  return (await (await open(path, ask)).json()) as T;
}

export const SESSION = "/holdfast/v1/session";

export function query(values: Record<string, string | number | boolean | undefined>): string {
  const parts = Object.entries(values)
    .filter(([, value]) => value !== undefined && value !== "" && value !== false)
    .map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`);
  return parts.length > 0 ? `?${parts.join("&")}` : "";
}
