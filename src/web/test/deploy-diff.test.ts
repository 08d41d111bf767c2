// The lines that go and come.

import assert from "node:assert/strict";
import test from "node:test";
import { diff, hunks } from "../src/deploy/diff";

const shown = (a: string[], b: string[]) =>
  diff(a.join("\n"), b.join("\n")).map((line) => line.sign + line.text);

test("lines that go and come are told between those that stay", () => {
  assert.deepEqual(shown(["a", "b", "c"], ["a", "x", "c"]), [" a", "-b", "+x", " c"]);
  assert.deepEqual(shown([], ["a"]), ["+a"]);
  assert.deepEqual(shown(["a"], []), ["-a"]);
  assert.deepEqual(shown([], []), []);
  assert.deepEqual(shown(["a", "b"], ["a", "b"]), [" a", " b"]);
});

/** A small generator, so that a failure is the same each time. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test("both texts come out of every difference, and it is a shortest one for small texts", () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const next = numbers(seed);
    const make = () => Array.from({ length: next(12) }, () => "abcd"[next(4)] ?? "");
    const [a, b] = [make(), make()];
    const lines = diff(a.join("\n"), b.join("\n"));
    const side = (sign: string) =>
      lines.filter((line) => line.sign === " " || line.sign === sign).map((line) => line.text);
    assert.deepEqual(side("-"), a, `seed ${seed}`);
    assert.deepEqual(side("+"), b, `seed ${seed}`);
    const stay = lines.filter((line) => line.sign === " ").length;
    assert.equal(stay, common(a, b), `seed ${seed}`);
  }
});

/** The length of the longest common sequence, by the plain table. */
function common(a: string[], b: string[]): number {
  const table = Array.from({ length: a.length + 1 }, () => new Array<number>(b.length + 1).fill(0));
  const value = (i: number, j: number) => table[i]?.[j] ?? 0;
  for (let i = 1; i <= a.length; i += 1) {
    for (let j = 1; j <= b.length; j += 1) {
      const row = table[i];
      if (!row) continue;
      row[j] =
        a[i - 1] === b[j - 1]
          ? value(i - 1, j - 1) + 1
          : Math.max(value(i - 1, j), value(i, j - 1));
    }
  }
  return value(a.length, b.length);
}

test("texts that have nothing in common are told whole and at once", () => {
  const many = (word: string) => Array.from({ length: 2_000 }, (_, at) => `${word}${at}`);
  const lines = diff(many("a").join("\n"), many("b").join("\n"));
  assert.equal(lines.length, 4_000);
});

test("what stays is left out but for what stands around a change", () => {
  const a = Array.from({ length: 30 }, (_, at) => String(at));
  const b = a.map((line) => (line === "10" || line === "25" ? "new" : line));
  const found = hunks(diff(a.join("\n"), b.join("\n")), 2);
  assert.deepEqual(
    found.map((one) => [one.skipped, one.lines.length]),
    [
      [8, 6],
      [10, 6],
    ],
  );
});
