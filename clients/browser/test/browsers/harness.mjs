// Real browsers, the real service behind a road that can be bad, and pages on origins of their own.

import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import puppeteer from "puppeteer-core";

import { startService } from "../../../../e2e/service_for_node.mjs";
import { buildRoad, noteSecrets } from "../road.mjs";
import { hasWebKit, startWebKit } from "./webkit.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const WORK = here("../../../../e2e/.work/");
const CLIENT = here("../../dist/index.js");

/** Names that exist in these tests only, and lead to this machine. */
const HOSTS = [
  "app.example.test",
  "auth.example.test",
  "api.example.test",
  "app.elsewhere.test",
  "evil.example.test",
  "evil.test",
];

const which = (command) => spawnSync("sh", ["-c", `command -v ${command}`], { encoding: "utf8" }).stdout.trim();

const BROWSERS = {
  Chromium: {
    browser: "chrome",
    executablePath: process.env.CHROMIUM ?? (which("chromium") || "/usr/bin/chromium"),
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      `--host-resolver-rules=${HOSTS.map((host) => `MAP ${host} 127.0.0.1`).join(", ")}`,
    ],
  },
  Firefox: {
    browser: "firefox",
    executablePath: process.env.FIREFOX ?? (which("firefox-esr") || which("firefox")),
    extraPrefsFirefox: {
      "network.dns.localDomains": HOSTS.join(","),
      // Nothing that the tests did not ask for leaves the machine.
      "app.update.enabled": false,
      "browser.safebrowsing.downloads.remote.enabled": false,
      "browser.safebrowsing.malware.enabled": false,
      "browser.safebrowsing.phishing.enabled": false,
      "browser.safebrowsing.update.enabled": false,
      "captivedetect.canonicalURL": "",
      "datareporting.policy.dataSubmissionEnabled": false,
      "extensions.blocklist.enabled": false,
      "network.captive-portal-service.enabled": false,
      "network.connectivity-service.enabled": false,
      "network.trr.mode": 5,
      "services.settings.server": "data:,",
      "toolkit.telemetry.enabled": false,
    },
  },
};

export const NAMES = Object.keys(BROWSERS);

/** The third engine, where it is installed. It knows `localhost` and no other host of ours. */
export const NAMES_AT_HOME = hasWebKit() ? [...NAMES, "WebKitGTK"] : NAMES;

/** A browser without a window. Certificates that only this test knows are as good as any to it. */
export const startBrowser = (name) =>
  name === "WebKitGTK"
    ? startWebKit()
    : puppeteer.launch({
        headless: true,
        acceptInsecureCerts: true,
        env: { ...process.env, MOZ_HEADLESS: "1" },
        ...BROWSERS[name],
      });

/** A certificate of a CA of its own for all names of these tests. */
export function certificate() {
  const directory = `${WORK}tls/`;
  mkdirSync(directory, { recursive: true });
  const openssl = (...args) => {
    const { status, stderr } = spawnSync("openssl", args, { cwd: directory, encoding: "utf8" });
    if (status !== 0) throw new Error(`openssl ${args[0]}: ${stderr}`);
  };
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl(
    "req",
    "-x509",
    ...newKey,
    "-keyout",
    "ca.key",
    "-out",
    "ca.pem",
    "-subj",
    "/CN=Countersign test CA",
    "-days",
    "2",
  );
  openssl(
    ...[
      "req",
      "-x509",
      ...newKey,
      "-keyout",
      "host.key",
      "-out",
      "host.pem",
      "-subj",
      "/CN=example.test",
      "-days",
      "2",
    ],
    ...[
      "-CA",
      "ca.pem",
      "-CAkey",
      "ca.key",
      "-addext",
      `subjectAltName=${HOSTS.map((host) => `DNS:${host}`).join(",")}`,
    ],
    ...["-addext", "basicConstraints=critical,CA:FALSE"],
  );
  return { key: readFileSync(`${directory}host.key`), cert: readFileSync(`${directory}host.pem`) };
}

/** Answers on an origin of its own: `answers` maps paths to bodies, or to functions of request and response. */
export async function serve(answers, { host = "localhost", tls } = {}) {
  const seen = [];
  const server = (tls ? createSecureServer : createServer)(tls ?? {}, async (request, response) => {
    const { pathname } = new URL(request.url, "http://page");
    seen.push({ method: request.method, path: pathname, headers: request.headers, body: `${await buffer(request)}` });
    const answer = answers[pathname];
    if (typeof answer === "function") return answer(request, response);
    const type = pathname.endsWith(".js") ? "text/javascript" : "text/html";
    return response
      .writeHead(answer === undefined ? 404 : 200, { "Content-Type": `${type}; charset=utf-8` })
      .end(answer);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    origin: `${tls ? "https" : "http"}://${host}:${server.address().port}`,
    answers,
    seen,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Lets a page of any origin read and ask what it likes, as strangers do who want to be asked. */
export function allowAll(request, response) {
  response.setHeader("Access-Control-Allow-Origin", request.headers.origin ?? "*");
  response.setHeader("Access-Control-Allow-Credentials", "true");
  response.setHeader("Access-Control-Allow-Headers", "authorization, x-csrftoken, content-type");
  response.setHeader("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE");
}

/** The places in which page and service stand to each other. */
export const PLACES = {
  "the same site, another port": { page: "localhost", service: "localhost" },
  "another host of the same site, over TLS": { page: "app.example.test", service: "auth.example.test", isSecure: true },
  "another site, over TLS": {
    page: "app.elsewhere.test",
    service: "auth.example.test",
    isSecure: true,
    isCrossSite: true,
  },
};

/** A page, the service where `place` says, and a road between them. */
export async function settle(place, { name, tls, settings, apis = [] } = {}) {
  const secure = place.isSecure ? tls : undefined;
  const app = await serve({ "/favicon.ico": "" }, { host: place.page, tls: secure });
  const road = await buildRoad({ host: place.service, tls: secure });
  const service = await startService(name, {
    origins: [app.origin],
    settings: {
      COUNTERSIGN_SERVER__PUBLIC_URL: road.url,
      ...(secure && { COUNTERSIGN_SERVER__TRUSTED_PROXIES: "127.0.0.1" }),
      ...(place.isCrossSite && { COUNTERSIGN_COOKIES__CROSS_SITE: "true" }),
      ...settings,
    },
  }).catch((error) => {
    app.close();
    road.close();
    throw error;
  });
  road.leadTo(service.url.replace("localhost", "127.0.0.1"));
  noteSecrets(road, service);
  const client = readFileSync(CLIENT, "utf8");
  Object.assign(app.answers, {
    "/client.js": client,
    "/app.js": `
      import { createClient } from "/client.js";
      window.told = [];
      window.client = createClient({ url: ${JSON.stringify(road.url)}, apis: ${JSON.stringify(apis)} });
      client.onChange((user, why) => told.push([user && user.username, why && (why.endReason ?? why.code)]));
    `,
    "/clocks.js": `
      const [wall, elapsed] = [Date.now.bind(Date), performance.now.bind(performance)];
      window.clocks = { wall: Number(new URLSearchParams(location.search).get("clock")), elapsed: 0 };
      Date.now = () => wall() + clocks.wall;
      performance.now = () => elapsed() + clocks.elapsed;
    `,
    "/": '<!doctype html><title>App</title><link rel="icon" href="data:,"><script src="/clocks.js"></script><script type="module" src="/app.js"></script>',
  });
  return {
    app,
    road,
    service,
    async close() {
      app.close();
      await service.stop();
      road.close();
    },
  };
}

/** A browser profile on somebody's device, of which nothing is kept. */
export async function openDevice(browser, { app }, { clockIsOffBy = 0 } = {}) {
  const context = await browser.createBrowserContext();
  return {
    context,
    /** A new tab of the app; its clocks can be set, with `clocks` in the page. */
    async openTab(path = "/") {
      const tab = await context.newPage();
      tab.setDefaultTimeout(15_000);
      await tab.goto(`${app.origin}${path}?clock=${clockIsOffBy}`);
      if (path === "/") await ready(tab);
      return tab;
    },
    close: () => context.close(),
  };
}

/** Waits for something to be so in a tab, which may be behind others: there no frames are drawn, and time is slow. */
export const sees = (tab, look, ...args) => tab.waitForFunction(look, { polling: 50 }, ...args);

export const ready = (tab) => sees(tab, () => window.client);

export async function reload(tab) {
  await tab.reload();
  await ready(tab);
}

/** Awaits `work` in a tab; what it gives, or the code of why not. */
export const inTab = (tab, work, ...args) =>
  tab.evaluate(
    async (source, args) => {
      try {
        return await (0, eval)(`(${source})`)(...args);
      } catch (error) {
        return { error: error.code ?? String(error) };
      }
    },
    work.toString(),
    args,
  );

/** What `look` finds, as soon as it finds something. */
export async function soon(look, { atMost = 10_000 } = {}) {
  for (let waited = 0; waited < atMost; waited += 50) {
    const found = await look();
    if (found) return found;
    await sleep(50);
  }
  throw new Error(`nothing within ${atMost} ms: ${look}`);
}
