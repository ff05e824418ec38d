// Builds dist/: a small module for each way in, and its types.

import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const ENTRIES = ["index", "account", "axios", "node", "react"];

rmSync(`${root}dist`, { recursive: true, force: true });

const checked = spawnSync(process.execPath, [`${root}node_modules/typescript/bin/tsc`, "--project", root], {
  stdio: "inherit",
});
if (checked.status !== 0) process.exit(1);

const { outputFiles } = await build({
  absWorkingDir: root,
  entryPoints: ENTRIES.map((name) => `src/${name}.ts`),
  outdir: "dist",
  bundle: true,
  external: ["react", "axios"],
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  write: false,
});

for (const { path, contents } of outputFiles) {
  writeFileSync(path, contents);
  console.log(
    `${path.slice(root.length)}: ${contents.length} bytes, ${gzipSync(contents, { level: 9 }).length} gzipped`,
  );
}
