// The schemas that this server serves, read group by group when a text first names one.

import { json } from "../api/http";
import { GroupSchemas, type OpenApi } from "./schemas";

const kept = new Map<string, Promise<GroupSchemas | undefined>>();
let index: Promise<Set<string>> | undefined;

/** What the server has, so that nothing is asked for that it has not. */
function groups(): Promise<Set<string>> {
  index ??= json<{ paths: Record<string, unknown> }>("/openapi/v3").then(
    ({ paths }) => new Set(Object.keys(paths)),
    (error: unknown) => {
      index = undefined;
      throw error;
    },
  );
  return index;
}

async function load(apiVersion: string): Promise<GroupSchemas | undefined> {
  const path = `${apiVersion.includes("/") ? "apis" : "api"}/${apiVersion}`;
  if (!(await groups()).has(path)) return undefined;
  return new GroupSchemas(await json<OpenApi>(`/openapi/v3/${path}`));
}

/** The schemas of an `apiVersion`; none if the server does not have it. Throws ApiError. */
export function schemasOf(apiVersion: string): Promise<GroupSchemas | undefined> {
  let found = kept.get(apiVersion);
  if (!found) {
    found = load(apiVersion).catch((error: unknown) => {
      kept.delete(apiVersion);
      throw error;
    });
    kept.set(apiVersion, found);
  }
  return found;
}

/** Kinds come and go with their definitions. */
export function forgetSchemas(): void {
  kept.clear();
  index = undefined;
}
