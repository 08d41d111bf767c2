// A headless Chromium that is strict: what a page errs, asks elsewhere or has to be refused
// by its own policy is noted as wrong, and so is what axe finds grave.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** How long pods may take to be ready on a busy machine. */
export const PODS_MS = 180_000;

export const need = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
};

export class Judge {
  wrong = [];
  /** Texts of errors that are made on purpose, while they are. */
  expected = [];

  check(holds, text) {
    if (!holds) this.wrong.push(text);
  }

  note(text) {
    if (!this.expected.some((part) => text.includes(part))) this.wrong.push(text);
  }
}

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // The tests run as root in machines of their own, where Chromium's sandbox refuses to.
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });

/** A page of a new person, whose errors and requests are judged. */
export async function open(browser, judge, origin, options = {}) {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    viewport: { width: 1366, height: 768 },
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) judge.note(`console: ${line.text()}`);
  });
  page.on("pageerror", (error) => judge.note(`page error: ${error.message}`));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) {
      judge.note(`a request left the node: ${request.url()}`);
    }
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  return { context, page };
}

/** Grave findings of axe. Its program comes in by the debugger, past the page's policy. */
export async function accessible(page, judge, name) {
  const debuggerOf = await page.context().newCDPSession(page);
  await debuggerOf.send("Runtime.evaluate", { expression: `${AXE};0` });
  await debuggerOf.detach();
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  for (const { impact, id, nodes } of found.violations) {
    if (["serious", "critical"].includes(impact)) {
      const [{ html, failureSummary }] = nodes;
      judge.wrong.push(`${name}: axe: ${impact} ${id}: ${html.slice(0, 200)}: ${failureSummary}`);
    }
  }
  judge.check(found.passes.length > 0, `${name}: axe looked at nothing`);
}
