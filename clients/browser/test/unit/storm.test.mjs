// What a thousand pages do to a service that comes back after a minute.

import assert from "node:assert/strict";
import { test } from "node:test";

import { askApi, Device, dice, Service, Time } from "./world.mjs";

const CLIENTS = 1000;
const SECOND = 1000;
const OUTAGE = 60 * SECOND;
/** How often a page asks its API for something. */
const EVERY = 3 * SECOND;

/** The most events within any second, and in which it began. */
function peak(times) {
  let most = { rate: 0 };
  for (let first = 0, last = 0; last < times.length; last += 1) {
    while (times[last] - times[first] >= SECOND) first += 1;
    if (last - first + 1 > most.rate) most = { rate: last - first + 1, at: times[first] };
  }
  return most;
}

/** A thousand pages that ask their API time and again; all tokens are used up when the service goes away. */
async function outage(weather) {
  const time = new Time();
  const service = new Service(time);
  const random = dice(7);
  const pages = Array.from({ length: CLIENTS }, () => new Device(service, { random }).page());
  await Promise.all(pages.map((page) => page.login({ username: "ana", password: "right" })));
  await time.pass(service.accessLifetime);

  const asked = [];
  const begin = time.now;
  service.weather = ({ pathname }) => {
    if (pathname !== "/users/refresh_token") return undefined;
    asked.push(time.now - begin);
    return time.now - begin < OUTAGE ? weather() : undefined;
  };
  let isOver = false;
  const visits = pages.map(async (page) => {
    await time.wait(random() * EVERY);
    while (!isOver) {
      await askApi(page).catch(() => {});
      await time.wait(EVERY);
    }
  });
  await time.pass(OUTAGE * 2);
  isOver = true;
  await time.pass(2 * EVERY);
  await Promise.all(visits);

  const after = asked.filter((at) => at >= OUTAGE);
  return {
    service,
    total: asked.length,
    first: asked.filter((at) => at < SECOND).length,
    during: peak(asked.filter((at) => at >= 10 * SECOND && at < OUTAGE)),
    after: peak(after),
    lastBack: after.at(-1) - OUTAGE,
  };
}

for (const [what, weather] of [
  ["does not answer", () => "lost"],
  [
    "answers 503 with Retry-After: 1",
    () => new Response(JSON.stringify({ code: "overloaded" }), { status: 503, headers: { "Retry-After": "1" } }),
  ],
]) {
  test(`no storm after a minute in which the service ${what}`, async (t) => {
    const { service, total, first, during, after, lastBack } = await outage(weather);
    const rate = (number) => `${number}/s`;
    t.diagnostic(
      `${CLIENTS} pages, all of whose tokens expired: ${rate(first)} at first, at most ${rate(during.rate)} from 10 s on, ` +
        `at most ${rate(after.rate)} once it is back; ${total} refreshes in all, the last ${Math.round(lastBack / SECOND)} s after`,
    );
    // Without jitter and breaker it would be all of them, time and again.
    assert.ok(during.rate <= CLIENTS / 5, rate(during.rate));
    assert.ok(after.rate <= CLIENTS / 8, rate(after.rate));
    assert.ok(total <= CLIENTS * 15, `${total} refreshes`);
    assert.ok(lastBack <= 31 * SECOND + EVERY, `${lastBack} ms`);
    // One after the other, all are back, and nobody was signed out.
    assert.ok([...service.sessions.values()].every(({ end }) => end === undefined));
    assert.ok([...service.sessions.values()].every(({ generation }) => generation >= 1));
  });
}

test("who refreshed together after it does not refresh together the next time", async (t) => {
  const time = new Time();
  const service = new Service(time);
  const random = dice(3);
  const pages = Array.from({ length: CLIENTS }, () => new Device(service, { random }).page());
  await Promise.all(pages.map((page) => page.login({ username: "ana", password: "right" })));
  const asked = [];
  service.weather = ({ pathname }) => {
    if (pathname === "/users/refresh_token") asked.push(time.now);
  };
  let isOver = false;
  const visits = pages.map(async (page) => {
    while (!isOver) {
      await page.getAccessToken();
      await time.wait(SECOND);
    }
  });
  await time.pass(service.accessLifetime);
  isOver = true;
  await time.pass(2 * EVERY);
  await Promise.all(visits);
  const { rate } = peak(asked);
  t.diagnostic(`${CLIENTS} pages that signed in within one second: at most ${rate}/s when their tokens near their end`);
  assert.ok(rate <= CLIENTS / 20, `${rate}/s`);
});
