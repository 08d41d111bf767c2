// Both languages say the same things.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { en } from "../src/i18n/en";
import { zh } from "../src/i18n/zh";

const sources = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? sources(path) : [path];
  });

test("both catalogues have the same keys", () => {
  assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).sort());
});

test("both texts of a key take the same values", () => {
  const values = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
  for (const [key, text] of Object.entries(en)) {
    assert.deepEqual(values(zh[key as keyof typeof en]), values(text), key);
  }
});

test("nothing is left untranslated", () => {
  const same = Object.entries(en).filter(([key, text]) => zh[key as keyof typeof en] === text);
  assert.deepEqual(same.map(([key]) => key).sort(), ["app.title", "common.yaml"].sort());
});

test("every key is used, and components carry no text of their own", () => {
  const files = sources("src").filter((path) => /\.tsx?$/.test(path) && !path.includes("i18n"));
  assert.ok(files.length > 20, `${files.length} files`);
  const all = files.map((path) => readFileSync(path, "utf8")).join("\n");
  const built = [...all.matchAll(/`([a-zA-Z.]+\.)\$\{/g)].map((found) => found[1] ?? "");
  for (const key of Object.keys(en)) {
    const used = all.includes(`"${key}"`) || built.some((prefix) => key.startsWith(prefix));
    assert.ok(used, `${key} is not used`);
  }
  for (const path of files.filter((one) => one.endsWith(".tsx"))) {
    const text = readFileSync(path, "utf8");
    const bare = [...text.matchAll(/>\s*([A-Za-z][a-z]+ [a-z][^<>{}()=;]*)</g)].map(String);
    assert.deepEqual(bare, [], path);
  }
});
