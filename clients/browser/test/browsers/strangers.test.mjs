// Pages that wish a signed-in person ill, and addresses that want to be shown the token.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import {
  allowAll,
  certificate,
  inTab,
  NAMES,
  openDevice,
  PLACES,
  ready,
  serve,
  settle,
  soon,
  startBrowser,
} from "./harness.mjs";

const tls = certificate();

/** A neighbour's requests carry her cookies, `SameSite=Strict` or not; those of another site its own at most. */
const STRANGERS = {
  "a neighbour on the same site": {
    place: PLACES["another host of the same site, over TLS"],
    host: "evil.example.com",
  },
  "a page on another site": { place: PLACES["another site, over TLS"], host: "evil.example.org" },
};

const page = (body) => `<!doctype html><title>Evil</title><link rel="icon" href="data:,">${body}`;

const form = (action, fields) =>
  page(
    `<form method="post" action="${action}">${Object.entries(fields)
      .map(([name, value]) => `<input type="hidden" name="${name}" value="${value.replaceAll("&", "&amp;")}">`)
      .join("")}<button>Win a prize</button></form>`,
  );

describe("strangers", { concurrency: NAMES.length }, () => {
  for (const browserName of NAMES) {
    // One thing at a time in a browser; both browsers at once.
    describe(browserName, { concurrency: 1 }, () => {
      for (const [who, { place, host }] of Object.entries(STRANGERS)) {
        describe(who, () => {
          let browser, world, evil, api, device, tab, anas;

          const cookies = async () =>
            (await device.context.cookies())
              .map(({ name, value }) => `${name}=${value}`)
              .filter((each) => /^(__Host-Http-refresh|csrf)/.test(each));

          before(async () => {
            // An API that is listed, and leads whom it is asked for `/away` to a stranger.
            api = await serve(
              {
                "/things": (request, response) => {
                  allowAll(request, response);
                  response.end("things");
                },
                "/away": (request, response) => {
                  allowAll(request, response);
                  response
                    .writeHead(
                      request.method === "OPTIONS" ? 204 : 307,
                      request.method === "OPTIONS" ? {} : { Location: `${evil.origin}/taken` },
                    )
                    .end();
                },
              },
              { host: "api.example.com", tls },
            );
            world = await settle(place, { name: `client-${browserName}-${host}`, tls, apis: [api.origin] });
            const { url } = world.road;
            evil = await serve(
              {
                "/": page(""),
                "/taken": (request, response) => {
                  allowAll(request, response);
                  response.end("thank you");
                },
                "/login": form(`${url}/users/login`, world.service.users.bob),
                "/refresh": form(`${url}/users/refresh_token`, {}),
                "/logout": form(`${url}/users/logout`, {}),
              },
              { host, tls },
            );
            browser = await startBrowser(browserName, tls);
            device = await openDevice(browser, world);
            tab = await device.openTab();
            assert.equal(
              await inTab(tab, async (user) => (await client.login(user)).username, world.service.users.ana),
              "ana",
            );
            anas = await cookies();
            assert.equal(anas.length, 2);
          });

          after(async () => {
            await browser?.close();
            evil?.close();
            api?.close();
            await world?.close();
          });

          /** Does the deed on a page of the stranger's; Ana's session must be what it was. */
          async function changesNothing(deed, path = "/") {
            const there = await device.context.newPage();
            await there.goto(evil.origin + path);
            const told = await deed(there);
            await there.close();
            // A page on another site has a jar of its own, in which it may have a CSRF cookie of nobody's session.
            const kept = await cookies();
            assert.deepEqual(
              anas.filter((each) => !kept.includes(each)),
              [],
            );
            assert.equal(kept.filter((each) => each.startsWith("__Host-Http-refresh")).length, 1);
            const user = await inTab(tab, async () => (await client.user(true)).username);
            assert.equal(user, "ana");
            return told;
          }

          const attempt = (there, address, init) =>
            there.evaluate(
              (address, init) =>
                fetch(address, init).then(
                  ({ type, status }) => `${type} ${status}`,
                  () => "failed",
                ),
              address,
              init,
            );

          test("fetch reads nothing, with cookies or without", async () => {
            await changesNothing(async (there) => {
              for (const path of ["/users/csrf", "/users/user", "/users/sessions", "/.well-known/revocations"]) {
                for (const credentials of ["include", "omit"]) {
                  assert.equal(await attempt(there, world.road.url + path, { credentials }), "failed", path);
                }
              }
            });
          });

          test("fetch changes nothing, with a preflight or without", async () => {
            const token = await inTab(
              tab,
              async (url) => (await (await fetch(`${url}/users/csrf`, { credentials: "include" })).json()).csrf_token,
              world.road.url,
            );
            assert.match(token, /^\w{32}$/);
            world.road.passed.length = 0;
            await changesNothing(async (there) => {
              for (const path of ["/users/login", "/users/refresh_token", "/users/logout", "/users/password"]) {
                const body = new URLSearchParams(world.service.users.bob).toString();
                const headers = { "Content-Type": "application/x-www-form-urlencoded" };
                for (const mode of ["cors", "no-cors"]) {
                  assert.notEqual(
                    await attempt(there, world.road.url + path, {
                      method: "POST",
                      mode,
                      credentials: "include",
                      headers,
                      body,
                    }),
                    "cors 200",
                  );
                }
                const shown = { "X-CSRFToken": token };
                assert.equal(
                  await attempt(there, world.road.url + path, {
                    method: "POST",
                    credentials: "include",
                    headers: shown,
                  }),
                  "failed",
                );
              }
            });
            const posts = world.road.passed.filter(
              ({ method, shown }) => method === "POST" && shown.origin === evil.origin,
            );
            assert.ok(posts.length > 0);
            assert.deepEqual([...new Set(posts.map(({ status }) => status))], [403]);
          });

          for (const path of ["/login", "/refresh", "/logout"]) {
            test(`a form that posts gets nowhere: ${path}`, async () => {
              await changesNothing(async (there) => {
                world.road.passed.length = 0;
                await there.click("button");
                const { status, sets } = await soon(() =>
                  world.road.passed.find(({ shown }) => shown.origin === evil.origin),
                );
                assert.deepEqual([status, sets], [403, []]);
              }, path);
            });
          }

          if (host === "evil.example.com") {
            test("a neighbour plants no refresh cookie, not even if it crowds ours out", async () => {
              const victim = await openDevice(browser, world);
              const hers = await victim.openTab();
              await inTab(hers, (user) => client.login(user), world.service.users.bob);
              const there = await victim.context.newPage();
              await there.goto(`${evil.origin}/`);
              await there.evaluate(() => {
                const everywhere = "Domain=example.com; Path=/; Secure";
                const plant = () => {
                  for (const name of ["__Host-Http-refreshtoken", "__Host-http-refreshtoken"]) {
                    for (const where of [everywhere, "Path=/; Secure", "Domain=auth.example.com; Path=/; Secure"]) {
                      document.cookie = `${name}=planted; ${where}`;
                    }
                  }
                  document.cookie = `csrftoken=${"x".repeat(32)}; ${everywhere}`;
                };
                plant();
                for (let count = 0; count < 300; count += 1) document.cookie = `junk${count}=x; ${everywhere}`;
                plant();
              });
              world.road.passed.length = 0;
              await hers.reload();
              await ready(hers);
              // Where she was crowded out she is nobody; nowhere is she somebody else.
              const name = await inTab(hers, async () => (await client.user())?.username ?? null);
              assert.ok(["bob", null].includes(name), name);
              assert.ok(world.road.passed.length > 0);
              for (const { shown } of world.road.passed)
                assert.doesNotMatch(shown.cookie ?? "", /refreshtoken=planted/i);
              await victim.close();
            });
          }

          test("images, scripts and frames of the service show nothing", async () => {
            const told = await changesNothing((there) =>
              there.evaluate(async (url) => {
                const load = (name, attribute, path) =>
                  new Promise((resolve) => {
                    const element = Object.assign(document.createElement(name), { [attribute]: url + path });
                    element.onload = () =>
                      resolve(name === "iframe" ? element.contentDocument && "readable" : "loaded");
                    element.onerror = () => resolve(null);
                    document.body.append(element);
                    // Not every browser tells that it refused a frame.
                    setTimeout(resolve, 3000, null);
                  });
                const loads = ["/users/user", "/users/csrf", "/docs"].flatMap((path) => [
                  load("img", "src", path),
                  load("script", "src", path),
                  load("iframe", "src", path),
                ]);
                return Promise.all(loads);
              }, world.road.url),
            );
            assert.deepEqual(
              told,
              told.map(() => null),
            );
          });

          test("who is not ours is shown neither token, whatever way they are addressed", async () => {
            evil.seen.length = 0;
            const { host: address } = new URL(evil.origin);
            const outcomes = await inTab(
              tab,
              async (origin, host) => {
                const ask = (input, init) =>
                  client.fetch(input, init).then(
                    ({ status }) => status,
                    () => "failed",
                  );
                const post = { method: "POST", body: "x" };
                return Promise.all([
                  ask(`${origin}/taken`, post),
                  ask(`//${host}/taken`, post),
                  ask(new URL(`${origin}/taken`), post),
                  ask(new Request(`${origin}/taken`, post)),
                  ask(`https:\\\\${host}\\taken`, post),
                  ask(`https://api.example.com@${host}/taken`, post),
                ]);
              },
              evil.origin,
              address,
            );
            assert.deepEqual(outcomes, [200, 200, 200, 200, 200, "failed"]);
            assertShownNothing();
          });

          test("who is redirected to from an API is shown neither", async () => {
            evil.seen.length = 0;
            api.seen.length = 0;
            for (const init of [{}, { method: "POST", body: "x" }, { redirect: "follow" }]) {
              assert.deepEqual(
                await inTab(
                  tab,
                  (url, init) => client.fetch(url, init).then(({ type }) => type),
                  `${api.origin}/away`,
                  init,
                ),
                { error: "redirected" },
              );
            }
            assert.ok(api.seen.some(({ headers }) => headers.authorization?.startsWith("Bearer ")));
            assert.deepEqual(evil.seen, []);
          });

          test("an API that is listed is shown both", async () => {
            api.seen.length = 0;
            assert.equal(
              await inTab(
                tab,
                async (url) => (await client.fetch(url, { method: "PUT", body: "x" })).text(),
                `${api.origin}/things`,
              ),
              "things",
            );
            const { headers } = api.seen.find(({ method }) => method === "PUT");
            assert.match(headers.authorization, /^Bearer eyJ/);
            assert.match(headers["x-csrftoken"], /^\w{32}$/);
            assert.equal(headers.cookie, undefined);
          });

          function assertShownNothing() {
            assert.ok(evil.seen.length > 0);
            for (const { headers } of evil.seen) {
              assert.deepEqual(
                [headers.authorization, headers["x-csrftoken"], headers.cookie],
                [undefined, undefined, undefined],
              );
              assert.doesNotMatch(headers["access-control-request-headers"] ?? "", /authorization|csrf/);
            }
          }
        });
      }
    });
  }
});
