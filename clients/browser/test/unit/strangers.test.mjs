// Who is shown the token and the CSRF token: the service, the listed APIs, and nobody else.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";

import { createClient } from "../../dist/index.js";
import { API, SERVICE, worldWithAna } from "./world.mjs";

/** What a request to `address` shows, by whatever way it leaves. */
async function shownTo(address, init) {
  let shown;
  const { page } = await worldWithAna({
    fetch: (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/users/login") {
        return Response.json({ access_token: "a.b.c", csrf_token: "c".repeat(32), expires_in: 300, user: { id: 1 } });
      }
      shown = Object.fromEntries(["Authorization", "X-CSRFToken"].map((name) => [name, request.headers.get(name)]));
      return new Response("there");
    },
  });
  await page.fetch(address, init).catch(() => {});
  return shown ?? { Authorization: null, "X-CSRFToken": null };
}

const NOTHING = { Authorization: null, "X-CSRFToken": null };
const UNSAFE = { method: "POST", body: "x" };

for (const address of [
  `${SERVICE}/users/user`,
  `${API}/things?x=https://evil.example`,
  new URL(`${API}/things`),
  "HTTPS://API.EXAMPLE.ORG:443/things",
  "https://api.example.org\\things",
  " https://api.example.org/things",
]) {
  test(`ours is shown both: ${address}`, async () => {
    const csrf = "c".repeat(32);
    assert.deepEqual(await shownTo(address, UNSAFE), { Authorization: "Bearer a.b.c", "X-CSRFToken": csrf });
    assert.deepEqual(await shownTo(address), { Authorization: "Bearer a.b.c", "X-CSRFToken": null });
  });
}

for (const address of [
  "https://evil.example/",
  "http://api.example.org/things",
  "https://api.example.org:8443/things",
  "https://api.example.org.evil.example/",
  "https://evil.example/https://api.example.org",
  "https://evil.example#@api.example.org/",
  "https://evil.example?@api.example.org/",
  "https://evil.example\\@api.example.org/",
  "https://api.example.org@evil.example/",
  "https://api.example.org:443@evil.example/",
  "https://user:word@api.example.org/",
  "https://xapi.example.org/",
  "https://example.org/",
  "https://sub.api.example.org/",
  "https://api.example.org./",
  "https://api.example.оrg/",
  "data:text/plain,https://api.example.org",
  "blob:null/1",
  "about:blank",
  "javascript:alert(1)",
  "file:///etc/passwd",
  { toString: () => "https://evil.example/" },
]) {
  test(`a stranger is shown nothing: ${address}`, async () => {
    assert.deepEqual(await shownTo(address, UNSAFE), NOTHING);
    // Of those with a name and a word before the host there can be no Request.
    if (typeof address === "string" && URL.canParse(address) && !new URL(address).username) {
      assert.deepEqual(await shownTo(new Request(address, UNSAFE)), NOTHING);
      assert.deepEqual(await shownTo(new URL(address)), NOTHING);
    }
  });
}

test("an address that changes between two readings is read once", async () => {
  let readings = 0;
  const address = { toString: () => (readings++ === 0 ? `${API}/things` : "https://evil.example/") };
  assert.equal((await shownTo(address)).Authorization, "Bearer a.b.c");
  assert.equal(readings, 1);
});

test("whoever shows a token of their own keeps it", async () => {
  const own = { headers: { Authorization: "Basic b3du" }, ...UNSAFE };
  assert.deepEqual(await shownTo(`${API}/things`, own), { Authorization: "Basic b3du", "X-CSRFToken": null });
});

test("an origin that all sorts of addresses share is not taken", () => {
  for (const options of [{ url: "file:///srv" }, { url: SERVICE, apis: ["data:text/plain,x"] }]) {
    assert.throws(() => createClient(options), TypeError);
  }
});

describe("where an API redirects", () => {
  let api, stranger, page;
  const seen = [];

  const serve = async (answer) => {
    const server = createServer((request, response) => {
      answer(request, response);
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    return Object.assign(server, { origin: `http://127.0.0.1:${server.address().port}` });
  };

  before(async () => {
    stranger = await serve((request, response) => {
      seen.push(request.headers);
      response.end("mine now");
    });
    api = await serve((request, response) => {
      const [, status, where] = request.url.split("/");
      response
        .writeHead(Number(status), { Location: where === "stranger" ? `${stranger.origin}/` : "/200/there" })
        .end();
    });
    page = createClient({
      url: SERVICE,
      apis: [api.origin],
      fetch: async (...request) => {
        const sent = new Request(...request);
        if (!sent.url.startsWith(SERVICE)) return fetch(sent);
        return Response.json({ access_token: "a.b.c", csrf_token: "c".repeat(32), expires_in: 300, user: { id: 1 } });
      },
    });
    await page.login({ username: "ana", password: "right" });
  });

  after(() => {
    api.close();
    stranger.close();
  });

  for (const status of [301, 302, 303, 307, 308]) {
    test(`${status}: neither header goes along, and the caller is told`, async () => {
      for (const where of ["stranger", "here"]) {
        for (const init of [undefined, UNSAFE, { redirect: "follow" }]) {
          await assert.rejects(page.fetch(`${api.origin}/${status}/${where}`, init), { code: "redirected" });
        }
      }
      assert.deepEqual(seen, []);
    });
  }

  test("who asked not to follow gets what the platform gives", async () => {
    assert.equal((await page.fetch(`${api.origin}/302/stranger`, { redirect: "manual" })).status, 302);
    await assert.rejects(page.fetch(`${api.origin}/302/stranger`, { redirect: "error" }), TypeError);
    assert.deepEqual(seen, []);
  });

  test("a stranger that redirects to an API is followed, with nothing shown", async () => {
    assert.equal((await page.fetch(`${stranger.origin}/`)).status, 200);
    const [headers] = seen.splice(0);
    assert.deepEqual([headers.authorization, headers["x-csrftoken"]], [undefined, undefined]);
  });
});
