// The real service, at the end of a road on which requests and answers are lost, late, doubled and overtaken.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { CookieJar } from "tough-cookie";

import { startService } from "../../../../e2e/service_for_node.mjs";
import { createClient } from "../../dist/index.js";
import { withCookies } from "../../dist/node.js";
import { buildRoad, noteSecrets } from "../road.mjs";
import { dice } from "../unit/world.mjs";

const CLIENTS = 20;
/** The shortest that the service gives: each client refreshes every few seconds. */
const ACCESS_LIFETIME_SECONDS = 10;
const STORM_SECONDS = 40;
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 100_000);

let road, service;

before(async () => {
  road = await buildRoad();
  service = await startService("client-chaos", {
    settings: {
      COUNTERSIGN_SERVER__PUBLIC_URL: road.url,
      COUNTERSIGN_TOKENS__ACCESS_LIFETIME: `${ACCESS_LIFETIME_SECONDS}s`,
      COUNTERSIGN_THROTTLE__INSECURE_OFF: "true",
    },
  });
  road.leadTo(service.url);
  noteSecrets(road, service);
});

after(async () => {
  await service?.stop();
  road?.close();
});

/** Of ten requests four have bad luck; who is late is overtaken by those behind. */
function badWeather(random) {
  return () => {
    const luck = random();
    return {
      lost: luck < 0.1,
      swallowed: luck >= 0.1 && luck < 0.25,
      twice: luck >= 0.25 && luck < 0.4 ? 1500 * random() : undefined,
      delay: random() < 0.3 ? 800 * random() : 0,
      delayBack: random() < 0.3 ? 800 * random() : 0,
    };
  };
}

/** Who is signed in, once the client has stopped leaving the service alone: for half a minute at most. */
async function nameIn(client) {
  for (let tries = 0; ; tries += 1) {
    try {
      return (await client.user(true))?.username;
    } catch (error) {
      if (tries > 40) throw error;
      await sleep(1000);
    }
  }
}

test("nobody is signed out, and in the end everybody is let in", async (t) => {
  t.diagnostic(`CHAOS_SEED=${SEED}`);
  const random = dice(SEED);
  const told = [];
  const people = [];
  for (let count = 0; count < CLIENTS; count += 1) {
    const jar = new CookieJar();
    const client = createClient({ url: road.url, fetch: withCookies(jar), timeout: 2000 });
    await client.login(service.users[count % 2 ? "ana" : "bob"]);
    client.onChange((...news) => told.push(news));
    people.push({ client, name: client.known().username });
  }

  road.passed.length = 0;
  road.weather = badWeather(random);
  const end = Date.now() + STORM_SECONDS * 1000;
  const outcomes = {};
  await Promise.all(
    people.map(async ({ client }) => {
      while (Date.now() < end) {
        const outcome = await client.fetch(`${road.url}/users/user`).then(
          ({ status }) => status,
          // A request of the page's own fails as on any road; the client's refreshes are tried again.
          (error) => error.code ?? error.message,
        );
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
        await sleep(500 * random());
      }
    }),
  );
  const rotations = road.count("/users/refresh_token");
  t.diagnostic(`${rotations} refreshes that arrived; of the pages' own requests: ${JSON.stringify(outcomes)}`);
  assert.ok(rotations > CLIENTS * 3);
  assert.ok(outcomes[200] > CLIENTS * 20);
  assert.equal(outcomes[401], undefined);

  road.weather = () => ({});
  for (const { client, name } of people) assert.equal(await nameIn(client), name);
  // Others' sign-ins change the time of a user's last one; a user who is gone would be a sign-out.
  assert.deepEqual(
    told.filter(([user]) => !user),
    [],
  );
  const sessions = JSON.parse(await service.run("session", "list", "--all", "--json"));
  assert.equal(sessions.length, CLIENTS);
  assert.deepEqual(
    sessions.filter((session) => session.end !== null),
    [],
  );
});
