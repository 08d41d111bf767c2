// Opens the status page in headless Chromium as an administrator does, and judges it.
//
// Why a browser: only it says whether the page's own policy lets its style in, whether
// anything on it errs, and whether it asks for anything from elsewhere.
// Input: HOLDFAST_ADMIN_URL and HOLDFAST_ADMIN_PASSWORD (as `lab env` prints them),
// HOLDFAST_NODES (names, comma-separated), HOLDFAST_SHOTS (folder of the screenshots).
// Output: one line for each thing that is wrong, exit code 1 if there is any.
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const need = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
};
const url = new URL(need("HOLDFAST_ADMIN_URL"));
const password = need("HOLDFAST_ADMIN_PASSWORD");
const nodes = need("HOLDFAST_NODES").split(",");
const shots = need("HOLDFAST_SHOTS");

const wrong = [];
const check = (holds, text) => {
  if (!holds) wrong.push(text);
};

/** A page whose errors and requests are noted. */
async function open(browser, options) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  const page = await context.newPage();
  const asked = [];
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) wrong.push(`console: ${line.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`page error: ${error.message}`));
  page.on("requestfailed", (request) =>
    wrong.push(`failed: ${request.url()} (${request.failure()?.errorText})`));
  page.on("request", (request) => asked.push(request.url()));
  return { page, asked };
}

async function signedIn(browser) {
  const credentials = { username: "admin", password };
  const { page, asked } = await open(browser, {
    httpCredentials: credentials,
    viewport: { width: 1280, height: 800 },
  });
  const answer = await page.goto(url.href, { waitUntil: "networkidle" });
  check(answer.status() === 200, `signed in, the page answers ${answer.status()}`);
  for (const name of nodes) {
    check(await page.getByRole("cell", { name, exact: true }).first().isVisible(),
      `node ${name} is not shown`);
  }
  check((await page.title()).length > 0, "the page has no title");
  const unstyled = await page.evaluate(() => document.styleSheets.length === 0
    || document.styleSheets[0].cssRules.length === 0);
  check(!unstyled, "the page's style was not applied");
  await page.screenshot({ path: `${shots}/status-page.png`, fullPage: true });
  await narrow(page);
  for (const address of asked) {
    check(new URL(address).origin === url.origin, `a request left the node: ${address}`);
  }
  check(asked.length >= 2, `page and style should have been asked for: ${asked}`);
}

/** On a telephone nothing may stick out to the side. */
async function narrow(page) {
  await page.setViewportSize({ width: 390, height: 844 });
  const over = await page.evaluate(() =>
    document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(over <= 0, `on a narrow screen the page is ${over} px too wide`);
  await page.screenshot({ path: `${shots}/status-page-narrow.png`, fullPage: true });
  await page.setViewportSize({ width: 1280, height: 800 });
}

async function notSignedIn(browser) {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    httpCredentials: { username: "admin", password: "wrong" },
  });
  const page = await context.newPage();
  const answer = await page.goto(url.href).catch((error) => error);
  const refused = answer instanceof Error || answer?.status() === 401;
  check(refused, "a wrong password is not refused");
  const shown = await page.locator("body").innerText();
  check(!nodes.some((name) => shown.includes(`${name}\n`)), "a stranger sees the nodes");
}

mkdirSync(shots, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // The tests run as root in machines of their own, where Chromium's sandbox refuses to.
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
try {
  await signedIn(browser);
  await notSignedIn(browser);
} finally {
  await browser.close();
}
for (const text of wrong) console.error(`WRONG ${text}`);
if (wrong.length > 0) process.exitCode = 1;
else console.log("the status page is right");
