// The head of a page, panels and lists of facts.

import type { ReactNode } from "react";
import { useEffect } from "react";
import { useWords } from "../i18n";

export function PageHead({
  title,
  above,
  tag,
  children,
}: {
  title: string;
  above?: ReactNode;
  tag?: ReactNode;
  children?: ReactNode;
}) {
  useEffect(() => {
    document.title = `${title} · Holdfast`;
  }, [title]);
  return (
    <div className="head">
      <div className="title">
        {above && <div className="above">{above}</div>}
        <h1>{title}</h1>
        {tag}
      </div>
      {children && <div className="tools">{children}</div>}
    </div>
  );
}

export function Panel({
  title,
  more,
  children,
  wide,
}: {
  title: string;
  more?: ReactNode;
  children: ReactNode;
  wide?: boolean;
}) {
  return (
    <section className={wide ? "panel wide" : "panel"}>
      <div className="panel-head">
        <h2>{title}</h2>
        {more}
      </div>
      <div className="panel-body">{children}</div>
    </section>
  );
}

export type Fact = [string, ReactNode];

export function Facts({ facts }: { facts: Fact[] }) {
  return (
    <dl className="facts">
      {facts
        .filter(([, value]) => value !== undefined && value !== "" && value !== null)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

export function Pairs({ pairs }: { pairs: Record<string, unknown> }) {
  const { t } = useWords();
  const entries = Object.entries(pairs);
  if (entries.length === 0) return <span className="soft">{t("common.none")}</span>;
  return (
    <ul className="pairs">
      {entries.map(([key, value]) => (
        <li key={key}>
          <span className="soft">{key}</span>
          {value !== "" && <span>{String(value)}</span>}
        </li>
      ))}
    </ul>
  );
}
