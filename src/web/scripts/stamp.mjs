// The mark by which the binary's build knows of which source a page was built.
//
// The same sum as in build.rs: FNV-1a over names and contents, in the order of the names.
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";

/** All files below a folder, but for what npm has installed. */
function gather(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (!entry.isDirectory()) return [path];
    return entry.name === "node_modules" ? [] : gather(path);
  });
}

export function stamp(root) {
  let hash = 0x811c9dc5;
  const add = (bytes) => {
    for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  };
  // As build.rs orders them: part by part.
  const parts = (path) => relative(root, path).split("/");
  const order = (left, right) => {
    const [a, b] = [parts(left), parts(right)];
    for (let at = 0; at < Math.min(a.length, b.length); at += 1) {
      if (a[at] !== b[at]) return a[at] < b[at] ? -1 : 1;
    }
    return a.length - b.length;
  };
  for (const path of gather(root).sort(order)) {
    add(Buffer.from(relative(root, path)));
    add([0]);
    add(readFileSync(path));
    add([0]);
  }
  return hash.toString(16).padStart(8, "0");
}
