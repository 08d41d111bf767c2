// The schemas that this server serves, read group by group when a text first names one.

import { ApiError, json } from "../api/http";
import { GroupSchemas, type OpenApi } from "./schemas";

const kept = new Map<string, Promise<GroupSchemas | undefined>>();

/** The schemas of an `apiVersion`; none if the server does not have it. Throws ApiError. */
export function schemasOf(apiVersion: string): Promise<GroupSchemas | undefined> {
  const well = /^(?:[a-z0-9.-]+\/)?[a-z0-9]+$/.test(apiVersion);
  if (!well) return Promise.resolve(undefined);
  let found = kept.get(apiVersion);
  if (!found) {
    const root = apiVersion.includes("/") ? "apis" : "api";
    found = json<OpenApi>(`/openapi/v3/${root}/${apiVersion}`).then(
      (document) => new GroupSchemas(document),
      (error: unknown) => {
        kept.delete(apiVersion);
        if (error instanceof ApiError && error.code === 404) return undefined;
        throw error;
      },
    );
    kept.set(apiVersion, found);
  }
  return found;
}

/** Kinds come and go with their definitions. */
export const forgetSchemas = (): void => kept.clear();
