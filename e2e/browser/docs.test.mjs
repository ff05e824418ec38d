// The API page, used by hand.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { freshProfile, startChromium, startService, WORK } from "./support.mjs";

let service, browser;

before(async () => {
  service = await startService("docs");
  browser = await startChromium();
});

after(async () => {
  await browser?.close();
  await service?.stop();
});

test("an address of the API, opened in a browser, leads to where it can be tried", async (t) => {
  const profile = await freshProfile(browser, service, { viewport: { width: 1280, height: 900 } });
  const tab = await profile.newPage();
  const complaints = [];
  const strangers = [];
  tab.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
  tab.on("pageerror", (error) => complaints.push(error.message));
  await tab.exposeFunction("complain", (text) => complaints.push(text));
  await tab.addInitScript(() => addEventListener("securitypolicyviolation", (event) => complain(`${event.violatedDirective} ${event.blockedURI}`)));
  tab.on("request", (request) => { if (!request.url().startsWith(`${service.url}/`) && !request.url().startsWith("data:")) strangers.push(request.url()); });

  const panel = (operation) => tab.locator(`article#${operation} form.try`);
  const send = async (operation) => {
    await panel(operation).getByRole("button", { name: "Send request" }).click();
    return panel(operation).locator(".response .status").innerText();
  };

  await t.test("it leads to the operation", async () => {
    await tab.goto(`${service.url}/users/user`);
    await tab.waitForSelector("article#getUser.is-target");
    const { pathname, search, hash } = new URL(tab.url());
    assert.deepEqual([pathname, search, hash], ["/docs", "", "#getUser"]);
    assert.match(await tab.locator("article#getUser .notice").innerText(), /opened this address in a browser/);
  });

  await t.test("every operation is there", async () => {
    const ids = await tab.locator("article.operation").evaluateAll((all) => all.map(({ id }) => id));
    assert.deepEqual(ids.sort(), ["csrf", "getUser", "jwks", "login", "logout", "metadata", "refresh", "updateUser"]);
  });

  await t.test("signing in by hand", async () => {
    await tab.locator("#page-session").getByRole("link", { name: "Sign in" }).click();
    await tab.locator("#try-login-body-username").fill(service.users.ana.username);
    await tab.locator("#try-login-body-password").fill(service.users.ana.password);
    assert.match(await send("login"), /^200/);
    assert.match(await tab.locator("#page-session .who").innerText(), /ana/);
    assert.doesNotMatch(await tab.locator("article#login .request").innerText(), /correct horse/);
  });

  await t.test("asking who is signed in", async () => {
    await tab.goto(`${service.url}/docs#getUser`);
    assert.match(await send("getUser"), /^200/);
    assert.match(await panel("getUser").locator(".response").innerText(), /"ana@example\.org"/);
    await tab.screenshot({ path: `${WORK}docs.png` });
  });

  await t.test("changing the user and refreshing", async () => {
    await tab.locator("#try-updateUser-body-first_name").fill("Ana");
    assert.match(await send("updateUser"), /^200/);
    assert.match(await send("refresh"), /^200/);
  });

  await t.test("after a reload, one is still signed in", async () => {
    await tab.reload();
    await tab.locator("#page-session .who").getByText("ana").waitFor();
  });

  await t.test("nothing was fetched from elsewhere, and the browser had nothing to complain of", () => {
    assert.deepEqual(strangers, []);
    assert.deepEqual(complaints, []);
  });

  await t.test("signing out, and a refusal that says what to do", async () => {
    await tab.locator("#page-session").getByRole("button", { name: "Sign out" }).click();
    await tab.locator("#page-session").getByRole("link", { name: "Sign in" }).waitFor();
    assert.deepEqual((await profile.cookies()).map(({ name }) => name), []);
    assert.match(await send("getUser"), /^401/);
    assert.match(await panel("getUser").locator(".problem").innerText(), /credentials_missing[^]*What to do/);
  });
});

test("without script, the API page says where else to read", async () => {
  const profile = await freshProfile(browser, service, { javaScriptEnabled: false });
  const tab = await profile.newPage();
  await tab.goto(`${service.url}/docs`);
  assert.match(await tab.locator("main").innerText(), /needs script/);
});
