// Several tabs and several browsers of one person: who goes on, who is signed out, and what they are told.

import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, createServer, request as send } from "node:http";
import { buffer } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { callApi, codeOfTheReadme, cookie, cookiesLeft, freshProfile, serveApp, startChromium, startService } from "./support.mjs";

const TABS = 5;
const ROUNDS = 20;
/** More than waking takes on a machine that has other things to do as well; it passes while others are tested. */
const ACCESS_LIFETIME_SECONDS = 20;

const LAPTOP = "Mozilla/5.0 (X11; Linux x86_64) Laptop/1.0";
const PHONE = "Mozilla/5.0 (Linux; Android 16) Phone/1.0";

let app, browser, sleepers;

before(async () => {
  app = await serveApp();
  browser = await startChromium();
  sleepers = await fallAsleepForLong();
});

after(async () => {
  await browser?.close();
  sleepers?.gate.close();
  await sleepers?.service.stop();
  app?.close();
});

/** A browser of its own with so many tabs of the app. */
async function openBrowser(service, { tabs: count = 1, userAgent } = {}) {
  const profile = await freshProfile(browser, service, { userAgent });
  const tabs = await Promise.all(Array.from({ length: count }, () => profile.newPage()));
  await Promise.all(tabs.map((tab) => tab.goto(`${app.origin}/`)));
  return { profile, tabs, tab: tabs[0] };
}

const signInAt = (tab, user) => tab.evaluate(({ username, password }) => signIn(username, password), user);
const wake = (tab) => tab.evaluate(() => signInAgain());

async function assertRefused(answer, status, code) {
  const { status: was, body } = await answer;
  assert.deepEqual([was, body?.code], [status, code]);
}

// ---------------------------------------------------------------- signing out, from here and from elsewhere

describe("who is signed out is told why, and others go on", () => {
  let service;

  before(async () => {
    service = await startService("tabs", { origins: [app.origin] });
    app.files["/app.js"] = await codeOfTheReadme(service);
  });

  after(() => service?.stop());

  /** A browser in which someone has signed in, and whose tabs all know it. */
  async function signedIn(user, options) {
    const opened = await openBrowser(service, options);
    await signInAt(opened.tab, user);
    for (const tab of opened.tabs.slice(1)) await wake(tab);
    return opened;
  }

  const call = (tab, ...request) => callApi(tab, service.url, ...request);

  async function assertDone(answer) {
    const { status, body } = await answer;
    assert.deepEqual([status, body], [204, null]);
  }

  async function assertTold(answer, reason) {
    const { status, body } = await answer;
    assert.deepEqual([status, body.code, body.end_reason], [401, "session_ended", reason]);
  }

  /** At its next call each tab is told why it was signed out, and no refresh brings it back. */
  async function assertSignedOut({ tabs }, reason) {
    for (const tab of tabs) await assertTold(call(tab, "GET", "/users/user"), reason);
    for (const tab of tabs) await assertTold(call(tab, "POST", "/users/refresh_token"), reason);
  }

  async function assertSignedIn({ tabs }) {
    for (const tab of tabs) assert.equal((await call(tab, "GET", "/users/user")).status, 200);
    for (const tab of tabs) await wake(tab);
  }

  test("signing out in one tab signs out all tabs of that browser, and empties its cookie jar", async () => {
    const laptop = await signedIn(service.users.ana, { tabs: 3 });
    const phone = await signedIn(service.users.ana);
    await assertDone(call(laptop.tab, "POST", "/users/logout"));
    assert.deepEqual(await cookiesLeft(laptop.profile), []);
    for (const tab of laptop.tabs) {
      await assertTold(call(tab, "GET", "/users/user"), "logout");
      await assertRefused(call(tab, "POST", "/users/refresh_token"), 401, "refresh_missing");
    }
    await assertSignedIn(phone);
  });

  test("signing out the others signs out every browser but this one", async () => {
    const laptop = await signedIn(service.users.ana, { tabs: 3 });
    const phone = await signedIn(service.users.ana);
    const bobs = await signedIn(service.users.bob);
    const kept = await phone.profile.cookies();
    await assertDone(call(phone.tab, "POST", "/users/logout", { body: { scope: "others" } }));
    assert.deepEqual(await phone.profile.cookies(), kept);
    await assertSignedOut(laptop, "revoked_by_user");
    await assertSignedIn(phone);
    await assertSignedIn(bobs);
  });

  test("signing out everywhere signs out this browser too, and empties its cookie jar", async () => {
    const laptop = await signedIn(service.users.ana);
    const phone = await signedIn(service.users.ana);
    await assertDone(call(phone.tab, "POST", "/users/logout", { body: { scope: "global" } }));
    assert.deepEqual(await cookiesLeft(phone.profile), []);
    await assertTold(call(phone.tab, "GET", "/users/user"), "logout");
    await assertSignedOut(laptop, "revoked_by_user");
  });

  test("changing the password ends the other browsers' sessions and keeps its own", async () => {
    const { username, password } = service.users.bob;
    const anew = "a quiet river & old/stars";
    service.mustNotLog(anew);
    const laptop = await signedIn(service.users.bob, { tabs: 2 });
    const phone = await signedIn(service.users.bob);
    const change = (current) => call(phone.tab, "POST", "/users/password", { body: { current_password: current, new_password: anew } });
    await assertRefused(change(`not ${password}`), 401, "invalid_credentials");
    await assertSignedIn(laptop);
    await assertDone(change(password));
    await assertSignedOut(laptop, "password_changed");
    await assertSignedIn(phone);
    await assert.rejects(signInAt(laptop.tab, service.users.bob), /wrong/i);
    service.users.bob = { username, password: anew };
    await signInAt(laptop.tab, service.users.bob);
    await assertSignedIn({ tabs: [laptop.tab] });
  });

  test("the list names every browser, and ending one there signs it out", async () => {
    await service.run("session", "end", "--user", "ana");
    const laptop = await signedIn(service.users.ana, { userAgent: LAPTOP, tabs: 2 });
    const phone = await signedIn(service.users.ana, { userAgent: PHONE });
    const bobs = await signedIn(service.users.bob);
    const listed = async ({ tab }) => (await call(tab, "GET", "/users/sessions")).body.sessions;
    const browsers = (sessions) => Object.fromEntries(sessions.map(({ user_agent, current }) => [user_agent, current]));
    assert.deepEqual(browsers(await listed(laptop)), { [LAPTOP]: true, [PHONE]: false });
    assert.deepEqual(browsers(await listed(phone)), { [LAPTOP]: false, [PHONE]: true });

    const other = (await listed(phone)).find(({ current }) => !current);
    assert.equal(other.ip, "127.0.0.1");
    await assertRefused(call(bobs.tab, "DELETE", `/users/sessions/${other.id}`), 404, "not_found");
    await assertDone(call(phone.tab, "DELETE", `/users/sessions/${other.id}`));
    await assertSignedOut(laptop, "revoked_by_user");
    assert.deepEqual(browsers(await listed(phone)), { [PHONE]: true });
    await assertSignedIn(phone);

    const [own] = await listed(phone);
    await assertDone(call(phone.tab, "DELETE", `/users/sessions/${own.id}`));
    assert.deepEqual(await cookiesLeft(phone.profile), []);
    await assertTold(call(phone.tab, "GET", "/users/user"), "logout");
  });
});

// ---------------------------------------------------------------- tabs that wake together

/**
 * A road to the service on which refreshes wait until they are let go, so that no chance decides whether one
 * is answered before another is sent. All else passes at once.
 */
async function buildGate(to) {
  const agent = new Agent();
  const { host } = new URL(to);
  const held = [];
  let arrived = () => {};

  /** Asks the service; its answer, with the cookies it sets. */
  async function ask({ method, url, headers }, body) {
    const onward = send(to + url, { agent, method, headers: { ...headers, host } }).end(body);
    const [answer] = await once(onward, "response");
    return { status: answer.statusCode, headers: answer.headers, cookies: answer.headers["set-cookie"] ?? [], body: await buffer(answer) };
  }

  const gate = createServer(async (request, response) => {
    const body = await buffer(request);
    async function letGo() {
      const answer = await ask(request, body);
      if (!response.destroyed) response.writeHead(answer.status, answer.headers).end(answer.body);
      return answer;
    }
    if (request.method !== "POST" || request.url !== "/users/refresh_token") return letGo();
    held.push({ shows: request.headers.cookie, isAbandoned: once(response, "close"), letGo });
    return arrived();
  });
  gate.listen(0, "127.0.0.1");
  await once(gate, "listening");

  return {
    url: `http://localhost:${gate.address().port}`,
    /** The refreshes at the gate, once they are so many. */
    async waiting(count) {
      while (held.length < count) await new Promise((resolve) => { arrived = resolve; });
      return held.splice(0);
    },
    close() {
      gate.close();
      gate.closeAllConnections();
      agent.destroy();
    },
  };
}

/** Every tab refreshes with the same cookie, and none is answered before all have asked. */
async function wakeTogether(tabs, gate) {
  const waking = Promise.all(tabs.map(wake));
  const requests = await gate.waiting(tabs.length);
  assert.equal(new Set(requests.map(({ shows }) => shows)).size, 1);
  const answers = await Promise.all(requests.map(({ letGo }) => letGo()));
  await waking;
  return answers;
}

/** Tabs that are signed in and left alone, and `until` when their access tokens will have expired. */
async function fallAsleepForLong() {
  const service = await startService("tabs-waking", {
    origins: [app.origin],
    settings: { COUNTERSIGN_TOKENS__ACCESS_LIFETIME: `${ACCESS_LIFETIME_SECONDS}s` },
  });
  const gate = await buildGate(service.url);
  app.files["/app.js"] = await codeOfTheReadme(gate);
  const { profile, tabs } = await openBrowser({ ...service, url: gate.url }, { tabs: TABS });
  await signInAt(tabs[0], service.users.ana);
  await wakeTogether(tabs, gate);
  const expired = new Map();
  for (const tab of tabs) expired.set(tab, await tab.evaluate(() => access));
  return { service, gate, profile, tabs, expired, until: Date.now() + ACCESS_LIFETIME_SECONDS * 1000 };
}

const refreshTokenIn = (cookies) => cookies.map((each) => each.match(/^refreshtoken=([^;]+)/)?.[1]).find(Boolean);

describe("tabs that wake together, their access tokens expired", () => {
  let service, gate, profile, tabs, expired;

  before(async () => {
    ({ service, gate, profile, tabs, expired } = sleepers);
    await sleep(sleepers.until - Date.now());
  });

  const askUser = (tab) => callApi(tab, gate.url, "GET", "/users/user");

  /** As the tabs were when they fell asleep, long ago. */
  async function fallAsleep() {
    for (const tab of tabs) {
      await tab.evaluate((token) => { access = token; }, expired.get(tab));
      await assertRefused(askUser(tab), 401, "token_expired");
    }
  }

  async function onlySession() {
    const [session, ...others] = JSON.parse(await service.run("session", "list", "--all", "--json"));
    assert.deepEqual(others, []);
    assert.equal(session.end, null);
    return session;
  }

  test("make one new generation, have one cookie, and all go on, time and again", async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      await fallAsleep();
      const { generation } = await onlySession();
      const answers = await wakeTogether(tabs, gate);
      assert.deepEqual(answers.map(({ status }) => status), tabs.map(() => 200));
      assert.equal((await onlySession()).generation, generation + 1);
      const given = new Set(answers.map(({ cookies }) => refreshTokenIn(cookies)));
      assert.deepEqual([...given], [await cookie(profile, "refreshtoken")]);
      const access = new Set(await Promise.all(tabs.map((tab) => tab.evaluate(() => access))));
      assert.equal(access.size, TABS);
      for (const tab of tabs) assert.equal((await askUser(tab)).status, 200);
    }
  });

  test("go on if the one that comes first is closed before it is answered", async () => {
    await fallAsleep();
    const { generation } = await onlySession();
    const [closed, ...others] = tabs;
    const waking = [wake(closed).catch(() => "closed"), ...others.map(wake)];
    const requests = await gate.waiting(TABS);
    const abandoned = Promise.race(requests.map((each) => each.isAbandoned.then(() => each)));
    await closed.close();
    const first = await abandoned;
    const { status, cookies } = await first.letGo();
    assert.equal(status, 200);
    const answers = await Promise.all(requests.filter((each) => each !== first).map(({ letGo }) => letGo()));
    assert.equal((await Promise.all(waking))[0], "closed");
    assert.equal((await onlySession()).generation, generation + 1);
    for (const answer of answers) assert.equal(refreshTokenIn(answer.cookies), refreshTokenIn(cookies));
    assert.equal(await cookie(profile, "refreshtoken"), refreshTokenIn(cookies));
    for (const tab of others) assert.equal((await askUser(tab)).status, 200);
    tabs = others;
    await wakeTogether(tabs, gate);
  });
});
