// The other ways in: React's hook, a worker, and a browser that lacks what tabs share.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

import { recipe } from "../recipes.mjs";
import { inTab, NAMES, openDevice, PLACES, ready, sees, settle, startBrowser } from "./harness.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The component of docs/browser.md. */
const REACT_APP = (url) => `
  import { StrictMode } from "react";
  import { createRoot } from "react-dom/client";
  import { createClient } from "countersign-client";

  const client = window.client = createClient({ url: ${JSON.stringify(url)} });
  const SignIn = () => <p>nobody</p>;
  ${recipe("React")}
  createRoot(document.body).render(<StrictMode><Greeting /></StrictMode>);
`;

const WORKER = (url) => `
  import { createClient } from "/client.js";
  const client = createClient({ url: ${JSON.stringify(url)} });
  onmessage = async () => postMessage((await client.user())?.username ?? null);
`;

const page = (script) =>
  `<!doctype html><title>App</title><link rel="icon" href="data:,"><body><script type="module" src="${script}"></script>`;

async function bundle(source) {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: root, loader: "jsx" },
    jsx: "automatic",
    bundle: true,
    format: "esm",
    minify: true,
    define: { "process.env.NODE_ENV": '"production"' },
    write: false,
  });
  return outputFiles[0].text;
}

describe("other ways in", { concurrency: NAMES.length }, () => {
  for (const browserName of NAMES) {
    // One thing at a time in a browser; both browsers at once.
    describe(browserName, { concurrency: 1 }, () => {
      let browser, world, device;

      before(async () => {
        world = await settle(PLACES["the same site, another port"], { name: `client-ways-${browserName}` });
        const { url } = world.road;
        Object.assign(world.app.answers, {
          "/react": page("/react.js"),
          "/react.js": await bundle(REACT_APP(url)),
          "/worker.js": WORKER(url),
        });
        browser = await startBrowser(browserName);
        device = await openDevice(browser, world);
      });

      after(async () => {
        await browser?.close();
        await world?.close();
      });

      const shows = (tab, text) => sees(tab, (text) => document.body.innerText.trim() === text, text);
      const signIn = (tab) => inTab(tab, async (user) => (await client.login(user)).username, world.service.users.ana);

      test("a React component shows who is signed in, in every tab, by one refresh", async () => {
        const [tab, other] = [await device.openTab("/react"), await device.openTab("/react")];
        await shows(tab, "nobody");
        await shows(other, "nobody");
        assert.equal(await signIn(tab), "ana");
        await shows(tab, "Hello ana");
        await shows(other, "Hello ana");
        world.road.passed.length = 0;
        await tab.reload();
        await shows(tab, "Hello ana");
        assert.equal(world.road.count("/users/refresh_token"), 1);
        await inTab(other, () => client.logout());
        await shows(other, "nobody");
        await shows(tab, "nobody");
        await Promise.all([tab.close(), other.close()]);
      });

      test("a worker is signed in as its page is", async () => {
        const tab = await device.openTab();
        assert.equal(await signIn(tab), "ana");
        await tab.reload();
        await ready(tab);
        const [inPage, inWorker] = await inTab(tab, async () => {
          const worker = new Worker("/worker.js", { type: "module" });
          const asking = new Promise((resolve) => (worker.onmessage = ({ data }) => resolve(data)));
          worker.postMessage("who?");
          return [(await client.user())?.username, await asking];
        });
        assert.deepEqual([inPage, inWorker], ["ana", "ana"]);
        await tab.close();
      });

      test("where tabs cannot wait for each other, the service has them all go on", async () => {
        const open = async () => {
          const tab = await device.context.newPage();
          await tab.evaluateOnNewDocument(() => {
            delete globalThis.BroadcastChannel;
            Object.defineProperty(Navigator.prototype, "locks", { value: undefined });
          });
          await tab.goto(world.app.origin);
          await ready(tab);
          return tab;
        };
        const tabs = [await open(), await open(), await open()];
        assert.equal(await signIn(tabs[0]), "ana");
        for (let round = 0; round < 3; round += 1) {
          await Promise.all(tabs.map((tab) => tab.reload()));
          await Promise.all(tabs.map(ready));
          const names = await Promise.all(tabs.map((tab) => inTab(tab, async () => (await client.user()).username)));
          assert.deepEqual(names, ["ana", "ana", "ana"]);
        }
      });
    });
  }
});
