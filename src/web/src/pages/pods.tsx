// All pods, by what a person asks of them.

import { collection, PODS } from "../api/kinds";
import type { Obj } from "../api/objects";
import { useWords } from "../i18n";
import { PageHead } from "../parts/frame";
import { useLive, useNow } from "../parts/hooks";
import { Listing, NamespaceSelect, useNamespace } from "../parts/listing";
import { appOf, podColumns } from "../parts/pod-table";

export default function Pods() {
  const words = useWords();
  const now = useNow();
  const [ns, setNs] = useNamespace();
  const pods = useLive({ path: collection(PODS, ns || undefined) });
  return (
    <>
      <PageHead title={words.t("common.pods")} />
      <Listing<Obj>
        label={words.t("common.pods")}
        of={pods}
        rows={pods.items}
        rowKey={(pod) => pod.metadata.uid ?? pod.metadata.name}
        matches={(pod, typed) => pod.metadata.name.includes(typed) || appOf(pod).includes(typed)}
        tools={<NamespaceSelect ns={ns} onChange={setNs} />}
        columns={podColumns(words, now, ns === "")}
      />
    </>
  );
}
