// Kinds that a text defines itself, before the server knows them.

import { list, map, text } from "../api/objects";
import type { Part } from "./manifest";
import { GroupSchemas, type OpenApi, type Schema } from "./schemas";
import { ALIASES_MAX } from "./yaml-faults";

const METADATA: Schema = {
  type: "object",
  properties: {
    name: { type: "string" },
    namespace: { type: "string" },
    labels: { type: "object", additionalProperties: { type: "string" } },
    annotations: { type: "object", additionalProperties: { type: "string" } },
    finalizers: { type: "array", items: { type: "string" } },
    ownerReferences: { type: "array" },
    generateName: { type: "string" },
  },
};

/** The kinds of the CustomResourceDefinitions among the parts, by `apiVersion`. */
export function definedBy(parts: Part[]): Map<string, GroupSchemas> {
  const documents = new Map<string, OpenApi>();
  for (const part of parts) {
    if (part.kind !== "CustomResourceDefinition" || part.problems.length > 0) continue;
    const definition: unknown = part.document.toJS({ maxAliasCount: ALIASES_MAX });
    const group = text(definition, "spec.group");
    const kind = text(definition, "spec.names.kind");
    const plural = text(definition, "spec.names.plural");
    for (const one of list(definition, "spec.versions")) {
      const version = text(one, "name");
      if (!group || !kind || !plural || !version) continue;
      const apiVersion = `${group}/${version}`;
      const document = documents.get(apiVersion) ?? { paths: {}, components: { schemas: {} } };
      documents.set(apiVersion, document);
      // What is no schema is told at the definition itself; here it only must not mislead.
      const own: Schema = map(one, "schema.openAPIV3Schema");
      const fields = map(own, "properties") as Record<string, Schema>;
      const gvk = { group, version, kind };
      const where = text(definition, "spec.scope") === "Cluster" ? "" : "/namespaces/{namespace}";
      document.paths[`/apis/${apiVersion}${where}/${plural}/{name}`] = {
        patch: { "x-kubernetes-group-version-kind": gvk },
      };
      document.components.schemas[kind] = {
        ...own,
        properties: {
          ...fields,
          apiVersion: { type: "string" },
          kind: { type: "string" },
          metadata: METADATA,
        },
        "x-kubernetes-group-version-kind": [gvk],
      };
    }
  }
  return new Map([...documents].map(([name, document]) => [name, new GroupSchemas(document)]));
}
