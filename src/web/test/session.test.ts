// What a session leaves behind in the page.

import assert from "node:assert/strict";
import test from "node:test";
import { draftOf, keepDraft } from "../src/draft";

Object.assign(globalThis, { window: globalThis });
globalThis.addEventListener = (() => undefined) as typeof globalThis.addEventListener;

test("what is typed while one signs out is forgotten too", async () => {
  const { end } = await import("../src/session");
  const draft = { user: "anna", text: "kind: Secret", namespace: "default" };
  globalThis.fetch = async () => {
    keepDraft(draft);
    return new Response("{}");
  };
  await end("out");
  assert.equal(draftOf("anna"), undefined);
  await end("idle");
  assert.deepEqual(draftOf("anna"), draft);
});
