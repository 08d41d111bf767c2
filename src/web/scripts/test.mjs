// Runs the unit tests below test/: bundled by the bundler that is here anyway, in Node's
// own runner.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const web = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = mkdtempSync(join(tmpdir(), "holdfast-page-"));
const names = readdirSync(join(web, "test")).filter((name) => name.endsWith(".test.ts"));
await build({
  entryPoints: names.map((name) => join(web, "test", name)),
  outdir: folder,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  // The packages' forms for browsers, as in the page.
  platform: "browser",
  external: ["node:*"],
  format: "esm",
  target: "node18",
});
const files = names.map((name) => join(folder, name.replace(".ts", ".mjs")));
const run = spawnSync(process.execPath, ["--test", ...files], { stdio: "inherit" });
rmSync(folder, { recursive: true });
process.exit(run.status ?? 1);
