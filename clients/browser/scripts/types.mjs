// Writes src/api.ts from the description of the API. A test keeps it so.
//
// `npm run types` reads the snapshot that the service's tests keep of it; `countersign openapi | npm run types -- -`
// asks a program.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

const SNAPSHOT = new URL(
  "../../../crates/countersign/tests/http/snapshots/http__discovery__the_description_of_the_api.snap",
  import.meta.url,
);
export const TARGET = new URL("../src/api.ts", import.meta.url);

/** The description as the service's own tests know it. */
export function described() {
  const snapshot = readFileSync(SNAPSHOT, "utf8");
  // Before it stands what insta notes.
  return JSON.parse(snapshot.slice(snapshot.indexOf("\n{")));
}

const named = (reference) => reference.split("/").at(-1);

/** A schema as a type. */
function type(schema) {
  if (schema.$ref) return named(schema.$ref);
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
  if (schema.oneOf ?? schema.anyOf) return (schema.oneOf ?? schema.anyOf).map(type).join(" | ");
  if (schema.allOf) return schema.allOf.map(type).join(" & ");
  if (Array.isArray(schema.type)) return schema.type.map((each) => type({ ...schema, type: each })).join(" | ");
  switch (schema.type) {
    case "object":
      return members(schema);
    case "array":
      return `Array<${type(schema.items)}>`;
    case "integer":
    case "number":
      return "number";
    case "string":
    case "boolean":
    case "null":
      return schema.type;
    default:
      throw new Error(`no type for ${JSON.stringify(schema)}`);
  }
}

function members({ properties = {}, required = [], additionalProperties }) {
  if (additionalProperties) return `Record<string, ${type(additionalProperties)}>`;
  const lines = Object.entries(properties).map(([name, schema]) => {
    const isNeeded = required.includes(name);
    return `${comment(schema.description, "  ")}  ${JSON.stringify(name)}${isNeeded ? "" : "?"}: ${type(schema)};\n`;
  });
  return `{\n${lines.join("").replace(/"([a-z_]+)"(\??:)/g, "$1$2")}}`;
}

function comment(text, indent = "") {
  if (!text) return "";
  const lines = text.replaceAll("*/", "*\\/").split("\n");
  if (lines.length === 1) return `${indent}/** ${lines[0]} */\n`;
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}\n`).join("")}${indent} */\n`;
}

/** The codes of refusals, which the description lists in a table. */
function codes({ info }) {
  const found = [...info.description.matchAll(/^\| \d{3} \| .*?`([a-z_]+)`/gm)].map(([, code]) => code);
  if (found.length < 10) throw new Error("the description lists no codes");
  return [...new Set(found)];
}

/** The module that says what the API says and is sent. */
export function write(openapi) {
  const schemas = Object.entries(openapi.components.schemas).map(
    ([name, schema]) => `${comment(schema.description)}export type ${name} = ${type(schema)};\n`,
  );
  const all = codes(openapi).map((code) => `\n  | ${JSON.stringify(code)}`);
  return [
    "// Generated from the description of the API by `npm run types`; a test keeps it so.\n",
    `/** The service's words for what went wrong. */\nexport type ErrorCode =${all.join("")};\n`,
    '/** Which sessions to end. */\nexport type LogoutScope = NonNullable<LogoutBody["scope"]>;\n',
    ...schemas,
  ].join("\n");
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  writeFileSync(TARGET, write(process.argv[2] === "-" ? JSON.parse(readFileSync(0, "utf8")) : described()));
  console.log(`wrote ${fileURLToPath(TARGET)}`);
}
