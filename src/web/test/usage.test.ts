// What a node was heard to use, and its line.

import assert from "node:assert/strict";
import test from "node:test";
import type { Obj } from "../src/api/objects";
import { extended, line, type Point } from "../src/api/usage";

const told = (second: number, cpu: string): Obj => ({
  metadata: { name: "a1" },
  timestamp: new Date(second * 1000).toISOString(),
  usage: { cpu, memory: "1024Ki" },
});

test("each measure counts once, the node's own, and the oldest go", () => {
  let points = extended(
    [],
    [told(60, "1500m"), { ...told(60, "9"), metadata: { name: "b1" } }],
    "a1",
  );
  assert.deepEqual(points, [{ at: 60_000, cpu: 1.5, memory: 1_048_576 }]);
  points = extended(points, [told(60, "1500m")], "a1");
  assert.equal(points.length, 1);
  assert.equal(extended(points, [], "a1"), points);
  for (let second = 61; second < 400; second += 1)
    points = extended(points, [told(second, "1")], "a1");
  assert.equal(points.length, 240);
  assert.equal(points.at(-1)?.at, 399_000);
});

test("a line is as high as the share that is used, and never higher than all", () => {
  const points: Point[] = [
    { at: 0, cpu: 0, memory: 0 },
    { at: 300_000, cpu: 1, memory: 0 },
    { at: 600_000, cpu: 8, memory: 0 },
  ];
  assert.equal(line(points, "cpu", 2), "0.0,100.0 300.0,50.0 600.0,0.0");
  assert.equal(line(points.slice(0, 2), "cpu", 2), "0.0,100.0 600.0,50.0");
  assert.equal(line(points, "cpu", 0), "0.0,100.0 300.0,100.0 600.0,100.0");
});
