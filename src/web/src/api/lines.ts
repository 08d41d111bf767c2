// A streamed body, line by line.

/** Calls back with the complete lines of each chunk; returns when the body ends. */
export async function readLines(
  body: ReadableStream<Uint8Array>,
  each: (lines: string[]) => void,
): Promise<void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const text = rest + (done ? decoder.decode() : decoder.decode(value, { stream: true }));
    const lines = text.split("\n");
    rest = done ? "" : (lines.pop() ?? "");
    const whole = done ? lines.filter((line) => line !== "") : lines;
    if (whole.length > 0) each(whole);
    if (done) return;
  }
}
