// The schemas of one group's version, as `/openapi/v3` has them, and the way through them.
//
// Why our own walk and no validator: the page's policy permits no code made of text, and a
// person needs the place of a fault in his text, which a validator of values does not know.

export interface Schema {
  $ref?: string;
  type?: string;
  format?: string;
  description?: string;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  required?: string[];
  allOf?: Schema[];
  oneOf?: Schema[];
  anyOf?: Schema[];
  enum?: unknown[];
  nullable?: boolean;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  "x-kubernetes-preserve-unknown-fields"?: boolean;
  "x-kubernetes-int-or-string"?: boolean;
  "x-kubernetes-group-version-kind"?: Gvk[];
}

interface Gvk {
  group: string;
  version: string;
  kind: string;
}

export interface OpenApi {
  paths: Record<string, { patch?: { "x-kubernetes-group-version-kind"?: Gvk } }>;
  components: { schemas: Record<string, Schema> };
}

/** A kind as an address and a schema. */
export interface Served {
  group: string;
  version: string;
  kind: string;
  plural: string;
  namespaced: boolean;
  schema: Schema;
}

/** One group's version: its kinds, and the types that they refer to. */
export class GroupSchemas {
  readonly kinds = new Map<string, Served>();

  constructor(private readonly document: OpenApi) {
    const schemas = Object.values(document.components.schemas);
    for (const [path, methods] of Object.entries(document.paths)) {
      const gvk = methods.patch?.["x-kubernetes-group-version-kind"];
      const schema = schemas.find((one) =>
        one["x-kubernetes-group-version-kind"]?.some(
          (own) => own.kind === gvk?.kind && own.group === gvk.group && own.version === gvk.version,
        ),
      );
      const plural = /\/([^/{}]+)\/\{name\}$/.exec(path)?.[1];
      if (!gvk || !schema || !plural) continue;
      const namespaced = path.includes("/{namespace}/");
      this.kinds.set(gvk.kind, { ...gvk, plural, namespaced, schema });
    }
  }

  /** What is meant where a schema only points elsewhere; `name` is the last type's. */
  resolve(schema: Schema): { schema: Schema; name: string } {
    let found = schema;
    let name = "";
    // A type that points at itself through nothing else would be no type.
    for (let depth = 0; depth < 16; depth += 1) {
      const next = found.$ref ?? (found.allOf?.length === 1 ? found.allOf[0]?.$ref : undefined);
      // A definition in a text may have anything here.
      if (typeof next !== "string") break;
      name = next.slice(next.lastIndexOf("/") + 1);
      found = this.document.components.schemas[name] ?? {};
    }
    return { schema: found, name };
  }

  /** What stands below a field, or below an element (`[]`). */
  below(schema: Schema, step: string): Schema | undefined {
    const own = this.resolve(schema).schema;
    if (step === "[]") return own.items;
    const named = own.properties?.[step];
    if (named) return named;
    return typeof own.additionalProperties === "object" ? own.additionalProperties : undefined;
  }

  at(schema: Schema, path: string[]): Schema | undefined {
    let found: Schema | undefined = schema;
    for (const step of path) found = found && this.below(found, step);
    return found;
  }
}

export const groupOf = (apiVersion: string): [string, string] => {
  const [first = "", second] = apiVersion.split("/");
  return second === undefined ? ["", first] : [first, second];
};
