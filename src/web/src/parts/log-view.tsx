// A container's log: streamed, kept within a bound, searched, drawn only where it is seen.

import { Alert, Button, Checkbox } from "antd";
import { useEffect, useMemo, useRef, useState } from "react";
import { connection } from "../api/connection";
import { ApiError, open, query } from "../api/http";
import { readLines } from "../api/lines";
import { useWords } from "../i18n";
import { Filter } from "./filter";
import { Failed } from "./states";

/** Lines that are kept; more would only be scrolled past. */
const KEPT = 50_000;
const DROPPED_AT_ONCE = 5_000;
const TAIL = 2_000;
const ROW = 18;
const TELL_EVERY_MS = 100;
const SPARE = 20;

type End = "open" | "ended" | "cut";

interface Book {
  lines: string[];
  dropped: number;
  end: End;
}

/** Follows a log; after a cut it goes on where it was, by the server's times. */
function useLog(path: string, container: string, follow: boolean, previous: boolean) {
  const [book, setBook] = useState<Book>({ lines: [], dropped: 0, end: "open" });
  const [error, setError] = useState<ApiError>();
  useEffect(() => {
    const stop = new AbortController();
    const lines: string[] = [];
    let dropped = 0;
    let telling: number | undefined;
    let last = "";
    const tell = (end: End) => {
      clearTimeout(telling);
      telling = undefined;
      if (!stop.signal.aborted) setBook({ lines: [...lines], dropped, end });
    };
    const take = (more: string[]) => {
      for (const line of more) {
        // Each line begins with its time; what came before a cut comes once more.
        const space = line.indexOf(" ");
        const time = line.slice(0, space);
        if (time !== "" && time <= last) continue;
        last = time;
        lines.push(line.slice(space + 1));
      }
      if (lines.length > KEPT)
        dropped += lines.splice(0, lines.length - KEPT + DROPPED_AT_ONCE).length;
      telling ??= window.setTimeout(() => tell("open"), TELL_EVERY_MS);
    };
    const run = async () => {
      setError(undefined);
      setBook({ lines: [], dropped: 0, end: "open" });
      while (!stop.signal.aborted) {
        const cut = connection.whileUp(stop.signal);
        try {
          const asked = { container, follow, previous, timestamps: true };
          const since = last === "" ? { tailLines: TAIL } : { sinceTime: last };
          const response = await open(path + query({ ...asked, ...since }), {
            accept: "*/*",
            signal: cut.signal,
          });
          if (response.body) await readLines(response.body, take);
          tell("ended");
          return;
        } catch (problem) {
          if (stop.signal.aborted) return;
          const known = problem instanceof ApiError ? problem : new ApiError(0, "", "");
          if (known.code !== 0 && known.code < 500) {
            setError(known);
            return;
          }
          tell("cut");
          await connection.pause(2_000, stop.signal);
        } finally {
          cut.done();
        }
      }
    };
    void run();
    return () => {
      stop.abort();
      clearTimeout(telling);
    };
  }, [path, container, follow, previous]);
  return { book, error };
}

function Marked({ line, wanted }: { line: string; wanted: string }) {
  if (wanted === "") return <>{line}</>;
  const parts: { text: string; hit: boolean; at: number }[] = [];
  const low = line.toLowerCase();
  let from = 0;
  for (let hit = low.indexOf(wanted); hit >= 0; hit = low.indexOf(wanted, from)) {
    parts.push({ text: line.slice(from, hit), hit: false, at: from });
    parts.push({ text: line.slice(hit, hit + wanted.length), hit: true, at: hit });
    from = hit + wanted.length;
  }
  parts.push({ text: line.slice(from), hit: false, at: from });
  return (
    <>
      {parts.map((part) =>
        part.hit ? (
          <mark key={part.at}>{part.text}</mark>
        ) : (
          <span key={`t${part.at}`}>{part.text}</span>
        ),
      )}
    </>
  );
}

export function LogView({ path, container }: { path: string; container: string }) {
  const { t, n } = useWords();
  const [follow, setFollow] = useState(true);
  const [previous, setPrevious] = useState(false);
  const [typed, setTyped] = useState("");
  const [current, setCurrent] = useState(-1);
  const [view, setView] = useState({ top: 0, height: 600 });
  const frame = useRef<HTMLElement>(null);
  const { book, error } = useLog(path, container, follow && !previous, previous);
  const wanted = typed.trim().toLowerCase();
  const hits = useMemo(
    () =>
      wanted === ""
        ? []
        : book.lines.flatMap((line, at) => (line.toLowerCase().includes(wanted) ? [at] : [])),
    [book.lines, wanted],
  );

  // biome-ignore lint/correctness/useExhaustiveDependencies: at every new line
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    if (follow && wanted === "") element.scrollTop = element.scrollHeight;
    setView({ top: element.scrollTop, height: element.clientHeight });
  }, [book.lines, follow]);

  const jump = (by: number) => {
    if (hits.length === 0 || !frame.current) return;
    const next = (current + by + hits.length) % hits.length;
    setCurrent(next);
    frame.current.scrollTop = (hits[next] ?? 0) * ROW - view.height / 2;
  };

  const first = Math.max(0, Math.floor(view.top / ROW) - SPARE);
  const last = Math.min(book.lines.length, Math.ceil((view.top + view.height) / ROW) + SPARE);
  return (
    <div>
      <div className="filters">
        <Filter
          label={t("logs.search")}
          typed={typed}
          onType={(now) => {
            setTyped(now);
            setCurrent(-1);
          }}
          onEnter={(backwards) => jump(backwards ? -1 : 1)}
        />
        {wanted !== "" && (
          <>
            <span role="status">{t("logs.matches", { count: n(hits.length) })}</span>
            <Button size="small" onClick={() => jump(-1)} aria-label="↑">
              ↑
            </Button>
            <Button size="small" onClick={() => jump(1)} aria-label="↓">
              ↓
            </Button>
          </>
        )}
        <Checkbox
          checked={follow}
          disabled={previous}
          onChange={(event) => setFollow(event.target.checked)}
        >
          {t("logs.follow")}
        </Checkbox>
        <Checkbox checked={previous} onChange={(event) => setPrevious(event.target.checked)}>
          {t("logs.previous")}
        </Checkbox>
        <span className="count">{t("logs.lines", { count: n(book.lines.length) })}</span>
      </div>
      {error && <Failed error={error} />}
      {book.end === "cut" && (
        <Alert className="stale" type="warning" showIcon title={t("logs.cut")} />
      )}
      {book.dropped > 0 && (
        <p className="soft">{t("logs.dropped", { count: n(book.lines.length) })}</p>
      )}
      {!error && (
        <section
          ref={frame}
          className="log mono"
          aria-label={t("logs.label", { container })}
          // biome-ignore lint/a11y/noNoninteractiveTabindex: a frame that scrolls must have the focus
          tabIndex={0}
          onScroll={(event) => {
            const { scrollTop, clientHeight } = event.currentTarget;
            setView({ top: scrollTop, height: clientHeight });
          }}
        >
          {book.lines.length === 0 && <p className="empty">{t("logs.empty")}</p>}
          <div style={{ height: book.lines.length * ROW }}>
            {book.lines.slice(first, last).map((line, at) => (
              <div
                // biome-ignore lint/suspicious/noArrayIndexKey: a line is known by its number alone
                key={first + at + book.dropped}
                className={hits[current] === first + at ? "row current" : "row"}
                style={{ top: (first + at) * ROW }}
              >
                <Marked line={line} wanted={wanted} />
              </div>
            ))}
          </div>
        </section>
      )}
      {book.end === "ended" && book.lines.length > 0 && <p className="soft">{t("logs.ended")}</p>}
    </div>
  );
}
