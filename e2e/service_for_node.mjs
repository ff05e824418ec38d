// The real service, for tests that run in Node; a Python program attends to it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ATTENDANT = fileURLToPath(new URL("service_for_node.py", import.meta.url));

/** The service on free ports, with users ana and bob. `stop()` fails if its log has told a secret. */
export async function startService(name, { origins = [], settings = {} } = {}) {
  const attendant = spawn("python3", [ATTENDANT, name, JSON.stringify({ origins, settings })], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const tell = (something) => attendant.stdin.write(`${JSON.stringify(something)}\n`);
  const lines = createInterface(attendant.stdout);
  const ended = once(attendant, "exit");
  const [ready] = await Promise.race([
    once(lines, "line"),
    ended.then(() => Promise.reject(new Error("the service did not start"))),
  ]);
  const { url, passwords } = JSON.parse(ready);
  const readings = new Set();
  return {
    url,
    users: Object.fromEntries(
      Object.entries(passwords).map(([username, password]) => [username, { username, password }]),
    ),
    mustNotLog: tell,
    /** Runs a command of the program beside the service, one at a time; what it printed. */
    async run(...command) {
      const printed = once(lines, "line");
      tell(command);
      const [line] = await Promise.race([
        printed,
        ended.then(() => Promise.reject(new Error(`countersign ${command.join(" ")} failed`))),
      ]);
      return JSON.parse(line);
    },
    /** A reading of an answer that may still find secrets: the log is not searched before it is done. */
    awaits(reading) {
      readings.add(reading);
      reading.finally(() => readings.delete(reading));
    },
    async stop() {
      await Promise.all(readings);
      attendant.stdin.end();
      const [status] = await ended;
      if (status !== 0) throw new Error(`${name}: see above, and e2e/.work/logs/${name}.log`);
    },
  };
}
