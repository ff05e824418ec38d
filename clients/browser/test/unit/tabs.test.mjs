// What tabs of one origin tell each other. Real tabs, which also wait for each other, are in test/browsers.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { ANA, askApi, BOB, Device, Service, SERVICE, Time } from "./world.mjs";

const opened = [];
afterEach(() => {
  for (const page of opened.splice(0)) page.close();
});

/** A device with so many tabs, in the first of which Ana has signed in. */
async function tabsOfAna(count) {
  const time = new Time();
  const service = new Service(time);
  const device = new Device(service);
  const open = (options) => {
    const page = device.page({ share: true, ...options });
    opened.push(page);
    return page;
  };
  const tabs = Array.from({ length: count }, () => open());
  await tabs[0].login({ username: "ana", password: "right" });
  await told();
  return { time, service, device, tabs, open };
}

/** Node delivers what tabs tell each other a moment later. */
const told = () => sleep(100);

test("a sign-in is known in all tabs, with nothing asked", async () => {
  const { service, tabs } = await tabsOfAna(3);
  assert.deepEqual(
    tabs.map((tab) => tab.known()),
    [ANA, ANA, ANA],
  );
  for (const tab of tabs) assert.equal(await askApi(tab), 200);
  assert.equal(service.count("/users/refresh_token"), 0);
});

test("a sign-in as somebody else is known too", async () => {
  const { tabs } = await tabsOfAna(2);
  const heard = [];
  tabs[1].onChange((user) => heard.push(user));
  await tabs[0].login({ username: "bob", password: "right" });
  await told();
  assert.deepEqual(heard, [BOB]);
});

test("the end of a session is told with its reason, and only to tabs that were in it", async () => {
  const { service, tabs, open } = await tabsOfAna(2);
  const heard = [];
  tabs[1].onChange((user, why) => heard.push([user, why?.code, why?.endReason]));
  service.end("session1", "password_changed");
  await askApi(tabs[0]);
  await told();
  assert.deepEqual(heard, [[null, "session_ended", "password_changed"]]);

  // A tab that slept through the next sign-in would tell of the session that it knew.
  await tabs[0].login({ username: "ana", password: "right" });
  await told();
  const behind = new BroadcastChannel(`countersign:${SERVICE}/users`);
  behind.postMessage({ ended: "session1".padEnd(32, "x") });
  await told();
  assert.deepEqual([tabs[0].known(), tabs[1].known()], [ANA, ANA]);
  behind.postMessage({ ended: "session2".padEnd(32, "x") });
  await told();
  assert.deepEqual([tabs[0].known(), tabs[1].known()], [null, null]);
  behind.close();
});

test("a page that signs out right after a reload signs out the others", async () => {
  const { tabs, open } = await tabsOfAna(2);
  await open().logout();
  await told();
  assert.deepEqual(
    tabs.map((tab) => tab.known()),
    [null, null],
  );
});

test("a token that waited for its tab to wake is as old as it is", async () => {
  const { time, service, device, tabs } = await tabsOfAna(2);
  await time.pass(4.9 * 60_000);
  // Told now, and heard ten minutes later.
  const telling = tabs[0].getAccessToken();
  await time.until(telling);
  device.sleep(10 * 60_000);
  await told();
  assert.equal(await time.until(askApi(tabs[1])), 200);
  assert.equal(service.count("/things"), 1);
});

test("tabs of another service hear nothing", async () => {
  const { open } = await tabsOfAna(1);
  const other = open({ url: "https://other.example.org" });
  const { tabs } = await tabsOfAna(1);
  await told();
  assert.deepEqual([tabs[0].known(), other.known()], [ANA, undefined]);
});

test("in Node nothing is told unless it is asked for", async () => {
  const { device, tabs } = await tabsOfAna(1);
  const alone = device.page();
  await tabs[0].login({ username: "bob", password: "right" });
  await told();
  assert.equal(alone.known(), undefined);
});
