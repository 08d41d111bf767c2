// What happened in the last hour.

import { Checkbox } from "antd";
import { useState } from "react";
import { collection, EVENTS } from "../api/kinds";
import { text } from "../api/objects";
import { useWords } from "../i18n";
import { EventTable } from "../parts/events";
import { PageHead } from "../parts/frame";
import { useLive } from "../parts/hooks";
import { NamespaceSelect, useNamespace } from "../parts/listing";
import { Followed } from "../parts/states";

export default function Events() {
  const { t, n } = useWords();
  const [ns, setNs] = useNamespace();
  const [warnings, setWarnings] = useState(false);
  const events = useLive({ path: collection(EVENTS, ns || undefined) });
  const shown = events.items.filter((event) => !warnings || text(event, "type") === "Warning");
  return (
    <>
      <PageHead title={t("events.title")} />
      <div className="filters">
        <NamespaceSelect ns={ns} onChange={setNs} />
        <Checkbox checked={warnings} onChange={(event) => setWarnings(event.target.checked)}>
          {t("events.onlyWarnings")}
        </Checkbox>
        <span className="count">{t("common.total", { count: n(shown.length) })}</span>
      </div>
      <Followed of={events}>
        <EventTable events={shown} withObject />
      </Followed>
    </>
  );
}
