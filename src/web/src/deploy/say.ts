// A problem in words.

import type { Key, Words } from "../i18n";
import type { Problem } from "./manifest";

export function say(problem: Problem, t: Words["t"]): string {
  const { key, values } = problem;
  if (values?.found === undefined || values.wanted === undefined) return t(key, values);
  // What stands there and what should are words of the catalogue themselves.
  const [found, wanted] = [values.found, values.wanted].map((one) => t(`check.is.${one}` as Key));
  return t(key, { ...values, found: found ?? "", wanted: wanted ?? "" });
}
