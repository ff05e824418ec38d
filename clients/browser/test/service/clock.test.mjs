// A service whose clock is off: the client counts by its own, and asks no more often for it.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { CookieJar } from "tough-cookie";

import { startService } from "../../../../e2e/service_for_node.mjs";
import { createClient } from "../../dist/index.js";
import { withCookies } from "../../dist/node.js";
import { buildRoad, noteSecrets } from "../road.mjs";

/** Debian's libfaketime, which gives a program another time of day. */
const LIBRARY = readdirSync("/usr/lib")
  .map((machine) => `/usr/lib/${machine}/faketime/libfaketimeMT.so.1`)
  .find(existsSync);

for (const offset of ["-1h", "+1h"]) {
  test(
    `a service whose clock is off by ${offset} is as good as any`,
    { skip: !LIBRARY && "no libfaketime" },
    async () => {
      const road = await buildRoad();
      const service = await startService(`client-clock${offset}`, {
        settings: {
          COUNTERSIGN_SERVER__PUBLIC_URL: road.url,
          LD_PRELOAD: LIBRARY,
          FAKETIME: offset,
          FAKETIME_DONT_FAKE_MONOTONIC: "1",
        },
      });
      try {
        road.leadTo(service.url);
        noteSecrets(road, service);
        const client = createClient({ url: road.url, fetch: withCookies(new CookieJar()) });
        await client.login(service.users.ana);
        // The clock really is off.
        const { iat } = JSON.parse(atob((await client.getAccessToken()).split(".")[1]));
        const hours = (iat * 1000 - Date.now()) / 3_600_000;
        assert.ok(Math.abs(hours - parseInt(offset)) < 0.1, `${hours} h`);
        for (let request = 0; request < 5; request += 1) {
          assert.equal((await client.fetch(`${road.url}/users/user`)).status, 200);
        }
        assert.equal(road.count("/users/refresh_token"), 0);
      } finally {
        await service.stop();
        road.close();
      }
    },
  );
}
