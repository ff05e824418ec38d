// A page of the app, with the code that the README gives; and pages that wish it ill.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { callApi, codeOfTheReadme, cookie, freshProfile, serveApp, servePages, startChromium, startService } from "./support.mjs";

let app, service, browser;

before(async () => {
  app = await serveApp();
  service = await startService("page", { origins: [app.origin] });
  app.files["/app.js"] = await codeOfTheReadme(service);
  browser = await startChromium();
});

after(async () => {
  await browser?.close();
  app?.close();
  await service?.stop();
});

/** A tab of the app; whatever is done there, the secrets must stay where they belong. */
async function openApp(profile) {
  const tab = await profile.newPage();
  await tab.goto(`${app.origin}/`);
  return tab;
}

async function signedIn(user = service.users.ana) {
  const profile = await freshProfile(browser, service);
  const tab = await openApp(profile);
  await tab.evaluate(({ username, password }) => signIn(username, password), user);
  return { profile, tab };
}

const call = (tab, ...request) => callApi(tab, service.url, ...request);

async function assertRefused(answer, status, code) {
  const { status: was, body } = await answer;
  assert.deepEqual([was, body?.code], [status, code]);
}

async function assertStillSignedIn({ tab }) {
  await tab.evaluate(() => signInAgain());
  assert.equal((await call(tab, "GET", "/users/user")).status, 200);
}

/** C07: no script sees the refresh token, and nothing is kept where a later script could find it. */
async function assertKeptFromScripts({ profile, tab }) {
  const refresh = await cookie(profile, "refreshtoken");
  const seen = await tab.evaluate(async () => ({
    cookies: document.cookie,
    kept: [localStorage.length, sessionStorage.length, (await indexedDB.databases()).length, (await caches.keys()).length],
  }));
  assert.doesNotMatch(seen.cookies, /refreshtoken|eyJ/);
  if (refresh) assert.ok(!seen.cookies.includes(refresh));
  assert.deepEqual(seen.kept, [0, 0, 0, 0]);
}

test("a page signs in, reloads, changes the user and signs out", async (t) => {
  const profile = await freshProfile(browser, service);
  const tab = await openApp(profile);
  const ana = { profile, tab };

  await t.test("a wrong password is refused, in words for people", async () => {
    const refusal = tab.evaluate(() => signIn("ana", "not her password"));
    await assert.rejects(refusal, /wrong/i);
    assert.deepEqual(await profile.cookies(), []);
  });

  await t.test("signing in gives an access token in memory and a refresh token out of reach", async () => {
    const { user } = await tab.evaluate(({ username, password }) => signIn(username, password), service.users.ana);
    assert.equal(user.username, "ana");
    const kept = (await profile.cookies()).find(({ name }) => name === "refreshtoken");
    assert.deepEqual([kept.httpOnly, kept.sameSite, kept.path], [true, "Lax", "/"]);
    assert.match(await tab.evaluate(() => document.cookie), /^csrftoken=\w{32}$/);
    await assertKeptFromScripts(ana);
  });

  await t.test("a script cannot put another refresh token in its place", async () => {
    const before = await cookie(profile, "refreshtoken");
    await tab.evaluate(() => { document.cookie = "refreshtoken=planted; path=/"; });
    assert.equal(await cookie(profile, "refreshtoken"), before);
  });

  await t.test("the access token tells who is calling", async () => {
    const { status, body } = await call(tab, "GET", "/users/user");
    assert.deepEqual([status, body.user.email], [200, "ana@example.org"]);
  });

  await t.test("after a reload the page has forgotten, and signs in again", async () => {
    const before = await cookie(profile, "refreshtoken");
    await tab.reload();
    assert.deepEqual(await tab.evaluate(() => [access, csrf]), [undefined, undefined]);
    await tab.evaluate(() => signInAgain());
    assert.notEqual(await cookie(profile, "refreshtoken"), before);
    assert.equal((await call(tab, "GET", "/users/user")).status, 200);
    await assertKeptFromScripts(ana);
  });

  await t.test("the user is changed", async () => {
    const { status, body } = await call(tab, "PATCH", "/users/user", { body: { first_name: "Ána" } });
    assert.deepEqual([status, body.user.first_name], [200, "Ána"]);
    await assertKeptFromScripts(ana);
  });

  await t.test("signing out ends it: no cookie, and no token that still works", async () => {
    const old = (await profile.cookies()).find(({ name }) => name === "refreshtoken");
    assert.equal((await call(tab, "POST", "/users/logout")).status, 204);
    // But the one by which the device is known again: it lets nobody in.
    const [known, ...others] = await profile.cookies();
    assert.deepEqual([known.name, known.httpOnly, others], ["knowndevice", true, []]);
    await assertKeptFromScripts(ana);
    await assertRefused(call(tab, "GET", "/users/user"), 401, "session_ended");
    await assertRefused(call(tab, "POST", "/users/refresh_token"), 401, "refresh_missing");
    await profile.addCookies([old]);
    await assertRefused(call(tab, "POST", "/users/refresh_token"), 401, "session_ended");
  });
});

test("a stranger's CSRF token, as header and as cookie, proves nothing", async () => {
  const ana = await signedIn();
  const bob = await signedIn(service.users.bob);
  const strangers = await cookie(bob.profile, "csrftoken");
  const [own] = (await ana.profile.cookies()).filter(({ name }) => name === "csrftoken");
  await ana.profile.addCookies([{ ...own, value: strangers }]);
  const headers = { "X-CSRFToken": strangers };
  for (const [method, path] of [["POST", "/users/refresh_token"], ["PATCH", "/users/user"], ["POST", "/users/logout"]]) {
    await assertRefused(call(ana.tab, method, path, { headers, body: {} }), 403, "csrf_invalid");
  }
  await assertStillSignedIn(ana);
});

// The first shares the app's host, and so its cookies: browsers keep those by host, not by port.
for (const host of ["localhost", "127.0.0.1"]) {
  describe(`a page of an unlisted origin, on ${host}`, () => {
    let evil, ana, tab;

    before(async () => {
      const form = (path, fields) => `<!doctype html><title>Evil</title><link rel="icon" href="data:,">
        <form method="post" action="${service.url}${path}">
        ${Object.entries(fields).map(([name, value]) => `<input type="hidden" name="${name}" value="${value.replaceAll("&", "&amp;")}">`).join("")}
        <button>Win a prize</button></form>`;
      evil = await servePages({
        "/": form("/users/login", {}),
        "/login": form("/users/login", service.users.bob),
        "/refresh": form("/users/refresh_token", {}),
        "/logout": form("/users/logout", {}),
        "/frame": `<!doctype html><title>Evil</title><iframe src="${service.url}/docs"></iframe>`,
      }, { host });
      ana = await signedIn();
      tab = await ana.profile.newPage();
    });

    after(() => evil.close());

    /** Does the deed; her session must be what it was, to the byte. */
    async function changesNothing(deed) {
      const before = await ana.profile.cookies();
      await deed();
      assert.deepEqual(await ana.profile.cookies(), before);
      await assertStillSignedIn(ana);
    }

    test("reads no answer", async () => {
      await tab.goto(`${evil.origin}/`);
      await changesNothing(async () => {
        for (const path of ["/users/csrf", "/users/user", "/openapi.json"]) {
          const reading = tab.evaluate((address) => fetch(address, { credentials: "include" }).then(({ status }) => status), service.url + path);
          await assert.rejects(reading, /Failed to fetch/, path);
        }
      });
    });

    test("makes no request that takes a preflight, even if it knows the CSRF token", async () => {
      await tab.goto(`${evil.origin}/`);
      const token = await cookie(ana.profile, "csrftoken");
      await changesNothing(async () => {
        for (const [method, path] of [["POST", "/users/refresh_token"], ["POST", "/users/logout"], ["PATCH", "/users/user"]]) {
          const asking = tab.evaluate(
            ([address, method, token]) => fetch(address, { method, credentials: "include", headers: { "X-CSRFToken": token } }).then(({ status }) => status),
            [service.url + path, method, token],
          );
          await assert.rejects(asking, /Failed to fetch/, path);
        }
      });
    });

    test("changes nothing with requests that take none", async () => {
      await tab.goto(`${evil.origin}/`);
      await changesNothing(async () => {
        for (const path of ["/users/login", "/users/refresh_token", "/users/logout"]) {
          const asking = tab.evaluate(
            ([address, body]) => fetch(address, { method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams(body) }).then(({ type }) => type),
            [service.url + path, service.users.bob],
          );
          // It arrives and is refused; our resource policy keeps even the opaque answer from the page.
          await assert.rejects(asking, /Failed to fetch/, path);
        }
      });
    });

    for (const path of ["/login", "/refresh", "/logout"]) {
      test(`gets nowhere with a form: ${path}`, async () => {
        await tab.goto(evil.origin + path);
        await changesNothing(async () => {
          const [answer] = await Promise.all([tab.waitForNavigation(), tab.click("button")]);
          assert.equal(answer.request().method(), "POST");
          assert.equal(answer.status(), 403);
          assert.equal((await answer.json()).code, "origin_denied");
          assert.equal((await answer.allHeaders())["set-cookie"], undefined);
        });
      });
    }

    test("shows the API page in no frame of its own", async () => {
      await tab.goto(`${evil.origin}/frame`);
      const [, frame] = tab.frames();
      // The page has loaded before the browser puts its own in the place of what it refuses.
      await frame.waitForURL(/^chrome-error:/, { waitUntil: "commit" });
    });
  });
}
