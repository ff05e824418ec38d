// WebKitGTK, by its own driver (W3C WebDriver), with as much of puppeteer's manners as the tests use.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const LIBRARIES = "/usr/lib/x86_64-linux-gnu/";

/** Debian's small browser, which only exists beside the library. */
function miniBrowser() {
  const releases = existsSync(LIBRARIES)
    ? readdirSync(LIBRARIES).filter((name) => name.startsWith("webkit2gtk-4"))
    : [];
  return releases.map((name) => `${LIBRARIES}${name}/MiniBrowser`).find(existsSync);
}

const isThere = (command) => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;

export const hasWebKit = () => isThere("WebKitWebDriver") && isThere("Xvfb") && miniBrowser() !== undefined;

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

/**
 * How to run the driver where `hosts` lead to this machine and `authority` (PEM) is whom it believes. Neither
 * can be told to it: it reads what the system has, so it sees a system of its own, in which these two files are
 * others.
 */
function inWorldOf({ authority, hosts }, command) {
  const directory = mkdtempSync(join(tmpdir(), "countersign-webkit-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const names = join(directory, "hosts");
  writeFileSync(names, `127.0.0.1 localhost ${hosts.join(" ")}\n::1 localhost\n`);
  const isRoot = process.getuid() === 0;
  const mounts = [
    `mount --bind "${authority}" /etc/ssl/certs/ca-certificates.crt`,
    `mount --bind "${names}" /etc/hosts`,
  ];
  return ["unshare", isRoot ? "--mount" : "-rm", "sh", "-c", `${mounts.join(" && ")} && exec ${command.join(" ")}`];
}

export async function startWebKit(world) {
  // It draws, so it wants a screen, if only one that nobody sees; the server says which one it took.
  const screen = spawn("Xvfb", ["-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [display] = await once(screen.stdout, "data");
  const port = await freePort();
  const plain = ["WebKitWebDriver", `--port=${port}`];
  const [program, ...args] = world ? inWorldOf(world, plain) : plain;
  const driver = spawn(program, args, {
    env: {
      ...process.env,
      DISPLAY: `:${`${display}`.trim()}`,
      LIBGL_ALWAYS_SOFTWARE: "1",
      GIO_USE_PROXY_RESOLVER: "dummy",
    },
    stdio: "ignore",
  });

  async function command(method, path, body) {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: body && JSON.stringify(body) });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${value.error}: ${value.message}`);
    return value;
  }

  for (let tries = 0; ; tries += 1) {
    const isReady = await command("GET", "/status")
      .then(({ ready }) => ready)
      .catch(() => false);
    if (isReady) break;
    if (tries > 100) throw new Error("WebKitWebDriver does not get ready");
    await sleep(100);
  }

  return {
    /** A session of the driver's, with a jar of its own; there can be one at a time. */
    async createBrowserContext() {
      const options = { binary: miniBrowser(), args: ["--automation"] };
      const capabilities = { alwaysMatch: { "webkitgtk:browserOptions": options } };
      const { sessionId } = await command("POST", "/session", { capabilities });
      const session = `/session/${sessionId}`;
      let first = await command("GET", `${session}/window`);
      // The driver looks at one tab at a time: whoever wants something of one waits for the one before.
      let queue = Promise.resolve();
      const inWindow = (handle, work) =>
        (queue = queue
          .catch(() => {})
          .then(async () => {
            await command("POST", `${session}/window`, { handle });
            return work();
          }));

      return {
        async newPage() {
          const handle =
            first ??
            (
              await inWindow(await command("GET", `${session}/window`), () =>
                command("POST", `${session}/window/new`, { type: "tab" }),
              )
            ).handle;
          first = undefined;
          const run = (script, ...args) =>
            inWindow(handle, () => command("POST", `${session}/execute/sync`, { script, args }));
          const tab = {
            setDefaultTimeout() {},
            goto: (url) => inWindow(handle, () => command("POST", `${session}/url`, { url })),
            reload: () => inWindow(handle, () => command("POST", `${session}/refresh`, {})),
            close: () => inWindow(handle, () => command("DELETE", `${session}/window`)),
            /** Begins in the page, and looks in again until it is done: other tabs have their turn meanwhile. */
            async evaluate(work, ...args) {
              const id = `work${Math.random()}`;
              const source = `const [id, args] = arguments;
                Promise.resolve().then(() => (${work})(...args)).then((value) => { window[id] = { value }; }, (error) => { window[id] = { error: String(error) }; });`;
              await run(source, id, args);
              for (;;) {
                const done = await run("return window[arguments[0]] ?? null;", id);
                if (done?.error) throw new Error(done.error);
                if (done) return done.value;
                await sleep(20);
              }
            },
            async waitForFunction(look, _, ...args) {
              const end = Date.now() + 15_000;
              while (!(await tab.evaluate(look, ...args))) {
                if (Date.now() > end) throw new Error(`not so within 15 s: ${look}`);
                await sleep(50);
              }
            },
          };
          return tab;
        },
        close: () => command("DELETE", session),
      };
    },
    async close() {
      driver.kill();
      await once(driver, "exit");
      screen.kill();
    },
  };
}
