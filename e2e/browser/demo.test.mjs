// What the demo looks like, to people and to those who listen to it; what it does is tested with the client.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import { axe, PROGRAM, startChromium, WORK } from "./support.mjs";

const DESK = { width: 1280, height: 900 };
const PHONE = { width: 360, height: 780 };

let demo, page, stranger, browser;

before(async () => {
  demo = spawn(PROGRAM, ["demo"], { stdio: ["ignore", "pipe", "ignore"] });
  for await (const line of createInterface(demo.stdout)) {
    page ??= line.match(/open +(http:\S+)/)?.[1];
    stranger ??= line.match(/stranger +(http:\S+)/)?.[1];
    if (/when you stop it/.test(line)) break;
  }
  assert.ok(page && stranger, "the demo did not start");
  browser = await startChromium();
});

after(async () => {
  await browser?.close();
  demo.kill("SIGTERM");
  const [status] = await once(demo, "exit");
  assert.equal(status, 0);
});

/** Looks at the whole page as it is now, from its top, and keeps a picture of it for people to look at. */
async function look(tab, name) {
  await axe(tab);
  assert.ok(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "it is wider than the screen");
  await tab.screenshot({ path: `${WORK}demo-${name}.png`, fullPage: true });
}

for (const [name, viewport, colorScheme] of [
  ["light", DESK, "light"],
  ["dark", DESK, "dark"],
  ["phone", PHONE, "light"],
  ["phone-dark", PHONE, "dark"],
]) {
  test(`nobody is kept out, at any point of the play: ${name}`, async () => {
    const profile = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
    profile.setDefaultTimeout(15_000);
    const tab = await profile.newPage();
    await tab.goto(page);
    await tab.locator("#known-password-text").filter({ hasText: /\w/ }).waitFor();
    await look(tab, `${name}-1`);

    await tab.getByLabel("Password").fill("not this one");
    await tab.getByRole("button", { name: "Sign in" }).click();
    await tab.locator("#sign-in-problem").waitFor();
    await axe(tab);

    await tab.getByLabel("Password").fill(await tab.locator("#known-password-text").innerText());
    await tab.getByRole("button", { name: "Sign in" }).click();
    await tab.getByRole("heading", { name: "Hello" }).waitFor();
    await tab.locator("#wire tr").first().waitFor();
    await tab.locator("#claims dd").first().waitFor();

    const claim = tab.frameLocator("#stranger").getByRole("button", { name: "Claim your prize" });
    await claim.click();
    await tab.locator("#verdict").filter({ hasText: "signed in as before" }).waitFor();
    // The service's side of the forgeries is told within a second.
    await tab.locator("#wire tr").filter({ hasText: "by a stranger" }).first().waitFor();
    await look(tab, `${name}-2`);
    await profile.close();
  });
}

test("the stranger's page keeps nobody out either, and what is in its frame is seen", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const profile = await browser.newContext({ colorScheme, viewport: DESK });
    const tab = await profile.newPage();
    await tab.goto(stranger);
    await tab.locator("#claim:enabled").waitFor();
    await axe(tab);
    await profile.close();
  }
});

test("without script, it says that it needs it", async () => {
  const profile = await browser.newContext({ javaScriptEnabled: false, viewport: DESK });
  const tab = await profile.newPage();
  await tab.goto(page);
  assert.match(await tab.locator("main").innerText(), /needs script/);
  await axe(tab);
  await profile.close();
});
