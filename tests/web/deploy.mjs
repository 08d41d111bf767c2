// Deploying from the admin page: a form, the editor, what the cluster says, what becomes of it.
//
// Every wait is for something that is seen. The Deployment that is applied is deleted from its
// page; its Service, and what is left after a failure, the lab's scenario deletes.
import { accessible, PODS_MS } from "./browser.mjs";
import { faults, whole } from "./faults.mjs";

const NAME = "page-shop";
const SEED = 7;
/** Each kind of fault six times. */
const FAULTS = 102;
/** Of a hundred faults so many must be marked on their lines. */
const RIGHT = 0.95;

/** `hello` belongs to whoever has deployed it. */
const TAKEN = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: hello
spec:
  selector:
    matchLabels:
      app: hello
  template:
    spec:
      containers:
      - name: hello
        image: hello:other
`;

const lines = (text) => text.split("\n").length.toLocaleString("en-GB");

/** As if a file had been chosen; what was written before is given up. */
async function load(page, text) {
  // The page judges a text only if there is one, and then asks before it replaces it.
  const written = (await page.locator(".problems").count()) > 0;
  const file = { name: "all.yaml", mimeType: "text/yaml", buffer: Buffer.from(text) };
  await page.locator("input[type=file]").setInputFiles(file);
  if (written) await page.getByRole("dialog").getByRole("button", { name: "Replace" }).click();
  await page.locator('.problems[aria-busy="false"]').getByText(` ${lines(text)} lines`).waitFor();
}

/**
 * The lines that are marked, with what is said of each, once the check has ended and says `text`
 * among the rest. Seen in one look: between two the page may begin another check.
 */
async function told(page, text = "") {
  const seen = await page.waitForFunction((wanted) => {
    const section = document.querySelector('.problems[aria-busy="false"]');
    const said = [...(section?.querySelectorAll("li") ?? [])].map((one) => one.innerText);
    return section && (wanted === "" || said.some((one) => one.includes(wanted))) ? said : null;
  }, text);
  return (await seen.jsonValue()).map((one) => ({
    line: Number(/^Line (\d+)/.exec(one)?.[1]),
    text: one,
  }));
}

async function marksFaults(page, judge, shots) {
  await load(page, whole());
  const none = await told(page);
  judge.check(none.length === 0, `whole manifests are marked: ${JSON.stringify(none[0])}`);
  const made = faults(SEED, FAULTS);
  await load(page, made.text);
  const marked = await told(page);
  const wrong = made.faults.filter(({ first, last, line }) => {
    const own = marked.filter((one) => one.line >= first && one.line <= last);
    return own.length !== 1 || own[0].line !== line;
  });
  const right = made.faults.length - wrong.length;
  judge.check(right >= RIGHT * made.faults.length,
    `of ${made.faults.length} faults ${right} are marked on their lines; not: ${wrong.map((one) => one.name)}`);
  await page.screenshot({ path: `${shots}/deploy-faults-en.png` });
  return `${right} of ${made.faults.length} faults marked on their lines`;
}

/** The form writes into the text, and the editor proposes and marks. */
async function writes(page, judge, shots) {
  await page.getByRole("button", { name: "New Deployment" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Replace" }).click();
  const editor = page.locator(".cm-content");
  await editor.getByText("name: app").first().waitFor();
  const form = page.locator(".form");
  await form.getByLabel("Name", { exact: true }).first().fill(NAME);
  await form.getByLabel("Image").fill("hello:1");
  await editor.getByText("image: hello:1").waitFor();
  await editor.getByText(`name: ${NAME}`).first().waitFor();
  await editor.getByText("replicas: 2").click();
  await page.keyboard.press("End");
  await page.keyboard.type("\nminR");
  await page.locator(".cm-tooltip-autocomplete").getByText("minReadySeconds").click();
  await editor.getByText("minReadySeconds:").waitFor();
  await page.keyboard.type("many");
  const line = (end) => editor.locator(".cm-line").filter({ hasText: `minReadySeconds: ${end}` });
  await line("many").waitFor();
  const [only] = await told(page, "wanted is a whole number");
  judge.check(only.line === 9, `a wrong value in line 9 is marked in line ${only.line}`);
  await page.locator(".cm-lint-marker-error").waitFor();
  await page.screenshot({ path: `${shots}/deploy-typing-en.png` });
  for (const _ of "many") await page.keyboard.press("Backspace");
  await page.keyboard.type("0");
  await line("0").waitFor();
  await page.locator('.problems[aria-busy="false"]').getByText(/^No problem in/).waitFor();
  await accessible(page, judge, "deploy, written");
}

async function applies(page, judge, shots) {
  await page.getByRole("button", { name: "Compare with the cluster" }).click();
  await page.getByRole("heading", { name: "What would change" }).waitFor();
  await page.getByText("is created").nth(1).waitFor();
  await page.locator(".diff .comes").getByText(`name: ${NAME}`).first().waitFor();
  await accessible(page, judge, "deploy, compared");
  await page.screenshot({ path: `${shots}/deploy-compared-en.png`, fullPage: true });
  await page.getByRole("button", { name: "Apply changes (2)" }).click();
  await page.getByText("Ready: 2 of 2 pods").waitFor({ timeout: PODS_MS });
  await accessible(page, judge, "deploy, applied");
  await page.screenshot({ path: `${shots}/deploy-applied-en.png`, fullPage: true });
}

/** Whose field it is, is said; what would be if it were taken over, too. */
async function conflicts(page, judge, shots) {
  judge.expected = ["409 ()"];
  await load(page, TAKEN);
  await page.getByRole("button", { name: "Compare with the cluster" }).click();
  const [only] = await told(page, "image is held by holdfast");
  judge.check(only.line === 13, `the field of another in line 13 is marked in line ${only.line}`);
  await page.screenshot({ path: `${shots}/deploy-conflict-en.png`, fullPage: true });
  await page.getByLabel("Take these fields over").check();
  await page.locator(".diff .comes").getByText("image: hello:other").waitFor();
  await page.locator(".diff .goes").getByText("image: hello:1").waitFor();
  judge.expected = [];
}

/** Restarted and taken back from its page, then deleted. */
async function changes(page) {
  await page.getByRole("button", { name: "Restart" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Restart" }).click();
  await page.getByRole("tab", { name: "Revisions" }).click();
  const row = (number) => page.locator("tbody tr").filter({ hasText: new RegExp(`^${number}(?!\\d)`) });
  await row(2).getByText("current").waitFor();
  await row(1).getByRole("button", { name: "Go back to this" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Go back to this" }).click();
  await row(3).getByText("current").waitFor();
  await page.getByRole("button", { name: "Delete" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("textbox").fill(NAME);
  await dialog.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("heading", { level: 1, name: "Deployment" }).waitFor();
  await page.locator("tbody").getByText("hello", { exact: true }).first().waitFor();
}

export async function deploys(page, judge, { show, shots }) {
  await show(page, "/ui/deploy");
  await page.locator(".cm-content").waitFor();
  const said = await marksFaults(page, judge, shots);
  await writes(page, judge, shots);
  await applies(page, judge, shots);
  await page.getByRole("link", { name: `Deployment default/${NAME}` }).click();
  await page.getByRole("heading", { level: 1, name: NAME }).waitFor();
  // What was being written is still there when one comes back.
  await page.getByRole("link", { name: "Deploy", exact: true }).click();
  await page.locator(".cm-content").getByText("minReadySeconds").waitFor();
  await conflicts(page, judge, shots);
  await show(page, `/ui/kinds/apps/v1/deployments/default/${NAME}`);
  await changes(page);
  return said;
}

/** The same page in Chinese, with something on it. */
export async function deploysInChinese(page, judge, { show, shots }) {
  await show(page, "/ui/deploy");
  await page.getByRole("button", { name: "新建 StatefulSet" }).click();
  await page.getByText(/没有问题$/).waitFor();
  await accessible(page, judge, "deploy in Chinese");
  await page.screenshot({ path: `${shots}/deploy-written-zh.png` });
}
