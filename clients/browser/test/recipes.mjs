// The recipes of docs/browser.md, word for word, and what a reader is expected to have around them.

import { readFileSync } from "node:fs";

const TEXT = readFileSync(new URL("../../../docs/browser.md", import.meta.url), "utf8");

/** The first code below a heading; without one the first of all. */
export function recipe(heading) {
  const below = heading ? TEXT.split(`\n## ${heading}\n`)[1] : TEXT;
  const [, code] = below?.match(/^```\w+\n(.*?)^```$/ms) ?? [];
  if (!code) throw new Error(`docs/browser.md has no code below "${heading}"`);
  return code;
}

/** Where a recipe says `client`, its reader has exported one. */
const CLIENT = `import { client } from "./client.js";\n`;

/** By file: each recipe as part of an app. */
export const APP = {
  "start.ts": `declare const password: string, body: string;\n${recipe()}`,
  "client.ts": `
    import { createClient } from "countersign-client";
    declare global { var answer: typeof fetch; }
    export const client = createClient({
      url: "https://auth.example.org",
      apis: ["https://api.example.org"],
      fetch: (input, init) => globalThis.answer(input, init),
      share: false,
    });`,
  "errors.ts": `${CLIENT}declare function warn(words: string): void;\n${recipe("Errors")}`,
  "react.tsx": `${CLIENT}const SignIn = () => <p>nobody</p>;\n${recipe("React")}\nexport { Greeting };`,
  "axios.ts": `${CLIENT}import axios from "axios";\n${recipe("axios")}\nexport { http };`,
  "angular.ts": `${CLIENT}${recipe("Angular")}`,
  // It is JavaScript, and says nothing of types.
  "vue.js": recipe("Vue"),
  "node.ts": `${recipe("Node, and other programs")}\nexport { client };`,
};
