// `countersign demo`: the page, the stranger's, and what comes between them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { NAMES, startBrowser } from "./harness.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const PROGRAM = process.env.COUNTERSIGN_BIN ?? here("../../../../target/release/countersign");

test("the client in the demo is the one that is built here", async () => {
  const copy = "crates/countersign-server/src/demo/page/countersign.js";
  const [inDemo, built] = await Promise.all(
    [copy, "clients/browser/dist/index.js"].map((path) => readFile(here(`../../../../${path}`), "utf8")),
  );
  assert.ok(inDemo === built, `copy clients/browser/dist/index.js to ${copy}`);
});

describe("the demo", { concurrency: NAMES.length }, () => {
  for (const name of NAMES) describe(`in ${name}`, { concurrency: 1 }, () => walkThrough(name));

  function walkThrough(name) {
    let demo, page, browser;

    // One for each: whoever signs out everywhere does so in other browsers too.
    before(async () => {
      demo = spawn(PROGRAM, ["demo"], { stdio: ["ignore", "pipe", "ignore"] });
      for await (const line of createInterface(demo.stdout)) {
        page ??= line.match(/open +(http:\S+)/)?.[1];
        if (/when you stop it/.test(line)) break;
      }
      assert.ok(page, "the demo did not start");
      browser = await startBrowser(name);
    });

    after(async () => {
      await browser?.close();
      demo.kill("SIGTERM");
      const [status] = await once(demo, "exit");
      assert.equal(status, 0);
    });

    /** Somebody with a browser of their own, on the demo's page. */
    async function visitor({ width = 1280 } = {}) {
      const context = await browser.createBrowserContext();
      return {
        close: () => context.close(),
        async open() {
          const tab = await context.newPage();
          tab.setDefaultTimeout(15_000);
          await tab.setViewport({ width, height: 800 });
          // What a frame's policy refuses is heard in that frame.
          await tab.evaluateOnNewDocument(() => {
            window.refused = [];
            document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
              window.refused.push(`${violatedDirective} ${blockedURI}`),
            );
          });
          await tab.goto(page);
          return tab;
        },
      };
    }

    const seen = (tab, selector) => tab.waitForSelector(selector, { visible: true });

    /** The text of the first such element that contains these words, once there is one. */
    const told = async (tab, selector, words) => {
      const found = await tab.waitForFunction(
        (selector, words) =>
          [...document.querySelectorAll(selector)].map((each) => each.innerText).find((text) => text.includes(words)),
        {},
        selector,
        words,
      );
      return found.jsonValue();
    };

    const press = (tab, selector) => tab.$eval(selector, (element) => element.click());

    /** Signs in with what the page has filled in. */
    async function signIn(tab) {
      await seen(tab, "#sign-in .primary");
      await tab.waitForFunction(() => document.getElementById("password").value);
      await press(tab, "#sign-in .primary");
      await seen(tab, "#greeting");
    }

    /** Presses the button of the stranger who is on another site, or on another port. */
    async function claim(tab, kind) {
      await press(tab, `#strangers label:nth-of-type(${kind + 1}) input`);
      const host = ["127.0.0.1", "localhost"][kind];
      await tab.$eval("#stranger", (element) => element.scrollIntoView());
      const isThere = (frame) => frame !== tab.mainFrame() && frame.url().startsWith(`http://${host}:`);
      const frame = await tab.waitForFrame(isThere);
      const button = await frame.waitForSelector("#claim:not([disabled])");
      await button.evaluate((element) => element.click());
      return told(tab, "#verdict", ".");
    }

    test("signs in, and a refresh is seen with its generations", async () => {
      const ana = await visitor();
      const tab = await ana.open();
      await signIn(tab);
      assert.match(await told(tab, "#greeting", "Hello"), /^Hello, /);
      await told(tab, "#wire tr", "Signed in");
      await tab.waitForFunction(() => document.getElementById("life-number").textContent > 30);
      assert.equal(await tab.evaluate(() => document.getElementById("life-number").textContent <= 60), true);
      assert.deepEqual(await tab.evaluate(() => refused), []);

      await Promise.all([tab.waitForNavigation(), press(tab, "#reload")]);
      assert.match(await told(tab, "#wire tr", "Refreshed"), /0 → 1\s+200/);

      const sights = await told(tab, "#sights", "csrftoken=");
      assert.ok(!sights.includes("refreshtoken="), sights);
      const kept = () => /refreshtoken/.test(document.cookie) || localStorage.length + sessionStorage.length > 0;
      assert.equal(await tab.evaluate(kept), false);
      assert.deepEqual(await tab.evaluate(() => refused), []);
      await ana.close();
    });

    for (const [kind, where] of ["another site", "another port"].entries()) {
      test(`a stranger on ${where} gets nowhere`, async () => {
        const ana = await visitor();
        const tab = await ana.open();
        await signIn(tab);
        assert.match(await claim(tab, kind), /signed in as before/);
        const answers = await tab.$$eval("#deeds .deed-head code", (all) => all.map((each) => each.innerText));
        assert.deepEqual(answers, [
          "403 origin_denied",
          "403 origin_denied",
          "preflight 403 origin_denied",
          "200 not readable",
        ]);
        const first = await told(tab, "#deeds li", "A form");
        assert.equal(/refreshtoken/.test(first), where === "another port", first);
        await ana.close();
      });
    }

    test("a second device is ended, and its token with it", async () => {
      const ana = await visitor();
      const tab = await ana.open();
      await signIn(tab);
      await press(tab, "#add-device");
      await told(tab, "#device-hint", "its token is accepted");
      await told(tab, "#sessions li", "A second device");
      await press(tab, '[aria-label="End A second device"]');
      await told(tab, "#device-hint", "401 session_ended, revoked_by_user");
      await ana.close();
    });

    test("signing out everywhere is seen in a second tab, and on another device", async () => {
      const [ana, elsewhere] = [await visitor(), await visitor()];
      const tab = await ana.open();
      await signIn(tab);
      const second = await ana.open();
      await seen(second, "#greeting");
      await told(second, "#tabs", "this tab and 1 more");
      const other = await elsewhere.open();
      await signIn(other);
      await press(tab, '[data-sign-out="global"]');
      for (const each of [tab, second, other]) {
        await each.bringToFront();
        await seen(each, "#signed-out");
      }
      await told(other, "#notice", "from another device");
      await Promise.all([ana.close(), elsewhere.close()]);
    });

    test("a wrong password is told, and nobody is signed in", async () => {
      const ana = await visitor();
      const tab = await ana.open();
      await seen(tab, "#password");
      await tab.$eval("#password", (field) => (field.value = "not this one"));
      await press(tab, "#sign-in .primary");
      await seen(tab, "#sign-in-problem");
      assert.equal(await tab.$eval("#greeting", (element) => element.checkVisibility()), false);
      await ana.close();
    });

    test("the keyboard is enough", async () => {
      const ana = await visitor();
      const tab = await ana.open();
      await seen(tab, "#password");
      await tab.keyboard.press("Tab");
      assert.equal(await tab.evaluate(() => document.activeElement.textContent), "Skip to the content");
      await tab.focus("#password");
      await tab.keyboard.press("Enter");
      await seen(tab, "#greeting");
      assert.equal(await tab.evaluate(() => document.activeElement.id), "main");
      await ana.close();
    });

    test("it fits a small phone", async () => {
      const ana = await visitor({ width: 360 });
      const tab = await ana.open();
      await signIn(tab);
      await claim(tab, 0);
      assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
      await ana.close();
    });
  }
});
