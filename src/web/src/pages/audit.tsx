// Who did what: the audit log, newest first.

import { Button, Checkbox } from "antd";
import { useCallback, useEffect, useState } from "react";
import { ApiError } from "../api/http";
import { useWords } from "../i18n";
import { Filter } from "../parts/filter";
import { PageHead } from "../parts/frame";
import {
  actorOf,
  byPeople,
  type Operations,
  OperationTable,
  objectOf,
  readOperations,
} from "../parts/operations";
import { Failed, Loading } from "../parts/states";

const AT_ONCE = 200;

export default function Audit() {
  const words = useWords();
  const { t, n } = words;
  const [found, setFound] = useState<Operations>();
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const [typed, setTyped] = useState("");
  const [people, setPeople] = useState(false);

  const read = useCallback(async (older?: Operations) => {
    setBusy(true);
    try {
      const more = await readOperations(AT_ONCE, older?.before);
      setFound(
        older ? { ...more, head: older.head, items: [...older.items, ...more.items] } : more,
      );
      setError(undefined);
    } catch (problem) {
      setError(problem instanceof ApiError ? problem : new ApiError(0, "", String(problem)));
    } finally {
      setBusy(false);
    }
  }, []);
  useEffect(() => void read(), [read]);

  const wanted = typed.trim().toLowerCase();
  const meant = (found?.items ?? []).filter((one) => !people || byPeople(one));
  const items = meant.filter((one) =>
    `${actorOf(one, words)} ${one.verb} ${objectOf(one)}`.toLowerCase().includes(wanted),
  );
  return (
    <>
      <PageHead title={t("audit.title")}>
        <Button loading={busy} onClick={() => void read()}>
          {t("common.refresh")}
        </Button>
      </PageHead>
      {error && <Failed error={error} again={error.code === 403 ? undefined : () => void read()} />}
      {!found && !error && <Loading />}
      {found && (
        <>
          <div className="filters">
            <Filter label={t("audit.filter")} typed={typed} onType={setTyped} />
            <Checkbox checked={people} onChange={(event) => setPeople(event.target.checked)}>
              {t("audit.people")}
            </Checkbox>
            <span className="soft">
              {t("audit.head", { first: found.anchor + 1, last: found.head })}
            </span>
            <span className="count">
              {t("common.shown", { shown: n(items.length), count: n(found.items.length) })}
            </span>
          </div>
          <OperationTable items={items} full />
          {found.before > found.anchor && (
            <div className="filters more">
              <Button loading={busy} onClick={() => void read(found)}>
                {t("audit.older")}
              </Button>
            </div>
          )}
        </>
      )}
    </>
  );
}
