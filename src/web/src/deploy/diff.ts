// Two texts, line by line: what goes, what comes, what stays (Myers' shortest way).

export interface Line {
  sign: " " | "+" | "-";
  text: string;
}

/** Beyond so many changed lines the shortest way is no longer looked for. */
const STEPS_MAX = 600;

function way(a: string[], b: string[]): Map<number, number>[] | undefined {
  const trace: Map<number, number>[] = [];
  let ends = new Map<number, number>([[1, 0]]);
  const bound = Math.min(a.length + b.length, STEPS_MAX);
  for (let steps = 0; steps <= bound; steps += 1) {
    trace.push(new Map(ends));
    const next = new Map(ends);
    for (let k = -steps; k <= steps; k += 2) {
      const down =
        k === -steps || (k !== steps && (ends.get(k - 1) ?? -1) < (ends.get(k + 1) ?? -1));
      let x = down ? (ends.get(k + 1) ?? 0) : (ends.get(k - 1) ?? 0) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      next.set(k, x);
      if (x >= a.length && x - k >= b.length) return trace;
    }
    ends = next;
  }
  return undefined;
}

/** All lines of both, those that changed with their sign. */
export function diff(before: string, after: string): Line[] {
  const lines = (text: string) => (text === "" ? [] : text.replace(/\n$/, "").split("\n"));
  const [a, b] = [lines(before), lines(after)];
  const trace = way(a, b);
  if (!trace) {
    return [
      ...a.map((text): Line => ({ sign: "-", text })),
      ...b.map((text): Line => ({ sign: "+", text })),
    ];
  }
  const found: Line[] = [];
  let [x, y] = [a.length, b.length];
  for (let steps = trace.length - 1; steps >= 0; steps -= 1) {
    const ends = trace[steps] ?? new Map<number, number>();
    const k = x - y;
    const down = k === -steps || (k !== steps && (ends.get(k - 1) ?? -1) < (ends.get(k + 1) ?? -1));
    const from = down ? k + 1 : k - 1;
    const startX = steps === 0 ? 0 : (ends.get(from) ?? 0);
    const startY = steps === 0 ? 0 : startX - from;
    while (x > startX && y > startY && x > 0 && y > 0 && a[x - 1] === b[y - 1]) {
      found.push({ sign: " ", text: a[x - 1] ?? "" });
      x -= 1;
      y -= 1;
    }
    if (steps === 0) break;
    if (down) {
      found.push({ sign: "+", text: b[y - 1] ?? "" });
      y -= 1;
    } else {
      found.push({ sign: "-", text: a[x - 1] ?? "" });
      x -= 1;
    }
  }
  return found.reverse();
}

export interface Hunk {
  /** Lines that stay the same and are left out before it. */
  skipped: number;
  lines: Line[];
}

/** Only what changed, with some lines around it. */
export function hunks(lines: Line[], around = 3): Hunk[] {
  const near = lines.map((_, at) =>
    lines.slice(Math.max(0, at - around), at + around + 1).some((line) => line.sign !== " "),
  );
  const found: Hunk[] = [];
  let skipped = 0;
  lines.forEach((line, at) => {
    if (!near[at]) {
      skipped += 1;
      return;
    }
    if (at === 0 || !near[at - 1]) {
      found.push({ skipped, lines: [] });
      skipped = 0;
    }
    found.at(-1)?.lines.push(line);
  });
  return found;
}
