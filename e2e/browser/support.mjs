// What the tests stand on: the real service, Chromium, and pages on origins of their own.

import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import axeCore from "axe-core";
import { chromium } from "playwright-core";

import { startService } from "../service_for_node.mjs";

export { startService };

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export const WORK = here("../.work/");

export const PROGRAM = process.env.COUNTERSIGN_BIN ?? here("../../target/release/countersign");

/** Where the tests' app lives, as in the README; another port if this one is taken. */
const APP_PORT = 3000;

const CHROMIUM_FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Serves `files`, by path, on an origin of its own; `{ origin, close }`. */
export async function servePages(files, { host = "localhost", port = 0 } = {}) {
  const server = createServer((request, response) => {
    const body = files[new URL(request.url, "http://page").pathname];
    const type = request.url.endsWith(".js") ? "text/javascript" : "text/html";
    response.writeHead(body === undefined ? 404 : 200, { "Content-Type": `${type}; charset=utf-8` });
    response.end(body);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    origin: `http://${host}:${server.address().port}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
    files,
  };
}

/** The app's origin: a page that holds the code of the README, and axios if it is asked for. */
export async function serveApp() {
  const files = { "/": '<!doctype html><title>App</title><link rel="icon" href="data:,"><script src="/app.js"></script>' };
  files["/axios"] = files["/"].replace("/app.js", "/axios.js");
  files["/axios.js"] = await readFile(here("node_modules/axios/dist/axios.min.js"), "utf8");
  try {
    return await servePages(files, { port: APP_PORT });
  } catch (error) {
    if (error.code !== "EADDRINUSE") throw error;
    console.log(`port ${APP_PORT} is taken: the app is on another`);
    return servePages(files);
  }
}

/** What the README has people put into their page, with the address of this service. */
export async function codeOfTheReadme(service) {
  const readme = await readFile(here("../../README.md"), "utf8");
  const [, code] = readme.match(/^```js\n(.*?)^```$/ms);
  const api = /http:\/\/(127\.0\.0\.1|localhost):8000(?=\/users")/;
  if (!api.test(code)) throw new Error("README.md names no address of the service in its page");
  return code.replace(api, service.url);
}

/** Debian's Chromium, or what CHROMIUM names. */
export async function startChromium() {
  const known = process.env.CHROMIUM ?? spawnSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).stdout.trim();
  return chromium.launch({ executablePath: known || "/usr/bin/chromium", headless: true, args: CHROMIUM_FLAGS });
}

/** A fresh profile; every token that passes through it is one that the service must not log. */
export async function freshProfile(browser, service, options = {}) {
  const profile = await browser.newContext(options);
  profile.setDefaultTimeout(15_000);
  profile.on("response", (response) => {
    if (response.url().startsWith(service.url)) service.awaits(noteSecrets(response, service));
  });
  return profile;
}

async function noteSecrets(response, service) {
  const headers = await response.allHeaders().catch(() => ({}));
  for (const [, value] of (headers["set-cookie"] ?? "").matchAll(/^\w+=([^;]+)/gm)) service.mustNotLog(value);
  if (!/^application\/json/.test(headers["content-type"] ?? "")) return;
  const body = await response.json().catch(() => ({}));
  for (const name of ["access_token", "csrf_token"]) if (body[name]) service.mustNotLog(body[name]);
}

/** Calls the API at `url` as the code of the README would, with what its page has in memory. */
export function callApi(tab, url, method, path, { body, headers = {} } = {}) {
  return tab.evaluate(
    async ([address, method, body, headers]) => {
      const shown = { "X-CSRFToken": csrf, ...(access && { Authorization: `Bearer ${access}` }) };
      const answer = await fetch(address, {
        method,
        credentials: "include",
        headers: { ...shown, ...(body && { "Content-Type": "application/json" }), ...headers },
        body: body && JSON.stringify(body),
      });
      const text = await answer.text();
      return { status: answer.status, body: text ? JSON.parse(text) : null };
    },
    [url + path, method, body, headers],
  );
}

/** What WCAG 2.2 asks for at its two lower levels, as far as a program can tell, and what axe thinks good besides. */
const AXE_OPTIONS = {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  resultTypes: ["violations"],
  iframes: false,
};

/**
 * Fails if axe finds something on the page, as it is now, that keeps people out: says which rule, where, and why.
 * Frames of other origins are left out; their pages are looked at on their own.
 */
export async function axe(page) {
  const seen = await page.evaluate(() => ({
    hasScript: !matchMedia("(scripting: none)").matches,
    colorScheme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
  }));
  // axe waits for timers, which stand still where script is off: it is shown a copy.
  const looked = seen.hasScript ? page : await copyWithoutScript(page, seen.colorScheme);
  await looked.evaluate(axeCore.source);
  const { violations, passes } = await looked.evaluate((options) => globalThis.axe.run(document, options), AXE_OPTIONS);
  if (looked !== page) await looked.context().close();
  if (passes.length === 0) throw new Error(`axe has looked at nothing on ${page.url()}`);
  if (violations.length === 0) return;
  const told = violations.flatMap(({ id, impact, help, helpUrl, nodes }) => [
    `${id} (${impact}): ${help}`,
    ...nodes.map(({ target, failureSummary }) => `    ${target.join(" ")}\n        ${failureSummary.replaceAll("\n", "\n        ")}`),
    `    ${helpUrl}`,
  ]);
  throw new Error(`axe finds ${violations.length} violations on ${page.url()}:\n${told.join("\n")}`);
}

/** The page as it is to people without script, in a browser that would run one if there were any. */
async function copyWithoutScript(page, colorScheme) {
  const html = (await page.content())
    .replaceAll(/<script\b[^]*?<\/script>/gi, "")
    .replaceAll(/<(\/?)noscript\b/gi, "<$1div");
  const profile = await page.context().browser().newContext({ viewport: page.viewportSize(), colorScheme });
  const copy = await profile.newPage();
  await copy.route(page.url(), (route) => route.fulfill({ contentType: "text/html; charset=utf-8", body: html }));
  await copy.goto(page.url());
  return copy;
}

/** The value of a cookie as the browser keeps it, HttpOnly or not. */
export async function cookie(profile, name) {
  const all = await profile.cookies();
  return all.find((each) => each.name === name)?.value;
}

/** The names of the cookies that are left, but for the one by which the device is known again: it lets nobody in. */
export async function cookiesLeft(profile) {
  const all = await profile.cookies();
  return all.map(({ name }) => name).filter((name) => name !== "knowndevice");
}
