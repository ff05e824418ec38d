// When the client refreshes, and when it lets be.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ANA, API, askApi, BOB, Device, dice, Service, SERVICE, Time, worldWithAna } from "./world.mjs";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const refreshes = (service) => service.count("/users/refresh_token");

test("signing in is enough to be let in, and to be known", async () => {
  const { service, page } = await worldWithAna();
  assert.equal(await askApi(page), 200);
  assert.deepEqual(page.known(), ANA);
  assert.equal(refreshes(service), 0);
});

test("a wrong password is told by its code", async () => {
  const { page } = await worldWithAna();
  const refusal = page.login({ username: "ana", password: "wrong" });
  await assert.rejects(refusal, {
    name: "CountersignError",
    code: "invalid_credentials",
    status: 401,
    message: "invalid_credentials.",
  });
  assert.deepEqual(page.known(), ANA);
});

test("a token is refreshed before it expires, and no sooner than it must", async () => {
  const { time, service, page } = await worldWithAna();
  for (let minute = 0; minute < 60; minute += 1) {
    await time.pass(MINUTE);
    assert.equal(await askApi(page), 200);
  }
  assert.ok(refreshes(service) >= 12 && refreshes(service) <= 20, `${refreshes(service)} in an hour`);
  // None had to be sent again.
  assert.equal(service.count("/things"), 60);
});

test("a page that does nothing asks for nothing", async () => {
  const { time, service } = await worldWithAna();
  const before = service.log.length;
  await time.pass(HOUR);
  assert.equal(service.log.length, before);
});

test("a reload signs in again by one refresh", async () => {
  const { service, device } = await worldWithAna();
  const page = device.page();
  assert.equal(page.known(), undefined);
  assert.deepEqual(await page.user(), ANA);
  assert.equal(refreshes(service), 1);
});

test("whoever asks at the same time waits for the same refresh", async () => {
  const { service, device } = await worldWithAna();
  const page = device.page();
  const users = await Promise.all([page.user(), page.user(), page.getAccessToken(), askApi(page), askApi(page)]);
  assert.deepEqual(users[0], ANA);
  assert.equal(refreshes(service), 1);
  assert.equal(service.count("/users/user"), 1);
});

test("a visitor is nobody, and is asked after once", async () => {
  const service = new Service(new Time());
  const page = new Device(service).page();
  assert.equal(await page.user(), null);
  assert.equal(await page.getAccessToken(), null);
  assert.equal(await askApi(page), 401);
  assert.equal(refreshes(service), 1);
});

test("an expired token is found out by one refusal, and the request is sent again", async () => {
  const { time, service, page } = await worldWithAna();
  service.weather = ({ pathname, headers }) => {
    // The API lost the key of the first token.
    const isFirst = headers.get("Authorization")?.includes(".1.");
    return pathname === "/things" && isFirst ? new Response("{}", { status: 401 }) : undefined;
  };
  const bodies = [];
  service.api = (request, body) => bodies.push(body) && new Response("done");
  const answer = await page.fetch(`${API}/things`, { method: "POST", body: "a thing" });
  assert.equal(await answer.text(), "done");
  assert.deepEqual(bodies, ["a thing"]);
  assert.equal(refreshes(service), 1);
  await time.pass(1);
});

test("an API that refuses every token does not make a storm of refreshes", async () => {
  const { time, service, page } = await worldWithAna();
  service.api = () => new Response("no", { status: 401 });
  for (let second = 0; second < 120; second += 1) {
    assert.equal(await askApi(page), 401);
    await time.pass(1000);
  }
  assert.equal(refreshes(service), 1);
  assert.deepEqual(page.known(), ANA);
});

test("what a refusal says that no refresh would change is handed on", async () => {
  const { service, page } = await worldWithAna();
  for (const code of ["invalid_credentials", "token_malformed", "credentials_missing"]) {
    service.weather = ({ pathname }) =>
      pathname === "/things" ? new Response(JSON.stringify({ code, detail: "No." }), { status: 401 }) : undefined;
    const answer = await page.fetch(`${API}/things`);
    assert.deepEqual([answer.status, (await answer.json()).code], [401, code]);
  }
  assert.equal(refreshes(service), 0);
});

test("a body that can be read once is not sent twice; the next request has the new token", async () => {
  const { service, page } = await worldWithAna();
  const refuse = ({ pathname, headers }) =>
    pathname === "/things" && headers.get("Authorization").includes(".1.")
      ? new Response("no", { status: 401 })
      : undefined;
  service.weather = refuse;
  const stream = new Blob(["a stream"]).stream();
  assert.equal(await askApi(page, { method: "POST", body: stream, duplex: "half" }), 401);
  assert.equal(service.count("/things"), 1);
  assert.equal(await askApi(page), 200);
});

test("a Request with a body is sent again as it was", async () => {
  const { service, page } = await worldWithAna();
  const seen = [];
  service.api = (_, body) => seen.push(body) && new Response(null, { status: seen.length === 1 ? 401 : 200 });
  const request = new Request(`${API}/things`, { method: "PUT", body: "once more" });
  assert.equal((await page.fetch(request)).status, 200);
  assert.deepEqual(seen, ["once more", "once more"]);
});

test("a session that was ended elsewhere is not refreshed; everybody who listens is told why", async () => {
  const { service, page } = await worldWithAna();
  const told = [];
  page.onChange((user, why) => told.push([user, why?.endReason]));
  service.end("session1", "revoked_by_user");
  assert.equal(await askApi(page), 401);
  assert.deepEqual(told, [[null, "revoked_by_user"]]);
  assert.equal(refreshes(service), 0);
  assert.equal(await page.getAccessToken(), null);
});

test("signing in as somebody else is seen, also where tabs cannot tell each other", async () => {
  const { service, device, page } = await worldWithAna();
  const told = [];
  page.onChange((user) => told.push(user?.username));
  await device.page().login({ username: "bob", password: "right" });
  assert.equal(await askApi(page), 200);
  assert.deepEqual(await page.user(), BOB);
  assert.deepEqual(told.at(-1), "bob");
  assert.equal(service.sessions.get("session1").end, "replaced_by_login");
});

test("a sign-out is over and done with", async () => {
  const { service, device, page } = await worldWithAna();
  const told = [];
  page.onChange((...news) => told.push(news));
  await page.logout();
  assert.equal(service.sessions.get("session1").end, "logout");
  assert.deepEqual(told, [[null, undefined]]);
  assert.equal(await page.getAccessToken(), null);
  assert.equal(await device.page().user(), null);
});

test("a sign-out that did not arrive is none", async () => {
  const { service, page } = await worldWithAna();
  service.weather = () => "lost";
  await assert.rejects(page.logout(), { code: "unreachable" });
  service.weather = () => undefined;
  assert.deepEqual(page.known(), ANA);
  assert.equal(await askApi(page), 200);
});

for (const hours of [-1, 1]) {
  test(`a device whose clock is off by ${hours} h is none the worse`, async () => {
    const { time, service, device } = await worldWithAna();
    device.clockIsOffBy = hours * HOUR;
    const page = device.page();
    for (let minute = 0; minute < 20; minute += 1) {
      assert.equal(await askApi(page), 200);
      await time.pass(MINUTE);
    }
    assert.ok(refreshes(service) <= 7, `${refreshes(service)} in twenty minutes`);
    assert.equal(service.count("/things"), 20);
  });

  test(`a clock that is put right by ${hours} h in between costs one refresh at most`, async () => {
    const { service, device, page } = await worldWithAna();
    device.clockIsOffBy = hours * HOUR;
    for (let request = 0; request < 10; request += 1) assert.equal(await askApi(page), 200);
    assert.ok(refreshes(service) <= 1);
    assert.equal(service.count("/things"), 10);
  });
}

test("a clock that is set back does not make a token last longer", async () => {
  const { time, service, device, page } = await worldWithAna();
  device.clockIsOffBy = -HOUR;
  await time.pass(10 * MINUTE);
  assert.equal(await askApi(page), 200);
  // It was not asked with a token that had expired.
  assert.equal(service.count("/things"), 1);
});

test("a laptop that slept for a day knows that its token is old, though its second clock stood still", async () => {
  const { service, device, page } = await worldWithAna();
  device.sleep(24 * HOUR);
  assert.equal(await askApi(page), 200);
  assert.equal(service.count("/things"), 1);
  assert.equal(refreshes(service), 1);
});

test("a token that took long to come is as old as it is", async () => {
  const { time, service, page } = await worldWithAna();
  service.accessLifetime = 60_000;
  await time.pass(5 * MINUTE);
  service.weather = async ({ pathname }) => {
    if (pathname === "/users/refresh_token") await time.wait(50_000);
  };
  await time.until(page.getAccessToken());
  service.weather = () => undefined;
  await time.pass(5_000);
  await time.until(page.getAccessToken());
  assert.equal(refreshes(service), 2);
});

for (const [weather, code] of [
  ["lost", "unreachable"],
  ["swallowed", "unreachable"],
  [503, "storage_unavailable"],
  [500, "unknown"],
  [429, "throttled"],
]) {
  test(`a refresh that is ${weather} signs nobody out, and is tried again`, async () => {
    const { time, service, device } = await worldWithAna();
    const page = device.page();
    let bad = 2;
    service.weather = ({ pathname }) => {
      if (pathname !== "/users/refresh_token" || (bad -= 1) < 0) return undefined;
      return typeof weather === "string"
        ? weather
        : new Response(code === "unknown" ? "oops" : JSON.stringify({ code, detail: code }), { status: weather });
    };
    assert.deepEqual(await time.until(page.user()), ANA);
    assert.equal(service.sessions.get("session1").end, undefined);
  });

  test(`a service of which all is ${weather} is an error, and nobody's sign-out`, async () => {
    const { time, service, device } = await worldWithAna();
    const page = device.page();
    const told = [];
    page.onChange((user) => told.push(user));
    service.weather = () =>
      typeof weather === "string"
        ? weather
        : new Response(JSON.stringify({ code: code === "unknown" ? undefined : code }), { status: weather });
    await assert.rejects(time.until(page.user()), { code });
    await assert.rejects(page.fetch(`${API}/things`), { code });
    assert.deepEqual([page.known(), told], [undefined, []]);
    service.weather = () => undefined;
    await time.pass(15_000);
    assert.deepEqual(await time.until(page.user()), ANA);
  });
}

test("while the service is away, a token that is still good is used to its end", async () => {
  const { time, service, page } = await worldWithAna();
  service.weather = ({ url }) => (url.startsWith(SERVICE) ? "lost" : undefined);
  await time.pass(4.9 * MINUTE);
  assert.equal(await time.until(askApi(page)), 200);
});

test("an answer that was lost is asked for again in time, even if nobody asks the page for anything", async () => {
  for (let seed = 1; seed <= 50; seed += 1) {
    const { time, service, page } = await worldWithAna({ random: dice(seed) });
    await time.pass(5 * MINUTE);
    let lost = 5;
    service.weather = ({ pathname }) =>
      pathname === "/users/refresh_token" && (lost -= 1) >= 0 ? "swallowed" : undefined;
    await time.until(askApi(page)).catch(({ code }) => assert.equal(code, "unreachable"));
    await time.pass(MINUTE);
    assert.equal(await time.until(askApi(page)), 200, `seed ${seed}`);
  }
});

test("Retry-After is waited for, and nothing is asked meanwhile", async () => {
  const { time, service, device } = await worldWithAna();
  const page = device.page();
  service.weather = ({ pathname }) =>
    pathname === "/users/refresh_token"
      ? new Response(JSON.stringify({ code: "overloaded" }), { status: 503, headers: { "Retry-After": "20" } })
      : undefined;
  await assert.rejects(page.user(), { code: "overloaded", retryAfter: 20 });
  for (let second = 0; second < 19; second += 1) {
    await time.pass(1000);
    await assert.rejects(page.user(), { code: "overloaded" });
  }
  assert.equal(refreshes(service), 1);
  service.weather = () => undefined;
  await time.pass(3000);
  assert.deepEqual(await time.until(page.user()), ANA);
});

test("who gives up waiting does not spoil it for the others", async () => {
  const { time, service, device } = await worldWithAna();
  const page = device.page();
  service.weather = async ({ pathname }) => {
    if (pathname === "/users/refresh_token") await time.wait(5_000);
  };
  const impatient = new AbortController();
  const abandoned = page.fetch(`${API}/things`, { signal: impatient.signal });
  const patient = page.fetch(`${API}/things`);
  await time.pass(1000);
  impatient.abort(new Error("never mind"));
  await assert.rejects(abandoned, /never mind/);
  assert.equal((await time.until(patient)).status, 200);
  assert.equal(refreshes(service), 1);
  assert.equal(service.count("/things"), 1);
});

test("what is aborted before it begins is not sent", async () => {
  const { service, page } = await worldWithAna();
  await assert.rejects(page.fetch(`${API}/things`, { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.equal(service.count("/things"), 0);
});

test("a CSRF token of a session before is replaced by this session's", async () => {
  const { time, service, device, page } = await worldWithAna();
  await device.page().login({ username: "ana", password: "right" });
  await time.pass(5 * MINUTE);
  assert.equal(await askApi(page), 200);
  assert.equal(service.count("/users/csrf"), 1);
});

test("while the CSRF token of another session is asked for, requests show that of theirs", async () => {
  const { time, service, device, page } = await worldWithAna();
  await device.page().login({ username: "ana", password: "right" });
  service.sessions.get("session1").end = undefined;
  let refused = 1;
  service.weather = async ({ pathname, method }) => {
    if (pathname === "/users/csrf") await time.wait(1000);
    if (pathname === "/things" && method === "GET" && (refused -= 1) >= 0) return new Response("no", { status: 401 });
    return undefined;
  };
  const refreshing = askApi(page);
  await time.pass(500);
  assert.equal(await askApi(page, { method: "POST", body: "x" }), 200);
  const { headers } = service.log.find(({ method, url }) => method === "POST" && url.startsWith(API));
  assert.match(headers.get("Authorization"), /session1/);
  assert.match(headers.get("X-CSRFToken"), /session1/);
  assert.equal(await time.until(refreshing), 200);
});

test("who asks anew is not answered with what was asked before", async () => {
  const { time, service, page } = await worldWithAna();
  service.weather = async ({ pathname }) => {
    if (pathname === "/users/user") await time.wait(1000);
  };
  const before = page.user(true);
  await time.pass(100);
  const after = page.user(true);
  await time.until(Promise.all([before, after]));
  assert.equal(service.count("/users/user"), 2);
});
