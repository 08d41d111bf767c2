// Every package of the lock file has a licence that deny.toml allows.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const web = join(dirname(fileURLToPath(import.meta.url)), "..");
const deny = readFileSync(join(web, "../../deny.toml"), "utf8");
const list = deny.split("allow = [")[1]?.split("]")[0] ?? "";
const allowed = new Set([...list.matchAll(/"([^"]+)"/g)].map((found) => found[1]));
const lock = JSON.parse(readFileSync(join(web, "package-lock.json"), "utf8"));

/** `MIT`, `(MIT OR Apache-2.0)`, `MIT AND ISC`. */
function permitted(licence) {
  const text = licence.replace(/[()]/g, " ");
  return text
    .split(/\sOR\s/)
    .some((side) => side.split(/\sAND\s/).every((one) => allowed.has(one.trim())));
}

const wrong = ["GPL-3.0-only", "MIT AND GPL-2.0", ""].filter(permitted);
for (const licence of wrong) console.error(`the check itself is wrong: it permits "${licence}"`);
let count = 0;
for (const [name, about] of Object.entries(lock.packages)) {
  if (name === "") continue;
  count += 1;
  if (!permitted(about.license ?? "")) {
    wrong.push(name);
    console.error(`${name}: licence ${about.license ?? "not named"}`);
  }
}
if (count < 10) wrong.push("the lock file is empty");
if (wrong.length > 0) process.exit(1);
console.log(`${count} packages, all with permitted licences`);
