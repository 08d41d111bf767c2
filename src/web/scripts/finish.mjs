// After the build: are the sizes within their bounds, and of which source is it?
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { stamp } from "./stamp.mjs";

/** Bytes as sent: what the first page needs, and everything. */
const FIRST_MAX = 350_000;
const ALL_MAX = 900_000;

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const built = join(root, "../../.build/page");

const sent = (path) => gzipSync(readFileSync(join(built, path)), { level: 9 }).length;
const all = readdirSync(built, { recursive: true })
  .map(String)
  .filter((path) => /\.(js|css|html|svg)$/.test(path));
const manifest = JSON.parse(readFileSync(join(built, ".vite/manifest.json"), "utf8"));

/** A chunk with all that it imports at once. */
function needs(name, found = new Set()) {
  const chunk = manifest[name];
  if (found.has(chunk.file)) return found;
  found.add(chunk.file);
  for (const style of chunk.css ?? []) found.add(style);
  for (const other of chunk.imports ?? []) needs(other, found);
  return found;
}

const first = needs("index.html", new Set(["index.html"]));
needs("src/pages/overview.tsx", first);
const sum = (paths) => [...paths].reduce((total, path) => total + sent(path), 0);
const sizes = [
  ["first page (with the overview)", sum(first), FIRST_MAX],
  ["everything", sum(all), ALL_MAX],
];
let over = false;
for (const [what, size, bound] of sizes) {
  console.log(`${what}: ${size} bytes of ${bound} (gzip)`);
  over ||= size > bound;
}
if (over) {
  console.error("The admin page is too large.");
  process.exit(1);
}
const { rmSync } = await import("node:fs");
rmSync(join(built, ".vite"), { recursive: true });
writeFileSync(join(built, ".source"), `${stamp(root)}\n`);
