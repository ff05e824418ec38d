// The pages that the links of letters lead to, used by keyboard alone; the letters are read from files.

import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { axe, freshProfile, startChromium, startService } from "./support.mjs";

const NEW = "a quiet river under old stars";

let service, browser, letters;

before(async () => {
  letters = await mkdtemp(join(tmpdir(), "countersign-letters-"));
  service = await startService("account", {
    settings: { COUNTERSIGN_MAIL__TRANSPORT: `file:${letters}`, COUNTERSIGN_REGISTRATION__ENABLED: "true" },
  });
  browser = await startChromium();
});

after(async () => {
  await browser?.close();
  await service?.stop();
  if (letters) await rm(letters, { recursive: true });
});

const post = async (path, body) => {
  const answer = await fetch(service.url + path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return answer.status;
};

const logIn = (username, password) => post("/users/login", { username, password });

/** Quoted-printable, undone (RFC 2045, section 6.7). */
const decoded = (text) =>
  text.replaceAll("=\r\n", "").replaceAll(/=([0-9A-F]{2})/g, (_, code) => String.fromCharCode(parseInt(code, 16)));

/** The link in the letter that comes to this address; its token must not be logged. */
async function linkTo(address) {
  for (let waited = 0; waited < 20_000; waited += 100) {
    for (const name of (await readdir(letters)).filter((name) => name.endsWith(".eml"))) {
      const text = decoded(await readFile(join(letters, name), "utf8"));
      const link = text.match(/^https?:\S+#token=\S+/m)?.[0];
      if (!text.includes(`To: ${address}\r\n`) || !link) continue;
      await rm(join(letters, name));
      service.mustNotLog(link.split("#token=")[1]);
      return link;
    }
    await sleep(100);
  }
  throw new Error(`no letter came to ${address}`);
}

/** A tab on this address, in either colours; what goes wrong in its script is told. */
async function open(address, { colorScheme = "light", javaScriptEnabled = true } = {}) {
  const viewport = { width: 360, height: 640 };
  const profile = await freshProfile(browser, service, { colorScheme, viewport, javaScriptEnabled });
  const tab = await profile.newPage();
  const wrong = [];
  tab.on("pageerror", (error) => wrong.push(String(error)));
  tab.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  await tab.goto(address);
  return { tab, wrong };
}

const says = (tab, text) => tab.getByRole("status").filter({ hasText: text }).waitFor();

/** Nothing is wider than a telephone's screen, the token is out of sight, and nobody is kept out. */
async function assertFits(tab) {
  const [wide, address] = await tab.evaluate(() => [document.documentElement.scrollWidth, location.href]);
  assert.ok(wide <= 360, `${wide} pixels wide`);
  assert.doesNotMatch(address, /token/);
  await axe(tab);
}

describe("a letter's link", () => {
  test("confirms an address, and makes the account for whoever knows its password", async () => {
    const zoe = { username: "zoe", email: "zoe@example.org", password: service.users.ana.password };
    assert.equal(await post("/users/register", zoe), 201);
    const link = await linkTo("zoe@example.org");
    const { tab, wrong } = await open(link);
    await tab.getByRole("button", { name: "Confirm the address" }).waitFor();
    await assertFits(tab);
    assert.equal(await logIn("zoe", zoe.password), 401, "to look at the page is not to confirm");
    await tab.keyboard.press("Enter");
    const field = tab.getByLabel("The password that you chose");
    await field.waitFor();
    await assertFits(tab);
    assert.ok(await field.evaluate((element) => element === document.activeElement));
    await tab.keyboard.type(zoe.password);
    await tab.keyboard.press("Enter");
    await says(tab, "is confirmed");
    assert.equal(await logIn("zoe@example.org", zoe.password), 200);
    // What the service refuses the browser tells its console.
    assert.deepEqual(wrong.filter((text) => !/status of 400/.test(text)), []);
    const again = await open(link);
    await again.tab.keyboard.press("Enter");
    await says(again.tab, "not valid any more");
    // The way on is another letter.
    await again.tab.getByLabel("E-mail address").waitFor();
    await assertFits(again.tab);
  });

  test("sets a new password, and says what is wrong with one", async () => {
    assert.equal(await post("/users/register", { ...zoeTwo(), password: service.users.ana.password }), 201);
    const proof = await linkTo("two@example.org");
    assert.equal(await post("/users/email/verify", { token: proof.split("#token=")[1], password: service.users.ana.password }), 204);
    const page = await open(`${service.url}/account/reset-password`, { colorScheme: "dark" });
    await says(page.tab, "not whole");
    await page.tab.getByLabel("E-mail address").fill("two@example.org");
    await page.tab.keyboard.press("Enter");
    await says(page.tab, "a letter is on its way");
    const { tab, wrong } = await open(await linkTo("two@example.org"), { colorScheme: "dark" });
    const field = tab.getByLabel("New password");
    await field.waitFor();
    await assertFits(tab);
    await tab.keyboard.type("password");
    await tab.keyboard.press("Enter");
    await tab.locator("#new-password-error").filter({ hasText: /\w/ }).waitFor();
    assert.equal(await field.getAttribute("aria-invalid"), "true");
    await axe(tab);
    assert.ok(await field.evaluate((element) => element === document.activeElement));
    await field.fill(NEW);
    await tab.keyboard.press("Enter");
    await says(tab, "Your password is set");
    await assertFits(tab);
    assert.equal(await logIn("two", NEW), 200);
    // What the service refuses the browser tells its console.
    assert.deepEqual(wrong.filter((text) => !/status of 400/.test(text)), []);
  });

  test("that nobody sent opens nothing", async () => {
    const { tab } = await open(`${service.url}/account/reset-password#token=${"A".repeat(64)}`);
    await tab.getByLabel("New password").fill(NEW);
    await tab.keyboard.press("Enter");
    await says(tab, "not valid any more");
  });
});

test("without script, the pages say that they need it", async () => {
  for (const page of ["verify-email", "reset-password"]) {
    const { tab } = await open(`${service.url}/account/${page}`, { javaScriptEnabled: false });
    assert.match(await tab.locator("main").innerText(), /needs script/);
    await axe(tab);
  }
});

const zoeTwo = () => ({ username: "two", email: "two@example.org" });
