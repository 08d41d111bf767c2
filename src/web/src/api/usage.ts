// What a node was heard to use, as points in time and as a line.

import { type Obj, quantity, text } from "./objects";

/** An hour. */
const POINTS_MAX = 240;
/** A chart that has just begun is not stretched over its width. */
const SPAN_MIN_MS = 300_000;

export interface Point {
  at: number;
  cpu: number;
  memory: number;
}

/** With what was measured last; a measure that was heard before is no new one. */
export function extended(points: Point[], items: Obj[], node: string): Point[] {
  const found = items.find((one) => one.metadata.name === node);
  const at = Date.parse(text(found, "timestamp"));
  if (Number.isNaN(at) || points.some((point) => point.at >= at)) return points;
  const cpu = quantity(text(found, "usage.cpu"));
  const memory = quantity(text(found, "usage.memory"));
  return [...points, { at, cpu, memory }].slice(-POINTS_MAX);
}

/** Points of the line in a field of 600 × 100. */
export function line(points: Point[], of: "cpu" | "memory", all: number): string {
  const first = points[0]?.at ?? 0;
  const span = Math.max(SPAN_MIN_MS, (points.at(-1)?.at ?? 0) - first);
  return points
    .map((point) => {
      const x = ((point.at - first) / span) * 600;
      const y = 100 - Math.min(1, all > 0 ? point[of] / all : 0) * 100;
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    })
    .join(" ");
}
