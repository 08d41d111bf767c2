// A list that stays true: versions, bookmarks, a version that is gone, a cut.

import assert from "node:assert/strict";
import test from "node:test";
import type { Obj } from "../src/api/objects";

Object.assign(globalThis, {
  window: Object.assign(globalThis, { addEventListener: () => undefined }),
});

type Answer = { body: unknown } | { lines: unknown[]; open?: boolean } | "cut";

/** Answers the requests in their order and keeps what was asked. */
function server(answers: Answer[]): string[] {
  const asked: string[] = [];
  globalThis.fetch = async (input, init) => {
    asked.push(String(input));
    const answer = answers.shift();
    if (answer === undefined) return new Promise<Response>(() => undefined);
    if (answer === "cut") throw new TypeError("network");
    if ("body" in answer) return new Response(JSON.stringify(answer.body));
    const bytes = new TextEncoder().encode(
      answer.lines.map((line) => `${JSON.stringify(line)}\n`).join(""),
    );
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        // A line may come in pieces.
        controller.enqueue(bytes.slice(0, 7));
        controller.enqueue(bytes.slice(7));
        if (!answer.open) controller.close();
        init?.signal?.addEventListener("abort", () => controller.error(new Error("aborted")));
      },
    });
    return new Response(stream);
  };
  return asked;
}

const object = (name: string, version: number, label = ""): Obj => ({
  metadata: { name, namespace: "n", resourceVersion: String(version), labels: { label } },
});
const page = (version: number, ...items: Obj[]): Answer => ({
  body: { metadata: { resourceVersion: String(version) }, items },
});

async function until(holds: () => boolean): Promise<void> {
  const end = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > end) throw new Error("it did not come to that");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("changes are followed from the list's version, and again from the last bookmark", async () => {
  const { Live } = await import("../src/api/live");
  const asked = server([
    page(5, object("a", 3), object("b", 4)),
    {
      lines: [
        { type: "ADDED", object: object("c", 6) },
        { type: "MODIFIED", object: object("a", 7, "new") },
        { type: "DELETED", object: object("b", 8) },
        { type: "BOOKMARK", object: { metadata: { resourceVersion: "9" } } },
      ],
    },
    { lines: [{ type: "ERROR", object: { code: 410, reason: "Expired", message: "gone" } }] },
    page(20, object("d", 19)),
    { lines: [], open: true },
  ]);
  const list = new Live<Obj>({ path: "/api/v1/things" });
  const seen: string[] = [];
  const leave = list.subscribe(() => {
    seen.push(list.snapshot.items.map((one) => one.metadata.name).join());
  });
  await until(() => seen.at(-1) === "d" && list.snapshot.state === "live");
  assert.match(asked[1] ?? "", /watch=true.*resourceVersion=5/);
  assert.match(asked[2] ?? "", /resourceVersion=9/, "from the bookmark, without a new list");
  assert.doesNotMatch(asked[3] ?? "", /watch/, "a version that is gone makes a new list");
  assert.match(asked[4] ?? "", /resourceVersion=20/);
  leave();
  list.close();
});

test("a cut is shown at once and mended from where it was", async () => {
  const { Live } = await import("../src/api/live");
  const asked = server([
    page(5, object("a", 3)),
    "cut",
    { lines: [{ type: "ADDED", object: object("b", 6) }], open: true },
  ]);
  const list = new Live<Obj>({ path: "/api/v1/things" });
  const states: string[] = [];
  const leave = list.subscribe(() => states.push(list.snapshot.state));
  await until(() => list.snapshot.items.length === 2);
  assert.ok(states.includes("stale"), states.join());
  assert.equal(list.snapshot.state, "live");
  assert.match(asked[2] ?? "", /resourceVersion=5/, "nothing was listed again");
  leave();
  list.close();
});

test("without a majority the list comes from the replica and says so", async () => {
  const { Live } = await import("../src/api/live");
  const real = server([page(5, object("a", 3)), { lines: [], open: true }]);
  const answer = globalThis.fetch;
  let refused = false;
  globalThis.fetch = async (input, init) => {
    if (!refused) {
      refused = true;
      return new Response(JSON.stringify({ code: 503, message: "no majority" }), { status: 503 });
    }
    return answer(input, init);
  };
  const list = new Live<Obj>({ path: "/api/v1/things" });
  const leave = list.subscribe(() => undefined);
  await until(() => list.snapshot.items.length === 1);
  assert.equal(list.snapshot.replica, true);
  assert.match(real[0] ?? "", /resourceVersion=0/);
  leave();
  list.close();
});
