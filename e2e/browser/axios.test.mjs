// axios with nothing but its own options for cookies and CSRF: as a page has it, and in Node.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import axios from "axios";
import { wrapper as withCookieJar } from "axios-cookiejar-support";
import { CookieJar } from "tough-cookie";

import { cookie, freshProfile, serveApp, startChromium, startService } from "./support.mjs";

const OPTIONS = {
  withCredentials: true,
  withXSRFToken: true,
  xsrfCookieName: "csrftoken",
  xsrfHeaderName: "X-CSRFToken",
};

let app, service, browser;

before(async () => {
  app = await serveApp();
  service = await startService("axios", { origins: [app.origin] });
  browser = await startChromium();
});

after(async () => {
  await browser?.close();
  app?.close();
  await service?.stop();
});

test("in Chromium, its options are all a page needs", async () => {
  const profile = await freshProfile(browser, service);
  const tab = await profile.newPage();
  await tab.goto(`${app.origin}/axios`);
  const told = await tab.evaluate(
    async ([baseURL, options, ana]) => {
      const client = axios.create({ baseURL, ...options });
      const shy = axios.create({ baseURL, ...options, withXSRFToken: false });
      const signedIn = await client.post("/users/login", ana);
      const bearer = ({ data }) => ({ headers: { Authorization: `Bearer ${data.access_token}` } });
      const user = await client.get("/users/user", bearer(signedIn));
      const refreshed = await client.post("/users/refresh_token");
      const changed = await client.patch("/users/user", { last_name: "Axios" }, bearer(refreshed));
      const refused = await shy.post("/users/refresh_token").catch(({ response }) => response);
      const signedOut = await client.post("/users/logout");
      const ended = await client.get("/users/user", bearer(refreshed)).catch(({ response }) => response);
      return {
        username: user.data.user.username,
        lastName: changed.data.user.last_name,
        isNew: signedIn.data.access_token !== refreshed.data.access_token,
        withoutTheToken: [refused.status, refused.data.code],
        signedOut: signedOut.status,
        ended: [ended.status, ended.data.end_reason],
        cookies: document.cookie,
      };
    },
    [service.url, OPTIONS, service.users.ana],
  );
  assert.deepEqual(told, {
    username: "ana",
    lastName: "Axios",
    isNew: true,
    withoutTheToken: [403, "csrf_missing"],
    signedOut: 204,
    ended: [401, "logout"],
    cookies: "",
  });
  assert.equal(await cookie(profile, "refreshtoken"), undefined);
});

// Node has no `document.cookie` for axios to read, so that its xsrf options do nothing there: a cookie
// jar keeps the cookies, and the token in the body goes into the header that the option would fill.
test("in Node, with a cookie jar", async (t) => {
  const jar = new CookieJar();
  const client = withCookieJar(axios.create({ baseURL: service.url, jar, validateStatus: () => true, ...OPTIONS }));
  client.interceptors.response.use(async (answer) => {
    for (const name of ["access_token", "csrf_token"]) if (answer.data?.[name]) service.mustNotLog(answer.data[name]);
    for (const { value } of await jar.getCookies(service.url)) service.mustNotLog(value);
    return answer;
  });
  const keep = ({ status, data }) => {
    assert.equal(status, 200);
    client.defaults.headers.common.Authorization = `Bearer ${data.access_token}`;
    client.defaults.headers.common["X-CSRFToken"] = data.csrf_token;
  };
  const refreshToken = async () => (await jar.getCookies(service.url)).find(({ key }) => key === "refreshtoken");

  await t.test("signs in", async () => {
    keep(await client.post("/users/login", service.users.bob));
    assert.ok((await refreshToken()).httpOnly);
    assert.equal((await client.get("/users/user")).data.user.username, "bob");
  });

  await t.test("signs in by form and by multipart too", async () => {
    keep(await client.post("/users/login", new URLSearchParams(service.users.bob)));
    keep(await client.postForm("/users/login", service.users.bob));
  });

  await t.test("changes the user", async () => {
    const { status, data } = await client.patch("/users/user", { first_name: "Bob" });
    assert.deepEqual([status, data.user.first_name], [200, "Bob"]);
  });

  await t.test("is refused without the CSRF token", async () => {
    const { status, data } = await client.post("/users/refresh_token", null, { headers: { "X-CSRFToken": null } });
    assert.deepEqual([status, data.code], [403, "csrf_missing"]);
  });

  await t.test("refreshes; a superseded refresh token ends the session", async () => {
    const stolen = await refreshToken();
    keep(await client.post("/users/refresh_token"));
    keep(await client.post("/users/refresh_token"));
    await jar.setCookie(stolen, service.url);
    const reused = await client.post("/users/refresh_token");
    assert.deepEqual([reused.status, reused.data.code], [401, "refresh_reused"]);
    const { status, data } = await client.get("/users/user");
    assert.deepEqual([status, data.end_reason], [401, "reuse_detected"]);
  });

  await t.test("signs out, twice", async () => {
    keep(await client.post("/users/login", service.users.bob));
    assert.equal((await client.post("/users/logout")).status, 204);
    assert.equal((await client.post("/users/logout")).status, 204);
    // The device is known still.
    assert.deepEqual((await jar.getCookies(service.url)).map(({ key }) => key), ["knowndevice"]);
    assert.equal((await client.get("/users/user")).data.end_reason, "logout");
  });
});
