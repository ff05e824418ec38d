// `countersign demo` in Chromium: the page, the stranger's, and what comes between them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { startChromium } from "./support.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const PROGRAM = process.env.COUNTERSIGN_BIN ?? here("../../target/release/countersign");
const WAIT = { timeout: 15_000 };

let demo, page, browser;

before(async () => {
  demo = spawn(PROGRAM, ["demo"], { stdio: ["ignore", "pipe", "ignore"] });
  for await (const line of createInterface(demo.stdout)) {
    page ??= line.match(/open +(http:\S+)/)?.[1];
    if (/when you stop it/.test(line)) break;
  }
  browser = await startChromium();
});

after(async () => {
  await browser?.close();
  demo?.kill("SIGTERM");
  const [status] = await once(demo, "exit");
  assert.equal(status, 0);
});

/** Somebody with a browser of their own, on the demo's page; what its policy refused is noted. */
async function visitor() {
  const profile = await browser.newContext();
  const refused = [];
  const open = async () => {
    const tab = await profile.newPage();
    // Of the page's own; the stranger's frame meets refusals, as it should.
    tab.on("console", (message) => {
      if (message.location().url.startsWith(page) && /Content Security Policy|Trusted/.test(message.text())) refused.push(message.text());
    });
    tab.on("pageerror", (error) => refused.push(error.message));
    await tab.goto(page);
    return tab;
  };
  return { profile, open, refused };
}

/** Signs in with what the page has filled in. */
async function signIn(tab) {
  await tab.locator("#sign-in .primary").click(WAIT);
  await tab.locator("#greeting").waitFor(WAIT);
}

const row = (tab, words) => tab.locator("#wire tr", { hasText: words }).first();

test("the page signs in, and a refresh is seen with its generations", async () => {
  const { profile, open, refused } = await visitor();
  const tab = await open();
  await signIn(tab);
  assert.match(await tab.locator("#greeting").innerText(), /^Hello, /);
  await row(tab, "Signed in").waitFor(WAIT);
  const left = Number(await tab.locator("#life-number").innerText());
  assert.ok(left > 30 && left <= 60, `${left} seconds left`);

  await tab.locator("#reload").click();
  await row(tab, "Refreshed").waitFor(WAIT);
  assert.match(await row(tab, "Refreshed").innerText(), /0 → 1\s+200/);

  const sights = await tab.locator("#sights").innerText();
  assert.ok(sights.includes("csrftoken=") && !sights.includes("refreshtoken"), sights);
  assert.equal(await tab.evaluate(() => document.cookie.includes("refreshtoken") || localStorage.length + sessionStorage.length > 0), false);
  assert.deepEqual(refused, []);
  await profile.close();
});

for (const kind of ["Another site", "Another port"]) {
  test(`a stranger gets nowhere: ${kind}`, async () => {
    const { profile, open } = await visitor();
    const tab = await open();
    await signIn(tab);
    await tab.locator("#strangers label", { hasText: kind }).click();
    await tab.frameLocator("#stranger").locator("#claim").click(WAIT);
    await tab.locator("#verdict").waitFor(WAIT);
    assert.match(await tab.locator("#verdict").innerText(), /signed in as before/);
    const answers = await tab.locator("#deeds .deed-head code").allInnerTexts();
    assert.deepEqual(answers, ["403 origin_denied", "403 origin_denied", "preflight 403 origin_denied", "200 not readable"]);
    const cookies = await tab.locator("#deeds li").first().innerText();
    assert.equal(/refreshtoken/.test(cookies), kind === "Another port", cookies);
    await profile.close();
  });
}

test("a second device is ended, and its token with it", async () => {
  const { profile, open } = await visitor();
  const tab = await open();
  await signIn(tab);
  await tab.locator("#add-device").click();
  await tab.getByText("its token is accepted").waitFor(WAIT);
  await tab.locator("#sessions li", { hasText: "A second device" }).getByRole("button").click();
  await tab.getByText("401 session_ended, revoked_by_user").waitFor(WAIT);
  await profile.close();
});

test("signing out everywhere is seen in a second tab, and on another device", async () => {
  const [ana, elsewhere] = await Promise.all([visitor(), visitor()]);
  const [tab, second, other] = await Promise.all([ana.open(), ana.open(), elsewhere.open()]);
  await signIn(tab);
  await second.locator("#greeting").waitFor(WAIT);
  await tab.getByText("this tab and 1 more").waitFor(WAIT);
  await signIn(other);
  await tab.getByRole("button", { name: "Everywhere" }).click();
  await tab.locator("#signed-out").waitFor(WAIT);
  await second.locator("#signed-out").waitFor(WAIT);
  await other.locator("#signed-out").waitFor(WAIT);
  assert.match(await other.locator("#notice").innerText(), /from another device/);
  await Promise.all([ana.profile.close(), elsewhere.profile.close()]);
});

test("a wrong password is told, and nobody is signed in", async () => {
  const { profile, open } = await visitor();
  const tab = await open();
  await tab.locator("#password").fill("not this one");
  await tab.locator("#sign-in .primary").click();
  await tab.locator("#sign-in-problem").waitFor(WAIT);
  assert.equal(await tab.locator("#greeting").isVisible(), false);
  await profile.close();
});

test("the page is used with the keyboard alone", async () => {
  const { profile, open } = await visitor();
  const tab = await open();
  await tab.locator("#password").waitFor(WAIT);
  await tab.keyboard.press("Tab");
  assert.equal(await tab.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await tab.locator("#password").focus();
  await tab.keyboard.press("Enter");
  await tab.locator("#greeting").waitFor(WAIT);
  assert.equal(await tab.evaluate(() => document.activeElement.id), "main");
  await profile.close();
});

for (const width of [320, 360]) {
  test(`it fits a phone of ${width} pixels`, async () => {
    const profile = await browser.newContext({ viewport: { width, height: 740 } });
    const tab = await profile.newPage();
    await tab.goto(page);
    await signIn(tab);
    await tab.frameLocator("#stranger").locator("#claim").click(WAIT);
    await tab.locator("#verdict").waitFor(WAIT);
    assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth), width);
    await profile.close();
  });
}

test("the client in it is the one that is built from clients/browser", async () => {
  const copy = "crates/countersign-server/src/demo/page/countersign.js";
  const [inDemo, built] = await Promise.all([copy, "clients/browser/dist/index.js"].map((path) => readFile(here(`../../${path}`), "utf8")));
  assert.ok(inDemo === built, `after \`npm run build\` in clients/browser, copy dist/index.js to ${copy}`);
});
