// The recipes of docs/browser.md are code that is checked and run, with the frameworks' own packages. React's is
// run in browsers (test/browsers/ways.test.mjs).

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

import "@angular/compiler"; // compiles Angular's own classes, which an app's build does ahead of time
import { HttpHeaders, HttpRequest } from "@angular/common/http";
import { build } from "esbuild";
import { firstValueFrom, of } from "rxjs";
import { effectScope } from "vue";

import { APP } from "../recipes.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const API = "https://api.example.org";

const TSCONFIG = {
  compilerOptions: {
    target: "ES2022",
    module: "ESNext",
    moduleResolution: "Bundler",
    lib: ["ES2022", "DOM", "DOM.Iterable"],
    types: ["node"],
    jsx: "react-jsx",
    strict: true,
    allowJs: true,
    checkJs: true,
    noImplicitAny: false,
    noEmit: true,
    skipLibCheck: true,
  },
  exclude: ["built"],
};

let directory, recipes;

before(async () => {
  // Inside of the package, for whose modules it is one more.
  directory = mkdtempSync(`${ROOT}dist/recipes-`);
  for (const [name, code] of Object.entries(APP)) writeFileSync(`${directory}/${name}`, code);
  writeFileSync(`${directory}/tsconfig.json`, JSON.stringify(TSCONFIG));
  const names = ["angular", "axios", "client", "vue"];
  await build({
    entryPoints: names.map((name) => ({ in: `${directory}/${name}`, out: name })),
    outdir: `${directory}/built`,
    bundle: true,
    splitting: true, // one client for all
    packages: "external",
    format: "esm",
  });
  const parts = await Promise.all(names.map((name) => import(pathToFileURL(`${directory}/built/${name}.js`).href)));
  recipes = Object.assign({}, ...parts);
});

after(() => rmSync(directory, { recursive: true, force: true }));

let asked, refusal;

beforeEach(() => {
  asked = [];
  refusal = undefined;
  globalThis.answer = serve;
});

globalThis.location ??= { href: "https://app.example.org/page", hostname: "app.example.org" };

const json = (status, body) =>
  new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json", "X-Was": "here" } });

/** The service and the API, to whoever asks through the client. */
async function serve(input, init) {
  const request = new Request(input, init);
  const { pathname } = new URL(request.url);
  asked.push({ url: request.url, method: request.method, headers: request.headers, body: await request.text() });
  if (pathname === "/users/csrf") return json(200, { csrf_token: "c".repeat(32) });
  const tokens = { access_token: "a.b.c", token_type: "Bearer", expires_in: 300, csrf_token: "c".repeat(32) };
  if (pathname === "/users/login") return json(200, { ...tokens, user: { id: 1, username: "ana" } });
  if (pathname === "/users/logout") return new Response(null, { status: 204 });
  return refusal ?? json(200, { things: [1] });
}

const signIn = () => recipes.client.login({ username: "ana", password: "secret" });

test("the recipes are right by their types", () => {
  const tsc = `${ROOT}node_modules/typescript/bin/tsc`;
  const { status, stdout } = spawnSync(process.execPath, [tsc, "--project", directory], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});

/** What is not for the API goes on to the next, as Angular has it. */
const next = (request) => of({ wentOn: request.url });

test("Angular: what is for the API is sent by the client, with both tokens", async () => {
  await signIn();
  const headers = new HttpHeaders({ "X-Mine": "1" });
  const request = new HttpRequest("POST", `${API}/things`, { a: 1 }, { headers });
  const answer = await firstValueFrom(recipes.countersign(request, next));
  assert.deepEqual([answer.status, answer.body, answer.headers.get("x-was")], [200, { things: [1] }, "here"]);
  const sent = asked.at(-1);
  assert.deepEqual([sent.method, sent.url, sent.body], ["POST", `${API}/things`, '{"a":1}']);
  assert.equal(sent.headers.get("authorization"), "Bearer a.b.c");
  assert.equal(sent.headers.get("x-csrftoken"), "c".repeat(32));
  assert.equal(sent.headers.get("x-mine"), "1");
  assert.match(sent.headers.get("content-type"), /^application\/json/);
});

test("Angular: a refusal is an error that holds the answer", async () => {
  await signIn();
  refusal = json(422, { detail: "no" });
  const asking = firstValueFrom(recipes.countersign(new HttpRequest("GET", `${API}/things`), next));
  await assert.rejects(asking, { name: "HttpErrorResponse", status: 422, error: { detail: "no" } });
});

test("Angular: whoever loses interest ends the request, and strangers are asked without the client", async () => {
  await signIn();
  let signal;
  globalThis.answer = (request) => {
    ({ signal } = request);
    return new Promise(() => {});
  };
  const subscription = recipes.countersign(new HttpRequest("GET", `${API}/things`), next).subscribe();
  await new Promise(setImmediate);
  subscription.unsubscribe();
  assert.equal(signal.aborted, true);

  globalThis.answer = serve;
  const before = asked.length;
  for (const url of ["https://evil.example/things", `https://api.example.org@evil.example/`, "/things"]) {
    assert.deepEqual(await firstValueFrom(recipes.countersign(new HttpRequest("GET", url), next)), { wentOn: url });
  }
  assert.equal(asked.length, before);
});

test("Vue: a component's user follows the client's, for as long as the component lives", async () => {
  const scope = effectScope();
  await signIn();
  const user = scope.run(() => recipes.useUser(recipes.client));
  assert.equal(user.value.username, "ana");
  await recipes.client.logout();
  await new Promise(setImmediate);
  assert.equal(user.value, null);
  scope.stop();
  await signIn();
  await new Promise(setImmediate);
  assert.equal(user.value, null);
});

test("axios: a request of the instance shows the tokens", async () => {
  await signIn();
  const { data } = await recipes.http.post("/things", { a: 1 });
  assert.deepEqual(data, { things: [1] });
  const { headers } = asked.at(-1);
  assert.deepEqual([headers.get("authorization"), headers.get("x-csrftoken")], ["Bearer a.b.c", "c".repeat(32)]);
});
