// The history of a Deployment, and the way back.

import { Button } from "antd";
import { useEffect, useState } from "react";
import { type Revision, revisions, undo } from "../api/actions";
import { ApiError } from "../api/http";
import type { Obj } from "../api/objects";
import { age, useWords } from "../i18n";
import { Ask, type Question } from "./act";
import { useNow } from "./hooks";
import { DataTable } from "./listing";
import { Failed, Loading } from "./states";

export function Revisions({ deployment }: { deployment: Obj }) {
  const { t } = useWords();
  const now = useNow();
  const [found, setFound] = useState<Revision[]>();
  const [error, setError] = useState<ApiError>();
  const [question, setQuestion] = useState<Question>();
  const number = deployment.metadata.annotations?.["deployment.kubernetes.io/revision"];
  // biome-ignore lint/correctness/useExhaustiveDependencies: another revision is another history
  useEffect(() => {
    revisions(deployment).then(setFound, (problem: unknown) =>
      setError(problem instanceof ApiError ? problem : new ApiError(0, "", String(problem))),
    );
  }, [number, deployment.metadata.uid]);
  if (error) return <Failed error={error} />;
  if (!found) return <Loading />;
  const name = deployment.metadata.name;
  const back = (revision: Revision): Question => ({
    title: t("object.undoTitle", { number: revision.number }),
    text: t("object.undoText", { name, number: revision.number }),
    ok: t("object.undo"),
    run: () => undo(deployment, revision),
    done: t("object.undone", { name, number: revision.number }),
  });
  return (
    <>
      <DataTable<Revision>
        label={t("object.revisions")}
        rows={found}
        rowKey={(one) => String(one.number)}
        columns={[
          { title: t("object.revision"), width: 100, align: "right", dataIndex: "number" },
          { title: t("object.images"), render: (_, one) => one.images.join(", ") },
          {
            title: t("common.age"),
            width: 120,
            render: (_, one) => age(one.set.metadata.creationTimestamp, now),
          },
          {
            title: t("common.actions"),
            width: 180,
            render: (_, one) =>
              one.current ? (
                <span className="soft">{t("object.current")}</span>
              ) : (
                <Button size="small" onClick={() => setQuestion(back(one))}>
                  {t("object.undo")}
                </Button>
              ),
          },
        ]}
      />
      <Ask question={question} onClose={() => setQuestion(undefined)} />
    </>
  );
}
