// What a page shows instead of its content: it loads, it is empty, it failed and why.

import { Alert, Button, Empty, Spin } from "antd";
import type { ReactNode } from "react";
import { ApiError } from "../api/http";
import type { Snapshot } from "../api/live";
import { type Key, useWords, type Words } from "../i18n";
import { useLink } from "./hooks";

const ADVICE = new Set([0, 400, 401, 403, 404, 409, 422, 429, 503]);

export const advice = (error: ApiError): Key =>
  (ADVICE.has(error.code) ? `error.do.${error.code}` : "error.do.other") as Key;

/** The server's reason and what to do, as one text. */
export function reasonOf(error: unknown, words: Words): { reason: string; todo: string } {
  const known = error instanceof ApiError ? error : new ApiError(-1, "", String(error));
  return { reason: known.message || known.reason, todo: words.t(advice(known)) };
}

export function Failed({
  error,
  again,
  todo: own,
}: {
  error: ApiError;
  again?: () => void;
  /** What to do here, where it is another thing than elsewhere. */
  todo?: Key;
}) {
  const words = useWords();
  const { reason, todo: usual } = reasonOf(error, words);
  const todo = own ? words.t(own) : usual;
  return (
    <Alert
      type="error"
      showIcon
      title={words.t("error.title")}
      description={
        <>
          {reason && <p>{words.t("error.reason", { message: reason })}</p>}
          {error.causes.length > 1 && (
            <ul>
              {error.causes.map((cause) => (
                <li key={cause}>{cause}</li>
              ))}
            </ul>
          )}
          <p>{todo}</p>
        </>
      }
      action={again && <Button onClick={again}>{words.t("error.retry")}</Button>}
    />
  );
}

export function Loading() {
  const { t } = useWords();
  return (
    <div className="loading" role="status">
      <Spin />
      <span>{t("state.loading")}</span>
    </div>
  );
}

export const Nothing = ({ text }: { text?: string }) => {
  const { t } = useWords();
  return <Empty image={Empty.PRESENTED_IMAGE_SIMPLE} description={text ?? t("state.empty")} />;
};

/** The content once there is some; before, why not. Says when it is old. */
export function Followed({
  of,
  children,
}: {
  of: Pick<Snapshot<unknown>, "state" | "error" | "asOf" | "replica">;
  children: ReactNode;
}) {
  const { t, clock } = useWords();
  const link = useLink();
  if (of.state === "loading") return <Loading />;
  if (of.state === "failed" && of.error) return <Failed error={of.error} />;
  return (
    <>
      {of.state === "stale" && (
        <Alert
          className="stale"
          type="warning"
          showIcon
          title={t("state.stale", { time: clock(of.asOf) })}
        />
      )}
      {of.replica && link !== "up" && (
        <Alert className="stale" type="warning" showIcon title={t("state.replica")} />
      )}
      {children}
    </>
  );
}
