// The client in Node, with a cookie jar, on the real service: what it promises, route by route.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import axios from "axios";
import { CookieJar } from "tough-cookie";

import { startService } from "../../../../e2e/service_for_node.mjs";
import { changePassword, endSession, sessions, updateUser } from "../../dist/account.js";
import { useClient } from "../../dist/axios.js";
import { createClient } from "../../dist/index.js";
import { withCookies } from "../../dist/node.js";
import { buildRoad, noteSecrets } from "../road.mjs";

let road, service;

before(async () => {
  road = await buildRoad();
  service = await startService("client-node", { settings: { COUNTERSIGN_SERVER__PUBLIC_URL: road.url } });
  road.leadTo(service.url);
  noteSecrets(road, service);
});

after(async () => {
  await service?.stop();
  road?.close();
});

/** A program of somebody's, with a cookie jar of its own. */
function program() {
  const jar = new CookieJar();
  return { jar, client: createClient({ url: road.url, fetch: withCookies(jar) }) };
}

async function signedIn(user = service.users.ana) {
  const { jar, client } = program();
  await client.login(user);
  return { jar, client };
}

test("a program signs in, starts again with its jar, and signs out", async () => {
  const { jar, client } = await signedIn();
  assert.equal((await client.user()).username, "ana");
  const again = createClient({ url: road.url, fetch: withCookies(jar) });
  assert.equal((await again.user()).username, "ana");
  await again.logout();
  assert.equal(await again.user(), null);
  assert.deepEqual(
    (await jar.getCookies(road.url)).map(({ key }) => key),
    ["knowndevice"],
  );
});

test("two programs of two people in one process know nothing of each other", async () => {
  const [ana, bob] = [await signedIn(), await signedIn(service.users.bob)];
  assert.deepEqual([ana.client.known().username, bob.client.known().username], ["ana", "bob"]);
  await ana.client.logout();
  assert.equal((await bob.client.user(true)).username, "bob");
});

test("refusals are errors with the service's words", async () => {
  const { client } = program();
  await assert.rejects(client.login({ username: "ana", password: "not hers" }), (error) => {
    assert.deepEqual([error.name, error.code, error.status], ["CountersignError", "invalid_credentials", 401]);
    assert.match(error.message, /wrong/i);
    assert.match(error.requestId, /\w/);
    return true;
  });
  const ana = await signedIn();
  await assert.rejects(updateUser(ana.client, { first_name: "x".repeat(200) }), ({ code, errors }) => {
    assert.deepEqual([code, errors[0].field], ["validation_failed", "first_name"]);
    return true;
  });
});

test("a user changes their name, and whoever listens is told", async () => {
  const { client } = await signedIn();
  const told = [];
  client.onChange(({ first_name }) => told.push(first_name));
  assert.equal((await updateUser(client, { first_name: "Ána" })).first_name, "Ána");
  await null;
  assert.deepEqual(told, ["Ána"]);
});

test("a user sees their devices, and signs one out", async () => {
  const [laptop, phone] = [await signedIn(service.users.bob), await signedIn(service.users.bob)];
  const listed = await sessions(laptop.client);
  const other = listed.find(({ current }) => !current);
  await endSession(laptop.client, other);
  const told = [];
  phone.client.onChange((user, why) => told.push([user, why.endReason]));
  assert.equal(await phone.client.user(true), null);
  assert.deepEqual(told, [[null, "revoked_by_user"]]);

  await endSession(
    laptop.client,
    listed.find(({ current }) => current),
  );
  assert.equal(laptop.client.known(), null);
});

test("a password that was changed signs the other devices out, and not this one", async () => {
  const [laptop, phone] = [await signedIn(service.users.bob), await signedIn(service.users.bob)];
  const anew = "a quiet river & old/stars";
  service.mustNotLog(anew);
  const wrong = changePassword(phone.client, { current_password: "not his", new_password: anew });
  await assert.rejects(wrong, { code: "invalid_credentials" });
  await changePassword(phone.client, { current_password: service.users.bob.password, new_password: anew });
  service.users.bob.password = anew;
  assert.equal((await phone.client.user(true)).username, "bob");
  assert.equal(await laptop.client.user(true), null);
});

test("signing out everywhere, and only elsewhere", async () => {
  const [laptop, phone] = [await signedIn(), await signedIn()];
  await phone.client.logout("others");
  assert.equal((await phone.client.user(true)).username, "ana");
  assert.equal(await laptop.client.user(true), null);
  await laptop.client.login(service.users.ana);
  await laptop.client.logout("global");
  assert.equal(await phone.client.user(true), null);
});

test("axios sends through the client: token, CSRF token, and one refresh for an old token", async () => {
  const { client } = await signedIn();
  const http = axios.create({ baseURL: road.url });
  const undo = useClient(http, client);
  assert.equal((await http.get("/users/user")).data.user.username, "ana");
  const changed = await http.patch("/users/user", { last_name: "Axios" });
  assert.deepEqual([changed.status, changed.data.user.last_name], [200, "Axios"]);

  // The road refuses the next one, as an API would whose keys are newer.
  road.passed.length = 0;
  let refused = 1;
  road.weather = ({ method }) => (method === "PATCH" && (refused -= 1) >= 0 ? { refused: true } : {});
  const again = await http.patch("/users/user", { last_name: "Once more" });
  assert.equal(again.data.user.last_name, "Once more");
  assert.equal(road.count("/users/refresh_token"), 1);

  const wrong = http.post("/users/password", { current_password: "x", new_password: "a quiet river & stars" });
  await assert.rejects(
    wrong,
    ({ response }) => response.status === 401 && response.data.code === "invalid_credentials",
  );

  undo();
  await assert.rejects(http.get("/users/user"), ({ response }) => response.data.code === "credentials_missing");
});
