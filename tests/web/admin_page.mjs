// Uses the admin page in headless Chromium as an operator does, and judges it.
//
// Why a browser: only it says whether the page's own policy lets the page in, whether
// anything errs or leaves the node, and whether a person sees what happens in the cluster.
// Input: HOLDFAST_ADMIN_URL (of one node), HOLDFAST_ADMIN_PASSWORD, HOLDFAST_TOKEN (of a
// user without rights), HOLDFAST_SHOTS (folder of the screenshots), HOLDFAST_KILL (a command
// that kills node c1), HOLDFAST_SHELL_POD (a pod in `default` with a shell).
// Output: one line for each thing that is wrong, exit code 1 if there is any.
import { execSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { accessible, Judge, launch, need, open, PODS_MS } from "./browser.mjs";
import { deploys, deploysInChinese } from "./deploy.mjs";

const url = new URL(need("HOLDFAST_ADMIN_URL"));
const password = need("HOLDFAST_ADMIN_PASSWORD");
const shots = need("HOLDFAST_SHOTS");
const judge = new Judge();
const at = (path) => new URL(path, url).href;
const started = Date.now();
const done = (what) => console.log(`${((Date.now() - started) / 1000).toFixed(1)} s: ${what}`);

/** What is being loaded has come. */
async function settled(page) {
  await page.locator("h1").first().waitFor();
  await page.waitForFunction(() => !document.querySelector(".loading, .ant-spin-spinning"));
}

async function show(page, path) {
  await page.goto(at(path));
  await settled(page);
}

async function signIn(page, text) {
  await page.goto(url.href);
  await page.locator("input[type=password]").fill(text);
  await page.locator("button[type=submit]").click();
}

/** Waits until the text is seen; what is not seen is wrong, and said so. */
async function sees(page, text, what, timeout = 60_000) {
  const seen = page.getByText(text).first();
  await seen.waitFor({ timeout }).catch(() => judge.wrong.push(`${what}: no ${text}`));
}

async function door(page) {
  judge.expected = ["401 ()"];
  await signIn(page, "wrong");
  await sees(page, "The sign-in is wrong", "a wrong password");
  judge.check((await page.locator(".shell").count()) === 0, "a stranger sees the frame");
  judge.expected = [];
  await signIn(page, password);
  await page.locator(".shell").waitFor();
}

/** A cookie that was taken is worth nothing after signing out, nor without the defence. */
async function replay(context, page) {
  const cookies = await context.cookies();
  const cookie = cookies.find((one) => one.name.startsWith("__Host-holdfast-"));
  judge.check(cookie?.httpOnly && cookie.secure && cookie.sameSite === "Strict",
    `the cookie is not closed: ${JSON.stringify({ ...cookie, value: "" })}`);
  const headers = { cookie: `${cookie.name}=${cookie.value}` };
  const ask = async (more, method = "GET", path = "/api/v1/namespaces/default/pods") =>
    (await page.request.fetch(at(path), { method, headers: { ...headers, ...more } })).status();
  judge.check((await ask({})) === 200, "the session reads nothing");
  judge.check((await ask({ "sec-fetch-site": "cross-site" })) === 403, "another site reads");
  judge.check((await ask({}, "DELETE", "/api/v1/namespaces/default/pods/none")) === 403,
    "a request that does not come from the page deletes");
  await page.getByRole("button", { name: "Sign out" }).click();
  await sees(page, "You are signed out", "signing out");
  judge.check((await ask({})) === 401, "the cookie is still taken after signing out");
}

const PAGES = [
  ["overview", "/ui/"],
  ["nodes", "/ui/nodes"],
  ["node", "/ui/nodes/a1"],
  ["pods", "/ui/pods"],
  ["deployments", "/ui/kinds/apps/v1/deployments"],
  ["deployment", "/ui/kinds/apps/v1/deployments/default/hello"],
  ["cluster-roles", "/ui/kinds/rbac.authorization.k8s.io/v1/clusterroles"],
  ["deploy", "/ui/deploy"],
  ["configuration", "/ui/config"],
  ["config-map", "/ui/config/configmaps/default/kube-root-ca.crt"],
  ["secret", "/ui/config/secrets/default/page-test"],
  ["events", "/ui/events"],
  ["audit", "/ui/audit"],
  ["this-node", "/ui/this-node"],
  ["no-page", "/ui/nothing"],
];

/** On no width may anything stick out of the page to the side. */
async function fits(page, name) {
  const over = await page.evaluate(() =>
    document.documentElement.scrollWidth - document.documentElement.clientWidth);
  judge.check(over <= 0, `${name} is ${over} px too wide`);
}

async function everyPage(page, language) {
  const chinese = language === "zh";
  for (const [name, path] of PAGES) {
    await show(page, path);
    const lang = await page.evaluate(() => document.documentElement.lang);
    judge.check(lang.startsWith(language), `${name} is in ${lang}`);
    const heading = await page.locator("h2").first().innerText();
    judge.check(/[\u4e00-\u9fff]/.test(heading) === chinese, `${name}: "${heading}" in ${language}`);
    await page.screenshot({ path: `${shots}/${name}-${language}.png` });
    await fits(page, `${name} in ${language}`);
    await accessible(page, judge, `${name} in ${language}`);
  }
}

async function tabs(page, name, language) {
  const count = await page.getByRole("tab").count();
  for (let number = 1; number < count; number += 1) {
    await page.getByRole("tab").nth(number).click();
    await settled(page);
    await page.screenshot({ path: `${shots}/${name}-tab-${number}-${language}.png` });
    await accessible(page, judge, `${name}, tab ${number}`);
  }
}

async function firstPod(page) {
  await show(page, "/ui/pods");
  const link = page.locator("tbody a").filter({ hasText: /^hello-/ }).first();
  const name = await link.innerText();
  await link.click();
  await page.getByRole("heading", { level: 1, name }).waitFor();
  await settled(page);
  return name;
}

async function podPage(page) {
  await firstPod(page);
  await page.screenshot({ path: `${shots}/pod-en.png` });
  await tabs(page, "pod", "en");
  await page.getByRole("tab", { name: "Logs" }).click();
  const count = async () => Number((await page.locator(".count").innerText()).replace(/\D/g, ""));
  await page.locator(".log .row").first().waitFor();
  const before = await count();
  await page.waitForFunction(
    (old) => Number(document.querySelector(".count").textContent.replace(/\D/g, "")) > old,
    before,
  );
  await page.getByPlaceholder("Search in the log").fill("readyz");
  await page.locator(".log mark").first().waitFor();
  await sees(page, /[1-9]\d* matches/, "a search in the log");
}

async function scale(page) {
  await show(page, "/ui/kinds/apps/v1/deployments/default/hello");
  await page.getByRole("button", { name: "Scale" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("spinbutton").fill("4");
  await page.screenshot({ path: `${shots}/scale-en.png` });
  await accessible(page, judge, "the scale dialog");
  await dialog.getByRole("button", { name: "Scale" }).click();
  await sees(page, "4 / 4", "a Deployment scaled from the page", PODS_MS);
}

/** What is deleted goes, and its successor comes, while one looks. */
async function successor(page) {
  const name = await firstPod(page);
  await page.getByRole("button", { name: "Delete" }).click();
  await page.screenshot({ path: `${shots}/delete-pod-en.png` });
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  const names = async () => (await page.locator("tbody a").allInnerTexts()).filter((one) =>
    one.startsWith("hello-"));
  await page.waitForFunction((gone) => {
    const shown = [...document.querySelectorAll("tbody tr")].map((row) => row.innerText);
    const own = shown.filter((text) => text.startsWith("hello-"));
    return own.length === 4 && own.every((text) => !text.startsWith(gone) && text.includes("Ready"));
  }, name, { timeout: PODS_MS });
  judge.check(!(await names()).includes(name), `${name} is still shown`);
}

async function secret(page) {
  await show(page, "/ui/config/secrets/default/page-test");
  judge.check(!(await page.content()).includes("opensesame"), "a secret is shown unasked");
  await page.getByRole("button", { name: "Show the values" }).click();
  await sees(page, "opensesame", "a secret that was asked for");
}

async function terminal(page) {
  const pod = need("HOLDFAST_SHELL_POD");
  await show(page, `/ui/pods/default/${pod}`);
  await page.getByRole("tab", { name: "Terminal" }).click();
  await page.getByLabel("Command").fill("sh");
  await page.getByRole("button", { name: "Open a terminal" }).click();
  const screen = page.locator(".xterm-accessibility");
  await page.locator(".xterm-screen").click();
  await screen.getByText(/[#$]/).first().waitFor();
  await page.keyboard.type("echo ");
  // As an input method does it: composed, then taken.
  const method = await page.context().newCDPSession(page);
  const composed = { text: "银行", selectionStart: 2, selectionEnd: 2 };
  await method.send("Input.imeSetComposition", composed);
  await method.send("Input.insertText", { text: "银行" });
  await screen.getByText("echo 银行").first().waitFor();
  await page.keyboard.type("-$((40+2))\n");
  await screen.getByText("银行-42").first().waitFor();
  await page.screenshot({ path: `${shots}/terminal-en.png` });
}

async function cordonAndDrain(page) {
  await show(page, "/ui/nodes/b1");
  await page.getByRole("button", { name: "Drain" }).click();
  const dialog = page.getByRole("dialog");
  const agree = dialog.getByRole("checkbox");
  const start = dialog.getByRole("button", { name: "Drain", disabled: false });
  // Only when the pods are known does it ask for agreement, or for none.
  await start.or(agree).first().waitFor();
  await page.screenshot({ path: `${shots}/drain-en.png` });
  if (await agree.isVisible()) await agree.check();
  await start.waitFor();
  await start.click();
  await sees(page, "Drained: no pod is left", "a drain from the page");
  await page.screenshot({ path: `${shots}/drained-en.png` });
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await page.getByRole("button", { name: "Uncordon" }).click();
  await page.getByRole("button", { name: "Cordon", exact: true }).waitFor();
}

/** What a user without rights is told. */
async function strangerWithToken(browser) {
  const { context, page } = await open(browser, judge, url.origin, { locale: "en-GB" });
  judge.expected = ["403 ()"];
  await page.goto(url.href);
  await page.getByText("Token", { exact: true }).click();
  await page.getByLabel("User token").fill(need("HOLDFAST_TOKEN"));
  await page.locator("button[type=submit]").click();
  await page.locator(".shell").waitFor();
  await sees(page, /User "page-stranger" cannot list/, "a refusal with its reason");
  await sees(page, "Ask an administrator", "what to do");
  await page.screenshot({ path: `${shots}/refused-en.png` });
  // Refusals of what else the page asked for may still come.
  await context.close();
  judge.expected = [];
}

async function phone(page) {
  await page.setViewportSize({ width: 390, height: 844 });
  for (const [name, path] of PAGES) {
    await show(page, path);
    await fits(page, `${name} on a phone`);
  }
  await show(page, "/ui/");
  await page.screenshot({ path: `${shots}/overview-phone-en.png` });
  await page.getByRole("button", { name: "Menu" }).click();
  await page.getByRole("dialog").getByRole("link", { name: "Nodes" }).waitFor();
  await page.screenshot({ path: `${shots}/menu-phone-en.png` });
  await page.setViewportSize({ width: 1366, height: 768 });
}

/** A node dies, and then the connection, while the overview is looked at. */
async function losses(context, page) {
  await show(page, "/ui/");
  await page.getByText("3 / 3").first().waitFor();
  // Where it led, a write and a read that must be the newest wait for its successor.
  judge.expected = ["503 ()", "504 ()"];
  execSync(need("HOLDFAST_KILL"));
  const killed = Date.now();
  await sees(page, /Node c1: (Unknown|Not ready)/, "a node that was killed");
  done(`a killed node was shown after ${((Date.now() - killed) / 1000).toFixed(1)} s`);
  await page.screenshot({ path: `${shots}/node-lost-en.png` });
  judge.expected.push("ERR_INTERNET_DISCONNECTED", "ERR_");
  await context.setOffline(true);
  const cut = Date.now();
  await sees(page, /Connection lost, data from \d\d:\d\d:\d\d/, "a connection that was cut");
  done(`a cut was shown after ${((Date.now() - cut) / 1000).toFixed(1)} s`);
  await page.screenshot({ path: `${shots}/cut-en.png` });
  await context.setOffline(false);
  // What failed meanwhile may still be told after this.
  await sees(page, /^Connected$/, "a connection that came back");
}

mkdirSync(shots, { recursive: true });
const browser = await launch();
try {
  const { context, page } = await open(browser, judge, url.origin, { locale: "en-GB" });
  await door(page);
  await settled(page);
  await replay(context, page);
  await page.screenshot({ path: `${shots}/sign-in-en.png` });
  await accessible(page, judge, "sign-in");
  await signIn(page, password);
  await page.locator(".shell").waitFor();
  done("signed in, out and in");
  await everyPage(page, "en");
  await show(page, "/ui/kinds/apps/v1/deployments/default/hello");
  await tabs(page, "deployment", "en");
  done("every page in English");
  await podPage(page);
  await secret(page);
  await scale(page);
  await successor(page);
  done("log, secret, scale, a deleted pod's successor");
  done(await deploys(page, judge, { show, shots }));
  await terminal(page);
  await cordonAndDrain(page);
  done("terminal, drain");
  await strangerWithToken(browser);
  await phone(page);
  done("a stranger, a phone");
  const other = await open(browser, judge, url.origin, { locale: "zh-CN" });
  await other.page.goto(url.href);
  await settled(other.page);
  await other.page.screenshot({ path: `${shots}/sign-in-zh.png` });
  await signIn(other.page, password);
  await other.page.locator(".shell").waitFor();
  await everyPage(other.page, "zh");
  await deploysInChinese(other.page, judge, { show, shots });
  await other.context.close();
  done("every page in Chinese");
  await losses(context, page);
} catch (error) {
  judge.wrong.push(String(error.stack ?? error));
} finally {
  await browser.close();
}
for (const text of judge.wrong) console.error(`WRONG ${text}`);
if (judge.wrong.length > 0) process.exitCode = 1;
else console.log("the admin page is right");
