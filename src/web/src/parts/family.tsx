// To whom an object belongs, and what belongs to it.

import { Link } from "wouter";
import { collection, type Kind, PODS, pageOf, REPLICA_SETS } from "../api/kinds";
import { type Obj, selectorText } from "../api/objects";
import { useWords } from "../i18n";
import { useLive } from "./hooks";
import { useKinds } from "./kinds-context";
import { PodTable } from "./pod-table";
import { Followed } from "./states";

export function Owners({ object }: { object: Obj }) {
  const kinds = useKinds();
  const owners = object.metadata.ownerReferences ?? [];
  if (owners.length === 0) return undefined;
  return (
    <ul className="pairs">
      {owners.map((owner) => {
        const group = owner.apiVersion.includes("/") ? owner.apiVersion.split("/")[0] : "";
        const kind = kinds.find((one) => one.kind === owner.kind && one.group === group);
        const ns = kind?.namespaced ? object.metadata.namespace : undefined;
        const said = `${owner.kind} ${owner.name}`;
        return (
          <li key={owner.uid}>
            {kind ? <Link href={pageOf(kind, ns, owner.name)}>{said}</Link> : said}
          </li>
        );
      })}
    </ul>
  );
}

const owned = (objects: Obj[], by: Obj): Obj[] =>
  objects.filter((one) =>
    (one.metadata.ownerReferences ?? []).some((owner) => owner.uid === by.metadata.uid),
  );

/** The kinds whose objects are made for those of another. */
const MADE_FOR: Record<string, string> = { Deployment: "replicasets", CronJob: "jobs" };

export function Children({ object, kind }: { object: Obj; kind: Kind }) {
  const { t } = useWords();
  const kinds = useKinds();
  const child = kinds.find((one) => one.plural === MADE_FOR[kind.kind]);
  const found = useLive(child && { path: collection(child, object.metadata.namespace) });
  if (!child) return null;
  const own = owned(found.items, object);
  if (own.length === 0) return <span className="soft">{t("common.none")}</span>;
  return (
    <ul className="pairs">
      {own.map((one) => (
        <li key={one.metadata.uid}>
          <Link href={pageOf(child, one.metadata.namespace, one.metadata.name)}>
            {`${child.kind} ${one.metadata.name}`}
          </Link>
        </li>
      ))}
    </ul>
  );
}

export const hasChildren = (kind: Kind): boolean => kind.kind in MADE_FOR;

/** Whether pods are chosen by the object's selector. */
export const choosesPods = (object: Obj): boolean => selectorText(object.spec?.selector) !== "";

/** The pods of a workload: what its selector chooses and it, or what it made, owns. */
export function PodsOf({ object, kind }: { object: Obj; kind: Kind }) {
  const ns = object.metadata.namespace;
  const labels = selectorText(object.spec?.selector);
  const pods = useLive({ path: collection(PODS, ns), labels });
  const sets = useLive(
    kind.kind === "Deployment" ? { path: collection(REPLICA_SETS, ns), labels } : undefined,
  );
  const between = owned(sets.items, object);
  const own = [object, ...between].flatMap((owner) => owned(pods.items, owner));
  return (
    <Followed of={pods}>
      <PodTable pods={own} withNamespace={false} />
    </Followed>
  );
}
