// Comparing and applying never run beside each other.

import assert from "node:assert/strict";
import test from "node:test";
import { alone } from "../src/deploy/alone";

test("what is begun while something runs does not begin, and after it does, also after a failure", async () => {
  const asked: string[] = [];
  const note = (what: string) => (name: string) => asked.push(`${what} ${name}`);
  Object.assign(globalThis, {
    window: { addEventListener: note("asks"), removeEventListener: note("asks no more") },
  });
  const done: string[] = [];
  let release = () => {};
  const first = alone("applying", async () => {
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    done.push("first");
    throw new Error("refused");
  });
  assert.deepEqual(asked, ["asks beforeunload"]);
  await alone("comparing", async () => void done.push("second"));
  assert.deepEqual(done, []);
  release();
  await assert.rejects(first, /refused/);
  assert.deepEqual(asked, ["asks beforeunload", "asks no more beforeunload"]);
  await alone("comparing", async () => void done.push("third"));
  assert.deepEqual(done, ["first", "third"]);
});
