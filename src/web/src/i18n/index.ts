// The language of the page: the browser's, until somebody chooses.

import { useSyncExternalStore } from "react";
import { en, type Key } from "./en";
import { zh } from "./zh";

export type Language = "en" | "zh";
export type { Key };

const CATALOGUES: Record<Language, Record<Key, string>> = { en, zh };
const CHOICE = "holdfast-language";

function initial(): Language {
  const chosen = localStorage.getItem(CHOICE);
  if (chosen === "en" || chosen === "zh") return chosen;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

let current: Language = initial();
const listeners = new Set<() => void>();

function show(): void {
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
}
show();

export function choose(language: Language): void {
  current = language;
  localStorage.setItem(CHOICE, language);
  show();
  for (const listener of listeners) listener();
}

export type Values = Record<string, string | number>;

export function translate(language: Language, key: Key, values?: Values): string {
  return CATALOGUES[language][key].replace(/\{(\w+)\}/g, (all, name: string) =>
    String(values?.[name] ?? all),
  );
}

export interface Words {
  language: Language;
  t: (key: Key, values?: Values) => string;
  /** A count in the language's digits. */
  n: (value: number, digits?: number) => string;
  /** The clock's time of an instant, in the browser's zone. */
  clock: (at: number | string) => string;
  /** Date and time. */
  moment: (at: number | string) => string;
}

function words(language: Language): Words {
  const locale = language === "zh" ? "zh-CN" : "en-GB";
  const clock = new Intl.DateTimeFormat(locale, { timeStyle: "medium", hour12: false });
  const moment = new Intl.DateTimeFormat(locale, {
    dateStyle: "medium",
    timeStyle: "medium",
    hour12: false,
  });
  const format = (formatter: Intl.DateTimeFormat, at: number | string) => {
    const date = new Date(at);
    return Number.isNaN(date.getTime()) ? "" : formatter.format(date);
  };
  return {
    language,
    t: (key, values) => translate(language, key, values),
    n: (value, digits = 0) =>
      value.toLocaleString(locale, { maximumFractionDigits: digits, minimumFractionDigits: 0 }),
    clock: (at) => format(clock, at),
    moment: (at) => format(moment, at),
  };
}

const WORDS: Record<Language, Words> = { en: words("en"), zh: words("zh") };

export function useWords(): Words {
  const language = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => current,
  );
  return WORDS[language];
}

/** `3d`, `5h`, `12m`: as kubectl says it. */
export function age(since: string | undefined, now: number): string {
  if (!since) return "";
  const seconds = Math.max(0, Math.floor((now - new Date(since).getTime()) / 1000));
  if (Number.isNaN(seconds)) return "";
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}h`;
  return `${Math.floor(hours / 24)}d`;
}
