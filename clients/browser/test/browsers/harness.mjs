// Real browsers, the real service behind a road that can be bad, and pages on origins of their own.

import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
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

/**
 * Names that lead to this machine here. Their last parts are on the public suffix list: of others WebKitGTK does
 * not know which make one site.
 */
const HOSTS = [
  "app.example.com",
  "auth.example.com",
  "api.example.com",
  "app.example.net",
  "evil.example.com",
  "evil.example.org",
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

/** The third engine, where it is installed. */
export const NAMES_AND_WEBKIT = hasWebKit() ? [...NAMES, "WebKitGTK"] : NAMES;

/** A directory that goes when the tests are done. */
function temporaryDirectory(purpose) {
  mkdirSync(WORK, { recursive: true });
  const directory = mkdtempSync(`${WORK}${purpose}-`);
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function run(directory, command, ...args) {
  const { status, stderr, error } = spawnSync(command, args, { cwd: directory, encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args[0]}: ${error?.message ?? stderr}`);
}

/**
 * A browser without a window. With `tls` it believes that authority beside those that it knows, as browsers do
 * whose administrator has added one, and nobody whom it would not believe otherwise.
 */
export function startBrowser(name, tls) {
  if (name === "WebKitGTK") return startWebKit(tls && { authority: tls.authority, hosts: HOSTS });
  const { env, ...believing } = tls ? believe(name, tls.authority) : {};
  return puppeteer.launch({
    headless: true,
    env: { ...process.env, MOZ_HEADLESS: "1", ...env },
    ...BROWSERS[name],
    ...believing,
  });
}

/** What has a browser believe an authority: Chromium reads its user's certificates, Firefox its profile's. */
function believe(name, authority) {
  const home = temporaryDirectory(name);
  const store = name === "Chromium" ? `${home}/.pki/nssdb` : home;
  mkdirSync(store, { recursive: true });
  run(home, "certutil", "-N", "-d", `sql:${store}`, "--empty-password");
  run(home, "certutil", "-A", "-d", `sql:${store}`, "-n", "Countersign test CA", "-t", "C,,", "-i", authority);
  return name === "Chromium" ? { env: { HOME: home } } : { userDataDir: home };
}

/**
 * A certificate for all names of these tests, and the `authority` that has signed it, in a file. The `impostor`
 * has one for the same names, of an authority that nobody believes.
 */
export function certificate() {
  const directory = temporaryDirectory("tls");
  const signed = (by) => {
    const make = (called, subject, ...more) => {
      const files = ["-keyout", `${called}.key`, "-out", `${called}.pem`];
      const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
      run(directory, "openssl", "req", "-x509", ...key, ...files, "-subj", `/CN=${subject}`, "-days", "2", ...more);
    };
    const authority = `${by}-ca`;
    make(authority, `Countersign test CA: ${by}`);
    make(
      by,
      "example.com",
      ...["-CA", `${authority}.pem`, "-CAkey", `${authority}.key`],
      ...["-addext", `subjectAltName=${HOSTS.map((host) => `DNS:${host}`).join(",")}`],
      ...["-addext", "basicConstraints=critical,CA:FALSE"],
    );
    return {
      key: readFileSync(`${directory}/${by}.key`),
      cert: readFileSync(`${directory}/${by}.pem`),
      authority: `${directory}/${authority}.pem`,
    };
  };
  return { ...signed("host"), impostor: signed("impostor") };
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
  "another host of the same site, over TLS": { page: "app.example.com", service: "auth.example.com", isSecure: true },
  "another site, over TLS": {
    page: "app.example.net",
    service: "auth.example.com",
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
export async function openDevice(browser, { app }) {
  const context = await browser.createBrowserContext();
  /** A page of the app's; its clocks can be set, with `clocks` in the page. */
  const address = (clockIsOffBy = 0, path = "/") => `${app.origin}${path}?clock=${clockIsOffBy}`;
  return {
    context,
    address,
    async openTab(path = "/", clockIsOffBy = 0) {
      const tab = await context.newPage();
      tab.setDefaultTimeout(15_000);
      await tab.goto(address(clockIsOffBy, path));
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
