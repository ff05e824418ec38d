// The API page, used by hand.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { axe, cookiesLeft, freshProfile, startChromium, startService, WORK } from "./support.mjs";

let service, browser;

before(async () => {
  service = await startService("docs");
  browser = await startChromium();
});

after(async () => {
  await browser?.close();
  await service?.stop();
});

/** A tab on which operations are tried by hand. */
async function openTab(profile) {
  const tab = await profile.newPage();
  const panel = (operation) => tab.locator(`article#${operation} form.try`);
  const field = (operation, place, name) => tab.locator(`#try-${operation}-${place}-${name}`);
  const response = (operation) => panel(operation).locator(".response");
  return {
    tab,
    panel,
    field,
    response,
    async send(operation) {
      await panel(operation).getByRole("button", { name: "Send request" }).click();
      await panel(operation).getByRole("button", { name: "Send request" }).waitFor();
      return response(operation).locator(".status").innerText();
    },
    readAnswer: async (operation) => JSON.parse(await response(operation).getByLabel("Response body").innerText()),
    async signIn({ username, password }) {
      await field("login", "body", "username").fill(username);
      await field("login", "body", "password").fill(password);
    },
  };
}

test("an address of the API, opened in a browser, leads to where it can be tried", async (t) => {
  const profile = await freshProfile(browser, service, { viewport: { width: 1280, height: 900 } });
  const { tab, panel, field, send, signIn } = await openTab(profile);
  const complaints = [];
  const strangers = [];
  tab.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
  tab.on("pageerror", (error) => complaints.push(error.message));
  await tab.exposeFunction("complain", (text) => complaints.push(text));
  await tab.addInitScript(() => addEventListener("securitypolicyviolation", (event) => complain(`${event.violatedDirective} ${event.blockedURI}`)));
  tab.on("request", (request) => { if (!request.url().startsWith(`${service.url}/`) && !request.url().startsWith("data:")) strangers.push(request.url()); });

  await t.test("it leads to the operation", async () => {
    await tab.goto(`${service.url}/users/user`);
    await tab.waitForSelector("article#getUser.is-target");
    const { pathname, search, hash } = new URL(tab.url());
    assert.deepEqual([pathname, search, hash], ["/docs", "", "#getUser"]);
    assert.match(await tab.locator("article#getUser .notice").innerText(), /opened this address in a browser/);
  });

  await t.test("every operation is there", async () => {
    const ids = await tab.locator("article.operation").evaluateAll((all) => all.map(({ id }) => id));
    assert.deepEqual(ids.sort(), [
      "askPasswordReset", "askVerification", "changeEmail", "changePassword", "csrf", "endSession", "getUser",
      "jwks", "listSessions", "login", "logout", "metadata", "refresh", "register", "resetPassword", "revocations",
      "updateUser", "verifyEmail",
    ]);
  });

  await t.test("nobody is kept out", () => axe(tab));

  await t.test("signing in by hand", async () => {
    await tab.locator("#page-session").getByRole("link", { name: "Sign in" }).click();
    await signIn(service.users.ana);
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
    await field("updateUser", "body", "first_name").fill("Ana");
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
    assert.deepEqual(await cookiesLeft(profile), []);
    assert.match(await send("getUser"), /^401/);
    assert.match(await panel("getUser").locator(".problem").innerText(), /credentials_missing[^]*What to do/);
    await tab.emulateMedia({ colorScheme: "dark" });
    await axe(tab);
  });
});

test("sessions, the password and the revocation feed are tried by hand", async (t) => {
  const profile = await freshProfile(browser, service);
  const { tab, panel, field, send, response, readAnswer, signIn } = await openTab(profile);
  const whoIsSignedIn = tab.locator("#page-session");
  const tooShort = "too & short";
  const anew = "a quiet river under old stars";
  [tooShort, anew].forEach(service.mustNotLog);

  /** Another browser of hers, which only asks who she is. */
  async function otherBrowser() {
    const { request } = await freshProfile(browser, service, { userAgent: "Phone/1.0 <b>" });
    const signedIn = await (await request.post(`${service.url}/users/login`, { data: { ...service.users.ana } })).json();
    for (const name of ["access_token", "csrf_token"]) service.mustNotLog(signedIn[name]);
    return async () => {
      const answer = await request.get(`${service.url}/users/user`, { headers: { Authorization: `Bearer ${signedIn.access_token}` } });
      return answer.status() === 200 ? "signed in" : (await answer.json()).end_reason;
    };
  }

  await tab.goto(`${service.url}/docs#login`);
  await signIn(service.users.ana);
  assert.match(await send("login"), /^200/);
  const phone = await otherBrowser();

  await t.test("the list of sessions names this one and the other", async () => {
    assert.match(await send("listSessions"), /^200/);
    const { sessions } = await readAnswer("listSessions");
    assert.deepEqual(sessions.map(({ current }) => current).sort(), [false, true]);
    assert.equal(sessions.find(({ current }) => !current).user_agent, "Phone/1.0 <b>");
  });

  await t.test("without an id nothing is sent; with one, that session ends and this one goes on", async () => {
    await panel("endSession").getByRole("button", { name: "Send request" }).click();
    assert.ok(await field("endSession", "path", "id").evaluate((input) => input === document.activeElement && !input.validity.valid));
    assert.equal(await response("endSession").innerText(), "");
    await field("endSession", "path", "id").fill("no such/session?");
    assert.match(await send("endSession"), /^404/);
    assert.match(await panel("endSession").locator(".request").innerText(), /DELETE \S+\/users\/sessions\/no%20such%2Fsession%3F$/m);
    const { sessions } = await readAnswer("listSessions");
    await field("endSession", "path", "id").fill(sessions.find(({ current }) => !current).id);
    assert.match(await send("endSession"), /^204/);
    assert.equal(await phone(), "revoked_by_user");
    assert.match(await whoIsSignedIn.innerText(), /ana/);
  });

  await t.test("the feed: a header and a query parameter, and 304 is no refusal", async () => {
    assert.match(await send("revocations"), /^200/);
    const ended = await field("endSession", "path", "id").inputValue();
    assert.ok((await readAnswer("revocations")).sessions.some(({ sid }) => sid === ended));
    const headers = await response("revocations").getByLabel("Response headers").textContent();
    await field("revocations", "header", "If-None-Match").fill(headers.match(/^etag: (.*)$/m)[1]);
    await field("revocations", "query", "wait").fill("1");
    const before = Date.now();
    assert.match(await send("revocations"), /^304/);
    assert.ok(Date.now() - before >= 1000);
    assert.match(await panel("revocations").locator(".request").innerText(), /revocations\?wait=1$[^]*^If-None-Match: "/m);
    assert.equal(await response("revocations").locator(".problem").count(), 0);
  });

  await t.test("the feed waits until something is revoked", async () => {
    await otherBrowser();
    await field("revocations", "query", "wait").fill("25");
    const before = Date.now();
    const answered = send("revocations");
    await panel("revocations").getByRole("button", { name: "Sending…" }).waitFor();
    await field("logout", "body", "scope").selectOption("others");
    assert.match(await send("logout"), /^204/);
    assert.match(await answered, /^200/);
    assert.ok(Date.now() - before < 10_000);
    assert.match(await whoIsSignedIn.innerText(), /ana/);
  });

  await t.test("a password that is too short is refused beside its field; a good one is changed and shown nowhere", async () => {
    const phone = await otherBrowser();
    const request = panel("changePassword").locator(".request");
    await field("changePassword", "body", "current_password").fill(service.users.ana.password);
    await field("changePassword", "body", "new_password").fill(tooShort);
    assert.match(await send("changePassword"), /^400/);
    assert.match(await response("changePassword").locator(".problem").innerText(), /validation_failed[^]*new_password/);
    await field("changePassword", "body", "new_password").fill(anew);
    assert.match(await send("changePassword"), /^204/);
    assert.match(await request.innerText(), /"current_password": "\*+",\s+"new_password": "\*+"/);
    assert.equal(await phone(), "password_changed");
    assert.match(await send("getUser"), /^200/);
  });

  await t.test("ending its own session signs this page out; another tab is told why, and what to do", async () => {
    const other = await openTab(profile);
    await other.tab.goto(`${service.url}/docs`);
    assert.match(await other.send("getUser"), /^200/);
    assert.match(await send("listSessions"), /^200/);
    const [own, ...others] = (await readAnswer("listSessions")).sessions;
    assert.deepEqual([own.current, others], [true, []]);
    await field("endSession", "path", "id").fill(own.id);
    assert.match(await send("endSession"), /^204/);
    await whoIsSignedIn.getByRole("link", { name: "Sign in" }).waitFor();
    assert.deepEqual(await cookiesLeft(profile), []);
    assert.match(await other.send("getUser"), /^401/);
    assert.match(await other.response("getUser").locator(".problem").innerText(), /session_ended[^]*logout[^]*What to do[^]*without alarm/);
  });
});

test("a feed that is not for everybody is tried with its token, which is not shown", async (t) => {
  const feedToken = "for+resource/servers+and+nobody+else";
  const service = await startService("docs-feed", { settings: { COUNTERSIGN_REVOCATIONS__TOKEN: feedToken } });
  t.after(() => service.stop());
  service.mustNotLog(feedToken);
  const profile = await freshProfile(browser, service);
  const { tab, panel, field, send, signIn } = await openTab(profile);
  await tab.goto(`${service.url}/docs#revocations`);
  await signIn(service.users.ana);
  assert.match(await send("login"), /^200/);
  assert.match(await send("revocations"), /^401/);
  await field("revocations", "feed", "feed-token").fill(feedToken);
  assert.match(await send("revocations"), /^200/);
  assert.match(await panel("revocations").locator(".request").innerText(), /^Authorization: Bearer \*+$/m);
});

test("without script, the API page says where else to read", async () => {
  const profile = await freshProfile(browser, service, { javaScriptEnabled: false });
  const tab = await profile.newPage();
  await tab.goto(`${service.url}/docs`);
  assert.match(await tab.locator("main").innerText(), /needs script/);
  await axe(tab);
});
