// The form writes into the text and leaves the rest of it as it was.

import assert from "node:assert/strict";
import test from "node:test";
import { lineOfWords, readList, readText, rename, wordsOf, write } from "../src/deploy/forms";
import { parse } from "../src/deploy/manifest";
import { TEMPLATES } from "../src/deploy/templates";

const TEXT = `# who owns it
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop # short
  labels: {app: shop}
spec:
  replicas: 2
  template:
    spec:
      containers:
      - name: shop
        image: "shop:1"
        args: [run, "--fast"]
        resources:
          requests:
            cpu: 100m
`;
const CONTAINER = ["spec", "template", "spec", "containers", 0];
const set = (text: string, path: (string | number)[], value: unknown) => {
  const [part] = parse(text);
  assert.ok(part);
  return write(text, part, path, value);
};

test("one field is changed and nothing else", () => {
  assert.equal(set(TEXT, ["spec", "replicas"], 5), TEXT.replace("replicas: 2", "replicas: 5"));
  const image = set(TEXT, [...CONTAINER, "image"], "shop:2");
  assert.equal(image, TEXT.replace("shop:1", "shop:2"));
  const indented = "spec:\n  list:\n    - a: 1\n    - b: { c: 2 }\n";
  assert.equal(set(indented, ["spec", "list", 0, "a"], 3), indented.replace("a: 1", "a: 3"));
});

test("a field that is not there is put in, and one that goes takes what was only for it", () => {
  const set2 = set(TEXT, [...CONTAINER, "resources", "limits", "memory"], "64Mi");
  assert.ok(
    set2.endsWith("            cpu: 100m\n          limits:\n            memory: 64Mi\n"),
    set2,
  );
  const gone = set(TEXT, [...CONTAINER, "resources", "requests", "cpu"], undefined);
  assert.ok(!gone.includes("resources"), gone);
  assert.equal(set(TEXT, ["spec", "paused"], undefined), TEXT);
});

test("values that YAML would read as others are put in quotes", () => {
  for (const value of ["yes", "0644", "1e3", "null", "a: b", "", "22:22"]) {
    const text = set(TEXT, [...CONTAINER, "image"], value);
    const [part] = parse(text);
    assert.ok(part);
    assert.equal(readText(part, [...CONTAINER, "image"]), value);
    assert.equal(part.problems.length, 0, text);
  }
});

test("the other documents stay as they are", () => {
  const other = "a:   1 # odd\nb: [ 1,2 ]\n";
  const text = `${other}---\n${TEXT}---\n${other}`;
  const part = parse(text)[1];
  assert.ok(part);
  const changed = write(text, part, ["spec", "replicas"], 7);
  assert.equal(changed, text.replace("replicas: 2", "replicas: 7"));
});

/** Renames the document of that number. */
const call = (text: string, to: string, number = 0) => {
  const part = parse(text)[number];
  assert.ok(part);
  return rename(text, part, to);
};
/** Of each document its kind and name. */
const names = (text: string) => parse(text).map((part) => `${part.kind} ${part.name}`);
const workloadOf = (text: string) =>
  parse(text).findIndex((part) => !["Service", "ConfigMap"].includes(part.kind));

test("a new name goes where the old one was, also letter by letter", () => {
  let text: string = TEMPLATES.deployment("app");
  for (const next of ["ap", "a", "as", "s", "sh", "shop"]) {
    text = call(text, next, workloadOf(text));
  }
  assert.equal(text, TEMPLATES.deployment("shop"));
  assert.equal(call(TEMPLATES.cronJob("app"), "night"), TEMPLATES.cronJob("night"));
  const set3 = TEMPLATES.statefulSet("app");
  assert.equal(call(set3, "ledger", workloadOf(set3)), TEMPLATES.statefulSet("ledger"));
});

test("nothing is no name: what was and what is empty stays", () => {
  const text = TEMPLATES.deployment("app");
  const at = workloadOf(text);
  const none = call(text, "", at);
  assert.ok(names(none).includes("Service app"), none);
  assert.ok(none.includes("app: app"), none);
  const again = call(none.replace("app: app", 'app: ""'), "shop", at);
  assert.ok(again.includes('app: ""'), again);
  assert.ok(
    names(again).includes("Deployment shop") && names(again).includes("Service app"),
    again,
  );
});

const SERVICE = `apiVersion: v1
kind: Service
metadata: {name: shop}
`;

test("only what belongs to the renamed workload gets its name", () => {
  const there = SERVICE.replace("shop}", "shop, namespace: other}");
  const moved = call([TEXT, SERVICE, there].join("---\n"), "mall");
  assert.deepEqual(names(moved), ["Deployment mall", "Service mall", "Service shop"]);
  const second = TEXT.replace("Deployment", "DaemonSet");
  const shared = call([TEXT, SERVICE, second].join("---\n"), "mall", 2);
  assert.deepEqual(names(shared), ["Deployment shop", "Service shop", "DaemonSet mall"]);
});

test("a document that cannot be read is left alone", () => {
  const broken = `${SERVICE}spec: {ports: [\n`;
  const text = [TEXT, broken].join("---\n");
  const changed = call(text, "mall");
  assert.ok(changed.endsWith(broken), changed);
  assert.ok(changed.includes("name: mall # short"), changed);
  assert.equal(call(text, "mall", 1), text);
});

test("every template is whole", () => {
  for (const make of Object.values(TEMPLATES)) {
    for (const part of parse(make("app"))) {
      assert.deepEqual(part.problems, []);
      assert.equal(part.name, "app");
    }
  }
});

test("words of a command keep their spaces and quotes", () => {
  const words = ["run", "a b", 'say "x"', "", "it's", "c:\\d"];
  assert.deepEqual(wordsOf(lineOfWords(words)), words);
  const [part] = parse(TEXT);
  assert.ok(part);
  assert.deepEqual(readList(part, [...CONTAINER, "args"]), ["run", "--fast"]);
});
