// A text that is deployed: its parts, its faults with their lines, what may be typed.

import assert from "node:assert/strict";
import test from "node:test";
import { check, nearest } from "../src/deploy/check";
import { named, placeAt, suggestions } from "../src/deploy/complete";
import { lineOf, parse, placeOf, steps } from "../src/deploy/manifest";
import { GroupSchemas, type OpenApi } from "../src/deploy/schemas";

const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` });
const words = { type: "object", additionalProperties: { type: "string" } };
const DOCUMENT: OpenApi = {
  paths: {
    "/apis/apps/v1/namespaces/{namespace}/deployments/{name}": {
      patch: {
        "x-kubernetes-group-version-kind": { group: "apps", version: "v1", kind: "Deployment" },
      },
    },
  },
  components: {
    schemas: {
      Deployment: {
        type: "object",
        properties: {
          apiVersion: { type: "string" },
          kind: { type: "string" },
          metadata: {
            type: "object",
            properties: { name: { type: "string" }, labels: words, annotations: words },
          },
          spec: { allOf: [ref("Spec")], description: "What is wanted." },
        },
        required: ["spec"],
        "x-kubernetes-group-version-kind": [{ group: "apps", version: "v1", kind: "Deployment" }],
      },
      Spec: {
        type: "object",
        properties: {
          replicas: { type: "integer" },
          paused: { type: "boolean" },
          template: ref("Template"),
        },
        required: ["template"],
      },
      Template: {
        type: "object",
        properties: { containers: { type: "array", items: ref("Container") } },
      },
      Container: {
        type: "object",
        properties: {
          name: { type: "string" },
          image: { type: "string" },
          imagePullPolicy: {
            type: "string",
            description:
              "Image pull policy. One of Always, Never, IfNotPresent. Cannot be updated.",
          },
          memory: ref("io.k8s.apimachinery.pkg.api.resource.Quantity"),
          port: ref("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
          args: { type: "array", items: { type: "string" } },
          free: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
        },
        required: ["name"],
      },
      "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        oneOf: [{ type: "string" }, { type: "number" }],
      },
      "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        oneOf: [{ type: "integer" }, { type: "string" }],
      },
    },
  },
};
const GROUP = new GroupSchemas(DOCUMENT);
const read = async (apiVersion: string) => (apiVersion === "apps/v1" ? GROUP : undefined);

const GOOD = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
  labels: {app: shop}
spec:
  replicas: 2
  template:
    containers:
    - name: web
      image: shop:1
      memory: 64Mi
      port: http
      args:
        - "1"
      free:
        any: [1, two]
    - name: side
      memory: 1
      port: 80
`;

/** `line key` of each problem. */
async function told(text: string): Promise<string[]> {
  const { problems } = await check(text, read);
  return problems.map((one) => `${lineOf(text, one.from)} ${one.key}`);
}

test("what is right has no problem, in each of several documents", async () => {
  assert.deepEqual(await told(GOOD), []);
  assert.deepEqual(await told(`# first\n---\n${GOOD}---\n${GOOD}--- # end\n`), []);
});

test("each fault is told on its own line", async () => {
  const faults: [string, string, string[]][] = [
    ["replicas: 2", "replcas: 2", ["7 check.meant"]],
    ["replicas: 2", "number: 2", ["7 check.unknown"]],
    ["replicas: 2", "replicas: two", ["7 check.type"]],
    ["replicas: 2", "replicas: [2]", ["7 check.type"]],
    ["replicas: 2", "paused: 1", ["7 check.type"]],
    ["app: shop", "app: 8080", ["5 check.quotes"]],
    ["app: shop", "app: yes", ["5 check.quotes"]],
    ["memory: 64Mi", "memory: 64MB", ["12 check.quantity"]],
    ["- name: side\n      memory", "- memory", ["18 check.required"]],
    ['- "1"', "- 1", ["15 check.quotes"]],
    ["  name: shop\n", "", ["3 check.name"]],
    ["kind: Deployment", "kind: Deploymnt", ["2 check.meant"]],
    ["kind: Deployment", "kind: Other", ["2 check.noKind"]],
    ["apps/v1", "apps/v7", ["1 check.noVersion"]],
    ["kind: Deployment\n", "", ["1 check.required"]],
    ["image: shop:1", "image: shop:1\n      image: shop:2", ["12 yaml.twice"]],
    ["image: shop:1", "\timage: shop:1", ["11 yaml.tab"]],
    ["image: shop:1", "image: shop: 1", ["11 yaml.nested"]],
    ["image: shop:1", "image shop", ["11 yaml.colon"]],
    ["      image: shop:1", "     image: shop:1", ["11 yaml.indent"]],
  ];
  for (const [good, bad, wanted] of faults) {
    const text = GOOD.replace(good, bad);
    assert.notEqual(text, GOOD, bad);
    assert.deepEqual((await told(text)).slice(0, 1), wanted, bad);
  }
});

test("faults of YAML are told where they are to be mended", async () => {
  const faults: [string, string][] = [
    ["a:\n  - b: 1\n   c: 2\n", "3 yaml.indent"],
    ["a:\n  b: 1\n c: 2\n", "3 yaml.indent"],
    ["a: 1\n  b: 2\n", "2 yaml.indent"],
    ["a: [1, 2\nb: 1\n", "1 yaml.bracket"],
    ["a: {b: 1\nc: 2\n", "1 yaml.bracket"],
    ['x: 0\na: "x\nb: 1\n', "2 yaml.quote"],
    ['x: 0\na: "x\nb: "y"\n', "2 yaml.quote"],
    ["x: 0\na: 'x\nb: 'y'\nc: 1\n", "2 yaml.quote"],
    ["a: b: c\n", "1 yaml.nested"],
    ["a\nb: 1\n", "1 yaml.colon"],
    ["a:\n  b\n  c: 1\n", "2 yaml.colon"],
    ["a:\n\t- b\n", "2 yaml.tab"],
    ["a: 'x' y\n", "1 yaml.after"],
    ["a: @b\n", "1 yaml.start"],
    ["x: 0\na: *b\n", "2 yaml.alias"],
    ["- a\nb: 1\n", "2 yaml.after"],
    ['a: "\\q"\n', "1 yaml.escape"],
  ];
  for (const [text, wanted] of faults)
    assert.ok((await told(text)).includes(wanted), `${text}: ${wanted}`);
});

test("a fault in one document does not hide those of the next", async () => {
  const open = GOOD.replace("image: shop:1", 'image: "shop:1');
  const all = await told(`${open}---\n${GOOD.replace("replicas", "replcas")}`);
  assert.deepEqual(all, ["11 yaml.quote", "28 check.meant"]);
});

test("values are read as kubectl reads them", () => {
  const [part] = parse("a: 0644\nb: yes\nc: 22:22\nd: 2001-01-01\ne: 1_000\n");
  assert.deepEqual(part?.document.toJS(), {
    a: 0o644,
    b: true,
    c: "22:22",
    d: "2001-01-01",
    e: 1000,
  });
});

test("what aliases and merges bring counts", async () => {
  const text = GOOD.replace("- name: web", "- &web\n      name: web").replace(
    "- name: side",
    "- <<: *web",
  );
  assert.deepEqual(await told(text), []);
});

test("aliases that swell are refused and not followed", async () => {
  const levels = Array.from({ length: 12 }, (_, at) => {
    const inner = at === 0 ? "x" : `*a${at - 1}`;
    return `a${at}: &a${at} [${Array.from({ length: 9 }, () => inner).join(", ")}]`;
  });
  const text = `apiVersion: apps/v1\nkind: Deployment\n${levels.join("\n")}\n`;
  assert.deepEqual(await told(text), ["14 yaml.other"]);
});

test("a field that the server names is found", () => {
  const [part] = parse(GOOD);
  assert.ok(part);
  const line = (field: string) => lineOf(GOOD, placeOf(part, field).from);
  assert.equal(line("spec.replicas"), 7);
  assert.equal(line("spec.template.containers[1].memory"), 19);
  assert.equal(line('.spec.template.containers[name="web"].image'), 11);
  assert.equal(line("spec.template.containers[0].absent"), 10);
  assert.equal(line("metadata.labels[app]"), 5);
  assert.equal(line("nothing.of.it"), 1);
  assert.deepEqual(steps('.a.b[k="x.y"].c'), ["a", "b", '[k="x.y"]', "c"]);
});

test("the nearest name is proposed and no far one", () => {
  assert.equal(nearest("replcas", ["replicas", "paused"]), "replicas");
  assert.equal(nearest("Replicas", ["replicas"]), "replicas");
  assert.equal(nearest("xyz", ["replicas"]), undefined);
});

/** The text before `|` is before the cursor. */
const at = (marked: string) => placeAt(marked.replace("|", ""), marked.indexOf("|"));

test("the cursor's place is found in text that is not whole", () => {
  const paths: [string, string, string][] = [
    ["|", "", "key"],
    ["apiVersion: v1\nki|", "", "key"],
    ["kind: De|", "kind", "value"],
    ["spec:\n  re|", "spec", "key"],
    ["spec:\n  replicas: 1\n  |\nother: 1", "spec", "key"],
    ["a: 1\n---\nspec:\n  |", "spec", "key"],
    ["spec:\n  containers:\n  - na|", "spec.containers.[]", "key"],
    ["spec:\n  containers:\n    - na|", "spec.containers.[]", "key"],
    ["spec:\n  containers:\n  - name: a\n    im|", "spec.containers.[]", "key"],
    [
      "spec:\n  containers:\n  - name: a\n    imagePullPolicy: |",
      "spec.containers.[].imagePullPolicy",
      "value",
    ],
    ["containers:\n- name: a\n  ports:\n  - port: 1\n  - |", "containers.[].ports.[]", "key"],
    ["containers:\n-\n  name: a\n  |", "containers.[]", "key"],
    ["containers:\n- name: a\n  # words: here\n\n  |", "containers.[]", "key"],
    ["a:\n  b:\n    c: 1\n|", "", "key"],
    ["a:\n  b:\n    c: 1\n  |", "a", "key"],
  ];
  for (const [text, path, want] of paths) {
    const place = at(text);
    assert.equal(place?.path.join("."), path, text);
    assert.equal(place?.want, want, text);
  }
  for (const text of ["a: {b|", "data:\n  x: |-\n    some|", "# a|", "--- |", "a: b\n  c|"]) {
    const marked = text.lastIndexOf("|");
    assert.equal(placeAt(text.slice(0, marked) + text.slice(marked + 1), marked), undefined, text);
  }
});

test("fields are proposed that are not there yet, with what they hold", () => {
  const root = GROUP.kinds.get("Deployment")?.schema;
  assert.ok(root);
  const offered = (text: string) => {
    const place = at(text);
    return place ? suggestions(place, GROUP, root) : [];
  };
  assert.deepEqual(
    offered("spec:\n  replicas: 1\n  |").map((one) => one.label),
    ["paused", "template"],
  );
  assert.deepEqual(
    offered("spec:\n  |\n  replicas: 1\n").map((one) => one.label),
    ["paused", "template"],
  );
  assert.equal(offered("spec:\n  template:\n    con|")[0]?.apply, "containers:\n      - ");
  const inContainer = "spec:\n  template:\n    containers:\n    - name: a\n      ";
  assert.ok(offered(`${inContainer}|`).some((one) => one.label === "image"));
  assert.ok(!offered(`${inContainer}|`).some((one) => one.label === "name"));
  assert.deepEqual(
    offered(`${inContainer}imagePullPolicy: |`)
      .map((one) => one.label)
      .sort(),
    ["Always", "IfNotPresent", "Never"],
  );
  assert.deepEqual(
    offered("spec:\n  paused: |").map((one) => one.label),
    ["true", "false"],
  );
});

test("values are taken out of descriptions", () => {
  const sorted = (text: string) => named(text).sort();
  assert.deepEqual(sorted('Protocol for port. Must be UDP, TCP, or SCTP. Defaults to "TCP".'), [
    "SCTP",
    "TCP",
    "UDP",
  ]);
  assert.deepEqual(
    sorted(
      "Set DNS policy for the pod. Defaults to \"ClusterFirst\". Valid values are 'ClusterFirstWithHostNet', 'ClusterFirst', 'Default' or 'None'.",
    ),
    ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]
      .filter((one) => one !== "Default")
      .concat([])
      .sort(),
  );
});
