// Which kinds this server has, as it says itself, and where their objects stand.

import { json } from "./http";

export interface Kind {
  group: string;
  version: string;
  plural: string;
  kind: string;
  namespaced: boolean;
  verbs: string[];
  subresources: string[];
}

interface Discovered {
  items: {
    metadata?: { name?: string };
    versions: {
      version: string;
      resources: {
        resource: string;
        responseKind?: { kind: string };
        scope: string;
        verbs: string[];
        subresources?: { subresource: string }[];
      }[];
    }[];
  }[];
}

const ACCEPT =
  "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/** Sections of the navigation; what stands in none is the cluster's or made by users. */
const SECTIONS: [string, string[]][] = [
  [
    "workloads",
    [
      "apps/deployments",
      "apps/statefulsets",
      "apps/daemonsets",
      "batch/jobs",
      "batch/cronjobs",
      "/pods",
      "apps/replicasets",
      "autoscaling/horizontalpodautoscalers",
      "policy/poddisruptionbudgets",
    ],
  ],
  [
    "network",
    [
      "/services",
      "networking.k8s.io/ingresses",
      "networking.k8s.io/networkpolicies",
      "networking.k8s.io/ingressclasses",
      "discovery.k8s.io/endpointslices",
    ],
  ],
  ["storage", ["/persistentvolumeclaims", "/persistentvolumes", "storage.k8s.io/storageclasses"]],
  [
    "access",
    [
      "/serviceaccounts",
      "rbac.authorization.k8s.io/roles",
      "rbac.authorization.k8s.io/rolebindings",
      "rbac.authorization.k8s.io/clusterroles",
      "rbac.authorization.k8s.io/clusterrolebindings",
    ],
  ],
  [
    "cluster",
    [
      "/namespaces",
      "/resourcequotas",
      "/limitranges",
      "scheduling.k8s.io/priorityclasses",
      "apiextensions.k8s.io/customresourcedefinitions",
    ],
  ],
];
/** Shown on pages of their own, or nothing that a person looks through. */
const ELSEWHERE = new Set([
  "/nodes",
  "/configmaps",
  "/secrets",
  "/events",
  "/endpoints",
  "apps/controllerrevisions",
  "coordination.k8s.io/leases",
]);

const nameOf = (kind: Kind): string => `${kind.group}/${kind.plural}`;

export function sections(kinds: Kind[]): { name: string; kinds: Kind[] }[] {
  const placed = new Set(SECTIONS.flatMap(([, names]) => names));
  const found = SECTIONS.map(([name, names]) => ({
    name,
    kinds: names.flatMap((wanted) => kinds.filter((kind) => nameOf(kind) === wanted).slice(0, 1)),
  }));
  const others = kinds.filter((kind) => !placed.has(nameOf(kind)) && !ELSEWHERE.has(nameOf(kind)));
  found.push({ name: "custom", kinds: others });
  return found.filter((section) => section.kinds.length > 0);
}

export async function discover(): Promise<Kind[]> {
  const [core, groups] = await Promise.all([
    json<Discovered>("/api", { accept: ACCEPT }),
    json<Discovered>("/apis", { accept: ACCEPT }),
  ]);
  const found: Kind[] = [];
  for (const group of [...core.items, ...groups.items]) {
    const named = new Set<string>();
    for (const version of group.versions) {
      for (const resource of version.resources) {
        // The first version is the one that the server prefers.
        if (!resource.verbs.includes("list") || !resource.verbs.includes("watch")) continue;
        if (named.has(resource.resource)) continue;
        named.add(resource.resource);
        found.push({
          group: group.metadata?.name ?? "",
          version: version.version,
          plural: resource.resource,
          kind: resource.responseKind?.kind ?? resource.resource,
          namespaced: resource.scope === "Namespaced",
          verbs: resource.verbs,
          subresources: (resource.subresources ?? []).map((one) => one.subresource),
        });
      }
    }
  }
  return found;
}

export function collection(kind: Pick<Kind, "group" | "version" | "plural">, ns?: string): string {
  const root = kind.group === "" ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`;
  return ns ? `${root}/namespaces/${ns}/${kind.plural}` : `${root}/${kind.plural}`;
}

export const PODS = { group: "", version: "v1", plural: "pods" };
export const NODES = { group: "", version: "v1", plural: "nodes" };
export const EVENTS = { group: "", version: "v1", plural: "events" };
export const NAMESPACES = { group: "", version: "v1", plural: "namespaces" };
export const CONFIG_MAPS = { group: "", version: "v1", plural: "configmaps" };
export const SECRETS = { group: "", version: "v1", plural: "secrets" };
export const DEPLOYMENTS = { group: "apps", version: "v1", plural: "deployments" };
export const STATEFUL_SETS = { group: "apps", version: "v1", plural: "statefulsets" };
export const DAEMON_SETS = { group: "apps", version: "v1", plural: "daemonsets" };
export const REPLICA_SETS = { group: "apps", version: "v1", plural: "replicasets" };

export const objectPath = (
  kind: Pick<Kind, "group" | "version" | "plural">,
  ns: string | undefined,
  name: string,
): string => `${collection(kind, ns)}/${name}`;

/** The page of an object. */
export function pageOf(
  kind: Pick<Kind, "group" | "version" | "plural">,
  ns: string | undefined,
  name: string,
): string {
  if (kind.group === "" && kind.plural === "nodes") return `/nodes/${name}`;
  if (kind.group === "" && kind.plural === "pods") return `/pods/${ns}/${name}`;
  if (kind.group === "" && (kind.plural === "configmaps" || kind.plural === "secrets")) {
    return `/config/${kind.plural}/${ns}/${name}`;
  }
  return `/kinds/${kind.group || "core"}/${kind.version}/${kind.plural}/${ns ?? "-"}/${name}`;
}

export const listPage = (kind: Kind): string =>
  `/kinds/${kind.group || "core"}/${kind.version}/${kind.plural}`;
