// An object as YAML, to read and to copy.

import { Button, Checkbox } from "antd";
import { useEffect, useMemo, useState } from "react";
import type { Obj } from "../api/objects";
import { useWords } from "../i18n";
import { Loading } from "./states";

type Dump = (value: unknown) => string;

export default function YamlView({ object }: { object: Obj }) {
  const { t } = useWords();
  const [dump, setDump] = useState<Dump>();
  const [owners, setOwners] = useState(false);
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    void import("yaml").then(({ stringify }) => {
      setDump(
        () => (value: unknown) => stringify(value, { lineWidth: 0, aliasDuplicateObjects: false }),
      );
    });
  }, []);
  const shown = useMemo(() => {
    if (!dump) return "";
    if (owners) return dump(object);
    const { managedFields: _, ...metadata } = object.metadata as unknown as Record<string, unknown>;
    return dump({ ...object, metadata });
  }, [dump, object, owners]);
  if (!dump) return <Loading />;
  const copy = async () => {
    await navigator.clipboard.writeText(shown);
    setCopied(true);
    setTimeout(() => setCopied(false), 2_000);
  };
  return (
    <div className="yaml">
      <div className="filters">
        <Button size="small" onClick={() => void copy()}>
          {copied ? t("common.copied") : t("common.copy")}
        </Button>
        <Checkbox checked={owners} onChange={(event) => setOwners(event.target.checked)}>
          {t("object.managedFields")}
        </Checkbox>
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a frame that scrolls must have the focus */}
      <pre tabIndex={0}>{shown}</pre>
    </div>
  );
}
