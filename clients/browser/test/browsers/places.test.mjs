// A page and the service, wherever they stand to each other, in each browser.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import {
  certificate,
  inTab,
  NAMES_AND_WEBKIT,
  openDevice,
  PLACES,
  ready,
  reload,
  sees,
  serve,
  settle,
  startBrowser,
} from "./harness.mjs";

const HOUR = 3_600_000;
const TABS = 5;

const REFRESH = "/users/refresh_token";

const whoAmI = (tab) => inTab(tab, async () => (await client.user())?.username ?? null);
const askService = (tab, url) =>
  inTab(tab, async (address) => (await client.fetch(`${address}/users/user`)).status, url);
const signIn = (tab, user) => inTab(tab, async (credentials) => (await client.login(credentials)).username, user);
const known = (tab) => inTab(tab, () => client.known()?.username ?? null);

const tls = certificate();

describe("a page and the service", { concurrency: NAMES_AND_WEBKIT.length }, () => {
  for (const browserName of NAMES_AND_WEBKIT) {
    // One thing at a time in a browser; both browsers at once.
    describe(browserName, { concurrency: 1 }, () => {
      let browser;
      before(async () => {
        browser = await startBrowser(browserName, tls);
      });
      after(() => browser?.close());

      test("whoever has no certificate of a believed authority is told nothing", async () => {
        const [genuine, impostor] = await Promise.all(
          [tls, tls.impostor].map((shown) => serve({ "/": "hello" }, { host: "app.example.com", tls: shown })),
        );
        const context = await browser.createBrowserContext();
        const tab = await context.newPage();
        await tab.goto(impostor.origin).catch(() => {});
        await tab.goto(genuine.origin);
        assert.deepEqual(impostor.seen, []);
        assert.ok(genuine.seen.length > 0);
        await context.close();
        for (const { close } of [genuine, impostor]) close();
      });

      for (const [where, place] of Object.entries(PLACES)) {
        describe(`the service is on ${where}`, () => {
          let world, device, tab;
          const opened = [];

          before(async () => {
            world = await settle(place, { name: `client-${browserName}-${where.replace(/\W+/g, "-")}`, tls });
          });
          after(async () => {
            await device?.close();
            await world?.close();
          });

          /**
           * Ana, signed in on her device, with so many tabs that all know it. What was in them before they have
           * forgotten, and those that are too many are on no page.
           */
          async function ana({ tabs = 1, clockIsOffBy = 0 } = {}) {
            device ??= await openDevice(browser, world);
            await Promise.all(
              opened.map(async (each, index) => {
                await each.goto(index < tabs ? device.address(clockIsOffBy) : "about:blank");
                if (index < tabs) await ready(each);
              }),
            );
            while (opened.length < tabs) opened.push(await device.openTab("/", clockIsOffBy));
            [tab] = opened;
            assert.equal(await signIn(tab, world.service.users.ana), "ana");
            const hers = opened.slice(0, tabs);
            for (const other of hers) await sees(other, () => client.known()?.username === "ana");
            world.road.passed.length = 0;
            return hers;
          }

          /** The lid is closed for so long: the page's second clock stands still. */
          const sleep = (tabs, milliseconds) =>
            Promise.all(
              tabs.map((each) =>
                each.evaluate((more) => {
                  clocks.wall += more;
                }, milliseconds),
              ),
            );

          // It keeps no cookies of another site's, partitioned or not.
          if (browserName === "WebKitGTK" && place.isCrossSite) {
            test("she is signed in until she reloads, and no longer", async () => {
              await ana();
              assert.equal(await askService(tab, world.road.url), 200);
              await reload(tab);
              assert.equal(await whoAmI(tab), null);
            });
            return;
          }

          test("she signs in, reloads, and is who she was by one refresh", async () => {
            await ana();
            assert.equal(await askService(tab, world.road.url), 200);
            await reload(tab);
            assert.equal(await known(tab), null);
            assert.equal(await whoAmI(tab), "ana");
            assert.equal(await askService(tab, world.road.url), 200);
            assert.equal(world.road.count(REFRESH), 1);
          });

          test("a script in the page reads no refresh token, and nothing is kept for a later one", async () => {
            await ana();
            const seen = await tab.evaluate(async () => ({
              cookies: document.cookie + JSON.stringify((await globalThis.cookieStore?.getAll()) ?? ""),
              kept: [
                localStorage.length,
                sessionStorage.length,
                (await indexedDB.databases()).length,
                (await caches.keys()).length,
              ],
            }));
            assert.doesNotMatch(seen.cookies, /refresh|eyJ/);
            assert.deepEqual(seen.kept, [0, 0, 0, 0]);
          });

          test("five tabs that wake at once have one refresh among them", async () => {
            const tabs = await ana({ tabs: TABS });
            await sleep(tabs, 24 * HOUR);
            const answers = await Promise.all(tabs.map((each) => askService(each, world.road.url)));
            assert.deepEqual(
              answers,
              tabs.map(() => 200),
            );
            assert.equal(world.road.count(REFRESH), 1);
            assert.deepEqual(
              world.road.passed.filter(({ status }) => status >= 400),
              [],
            );
          });

          test("five tabs that are restored at once have one refresh among them", async () => {
            const tabs = await ana({ tabs: TABS });
            await Promise.all(tabs.map(reload));
            assert.deepEqual(
              await Promise.all(tabs.map(whoAmI)),
              tabs.map(() => "ana"),
            );
            assert.equal(world.road.count(REFRESH), 1);
          });

          test("a sign-out in one tab is seen in the others, with nothing asked", async () => {
            const tabs = await ana({ tabs: 3 });
            await inTab(tab, () => client.logout());
            for (const other of tabs) await sees(other, () => client.known() === null);
            assert.deepEqual(
              world.road.passed.map(({ path, status }) => [path, status]).filter(([path]) => path !== "/users/csrf"),
              [["/users/logout", 204]],
            );
            await reload(tabs[1]);
            assert.equal(await whoAmI(tabs[1]), null);
          });

          test("a sign-in as somebody else is seen in the others", async () => {
            const tabs = await ana({ tabs: 3 });
            await signIn(tab, world.service.users.bob);
            for (const other of tabs) await sees(other, () => client.known()?.username === "bob");
            assert.deepEqual(await Promise.all(tabs.map((each) => askService(each, world.road.url))), [200, 200, 200]);
          });

          for (const hours of [-1, 1]) {
            test(`a device whose clock is off by ${hours} h goes on like any other`, async () => {
              await ana({ clockIsOffBy: hours * HOUR });
              for (let request = 0; request < 3; request += 1) assert.equal(await askService(tab, world.road.url), 200);
              assert.equal(world.road.count(REFRESH), 0);
              await reload(tab);
              assert.equal(await whoAmI(tab), "ana");
              assert.equal(world.road.count(REFRESH), 1);
            });
          }

          test("a laptop that slept for a day refreshes before it asks", async () => {
            const tabs = await ana();
            await sleep(tabs, 24 * HOUR);
            assert.equal(await askService(tab, world.road.url), 200);
            assert.deepEqual(
              world.road.passed.map(({ path }) => path).filter((path) => path !== "/users/csrf"),
              [REFRESH, "/users/user"],
            );
          });

          test("a lost answer to a refresh signs nobody out", async () => {
            const tabs = await ana({ tabs: 2 });
            await sleep(tabs, 24 * HOUR);
            let lost = 2;
            world.road.weather = ({ method, path }) => ({
              swallowed: method === "POST" && path === REFRESH && (lost -= 1) >= 0,
            });
            assert.deepEqual(await Promise.all(tabs.map((each) => askService(each, world.road.url))), [200, 200]);
            assert.equal(world.road.count(REFRESH), 3);
            await reload(tab);
            assert.equal(await whoAmI(tab), "ana");
          });

          // It takes its time, and where the service is makes no difference to it.
          if (place.isSecure) return;
          test("a service that is away signs nobody out", async () => {
            await ana();
            await reload(tab);
            world.road.weather = () => ({ lost: true });
            assert.deepEqual(await whoAmI(tab), { error: "unreachable" });
            world.road.weather = () => ({});
            assert.equal(await inTab(tab, () => client.known() === undefined), true);
            // It is left alone for a while, at most eight seconds by then.
            await tab.evaluate(() => {
              clocks.elapsed += 8000;
            });
            await sees(tab, async () => (await client.user().catch(() => null))?.username === "ana");
          });
        });
      }
    });
  }
});
