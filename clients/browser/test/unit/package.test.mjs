// What the package is: small, current, and without dependencies.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { described, TARGET, write } from "../../scripts/types.mjs";

const read = (path) => readFile(new URL(`../../${path}`, import.meta.url), "utf8");

test("the core is under 3 KiB, minified and gzipped", async (t) => {
  const size = gzipSync(await read("dist/index.js"), { level: 9 }).length;
  t.diagnostic(`${size} bytes`);
  assert.ok(size < 3 * 1024, `${size} bytes`);
});

test("it imports nothing, and has no dependencies", async () => {
  for (const name of ["index", "account", "node"]) {
    assert.doesNotMatch(await read(`dist/${name}.js`), /\bimport\b|\brequire\b/, name);
  }
  assert.equal(JSON.parse(await read("package.json")).dependencies, undefined);
});

test("its types are those of the API", async () => {
  const stale = "src/api.ts is not what the API is: run `npm run types` and review what changed";
  assert.equal(await readFile(TARGET, "utf8"), write(described()), stale);
});

test("the lock file names no registry", async () => {
  assert.doesNotMatch(await read("package-lock.json"), /"resolved"/);
});
