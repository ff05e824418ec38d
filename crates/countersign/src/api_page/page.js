// The API page: reads openapi.json and lets a visitor try every operation by hand.
//
// It runs under `default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'`
// and would run under Trusted Types: all DOM is built with createElement and text nodes.
// Sections: DOM · description · Markdown · session · requests · documentation · trying · session bar · start.

const UNSAFE_METHODS = new Set(["POST", "PUT", "PATCH", "DELETE"]);
const METHODS = ["get", "post", "put", "patch", "delete"];
const SCHEME_LABELS = { accessToken: "access token", refreshCookie: "refresh cookie", csrfToken: "CSRF token", feedToken: "feed token" };
/** Refusals after which the session can never be used again. */
const SESSION_IS_OVER = new Set(["session_ended", "refresh_reused", "refresh_expired"]);

// ---------------------------------------------------------------- DOM

const byId = (id) => document.getElementById(id);

/** Makes an element; attributes named `on…` are event listeners, falsy children are left out. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false && child !== ""));
  return element;
}

function announce(sentence) {
  byId("page-announcer").textContent = "";
  // A pause, or the same sentence twice would be no change and stay unspoken.
  setTimeout(() => { byId("page-announcer").textContent = sentence; }, 50);
}

function methodBadge(method) {
  return h("span", { class: `method method-${method.toLowerCase()}` }, method);
}

/** A row of radio buttons that looks like one switch; `onchoose` receives the chosen value. */
function segmented(legend, name, options, onchoose) {
  return h("fieldset", { class: "segmented" },
    h("legend", { class: "visually-hidden" }, legend),
    Object.entries(options).map(([value, label], index) => h("label", {},
      h("input", { type: "radio", name, value, checked: index === 0, onchange: () => onchoose(value) }),
      h("span", {}, label))));
}

function copyButton(label, textToCopy) {
  const button = h("button", { type: "button", class: "button quiet small", onclick: async () => {
    try {
      await navigator.clipboard.writeText(textToCopy());
      button.textContent = "Copied";
      announce("Copied.");
    } catch {
      // The clipboard exists only in secure contexts: plain http on a LAN address has none.
      button.textContent = "Copying is blocked here";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  } }, label);
  return button;
}

/** JSON as coloured text: one span per token, so nothing is ever parsed as HTML. */
function highlightedJson(text) {
  const tokens = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(tokens)) {
    const kind = match[2] ? "name" : match[1] ? "string" : "literal";
    parts.push(text.slice(end, match.index), h("span", { class: `json-${kind}` }, match[1] ?? match[0]), match[2] ?? "");
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

function codeBlock(label, ...content) {
  // Focusable, since a long block scrolls and must do so from the keyboard too.
  return h("pre", { class: "code", tabindex: "0", role: "group", "aria-label": label }, h("code", {}, content));
}

// ---------------------------------------------------------------- the description (OpenAPI 3.1)

let description = {};

async function loadDescription() {
  const response = await fetch(new URL("openapi.json", document.baseURI), { credentials: "same-origin" });
  if (!response.ok) throw new Error(`openapi.json answered ${response.status}`);
  description = await response.json();
}

/** Follows `$ref`; in 3.1 its siblings stay in force. */
function resolve(node) {
  if (!node?.$ref) return node ?? {};
  const { $ref: reference, ...siblings } = node;
  const keys = reference.slice(2).split("/").map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
  return { ...resolve(keys.reduce((at, key) => at?.[key], description)), ...siblings };
}

/** A schema with references, `allOf`, "or null" and enumerations by `const` folded away. */
function plainSchema(node) {
  let schema = resolve(node);
  for (const part of schema.allOf ?? []) {
    const merged = plainSchema(part);
    schema = { ...merged, ...schema,
      properties: { ...merged.properties, ...schema.properties },
      required: [...(merged.required ?? []), ...(schema.required ?? [])] };
  }
  const alternatives = (schema.oneOf ?? schema.anyOf ?? []).map(resolve).filter((each) => each.type !== "null");
  if (alternatives.length === 1) schema = { ...plainSchema(alternatives[0]), ...schema };
  else if (alternatives.length && alternatives.every((each) => "const" in each || each.enum)) {
    schema = { ...schema, enum: alternatives.flatMap((each) => each.enum ?? [each.const]) };
  }
  const types = [schema.type ?? (schema.properties ? "object" : "string")].flat().filter((type) => type !== "null");
  return { ...schema, type: types[0] };
}

function readOperations() {
  const operations = [];
  for (const [path, item] of Object.entries(description.paths ?? {})) {
    for (const key of METHODS.filter((method) => item[method])) {
      const operation = item[key];
      const alternatives = operation.security ?? description.security ?? [];
      operations.push({
        ...operation,
        path,
        method: key.toUpperCase(),
        id: operation.operationId ?? `${key}${path.replaceAll(/\W+/g, "-")}`,
        tag: operation.tags?.[0] ?? "Other",
        parameters: [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolve),
        body: operation.requestBody ? resolve(operation.requestBody) : null,
        responses: Object.entries(operation.responses ?? {}).map(([status, response]) => ({ status, ...resolve(response) })),
        alternatives,
        schemes: new Set(alternatives.flatMap(Object.keys)),
      });
    }
  }
  return operations;
}

let operations = [];
/** Found by the end of its path, so that another prefix than `/users` works as well. */
const endpoint = (method, end) => operations.find((each) => each.method === method && each.path.endsWith(end));

function operationUrl(path) {
  const server = description.servers?.[0]?.url ?? "";
  const url = new URL(`${server.replace(/\/$/, "")}${path}`, document.baseURI);
  // connect-src 'self' would refuse another origin, such as a public name when opened on loopback.
  return new URL(url.pathname + url.search, location.origin);
}

function groupByTag(list) {
  const groups = new Map((description.tags ?? []).map((tag) => [tag.name, []]));
  for (const operation of list) groups.set(operation.tag, [...(groups.get(operation.tag) ?? []), operation]);
  return [...groups].filter(([, members]) => members.length);
}

/** What the description says a client should do about an error code, or undefined. */
function adviceFor(operation, status, code) {
  const response = operation?.responses.find((each) => each.status === String(status));
  const example = problemExamples(response).find((each) => each.code === code);
  return example?.text || glossary(response?.description)[code] || glossary(description.info?.description)[code];
}

/** What it says a client should do about a session that ended for this reason, or undefined. */
const adviceForEnd = (reason) => (reason ? glossary(description.info?.description)[reason] : undefined);

/** Lines such as "- `csrf_missing`: send the header" and table rows that begin with a code. */
function glossary(markdown = "") {
  const found = {};
  for (const line of markdown.split("\n")) {
    const match = line.match(/^\s*[-*|]\s*(?:\d{3}\s*\|\s*)?`([a-z_]+)`\s*(?:[:|–—-]\s*)(.+?)[\s|]*$/);
    if (match) found[match[1]] = match[2].split(/\s*\|\s*/).at(-1);
  }
  return found;
}

function problemExamples(response) {
  const examples = response?.content?.["application/problem+json"]?.examples ?? {};
  return Object.entries(examples).map(([name, node]) => {
    const example = resolve(node);
    return { code: example.value?.code ?? name, text: [example.summary, example.description].filter(Boolean).join(" ") };
  });
}

// ---------------------------------------------------------------- Markdown, as far as doc comments use it

const LIST_ITEM = /^\s*(?:[-*]|\d+\.) /;

function markdownKind(line, previous) {
  if (line.startsWith("```")) return "fence";
  if (!line.trim()) return "blank";
  if (/^#{1,6} /.test(line)) return "heading";
  if (line.startsWith("|")) return "table";
  return LIST_ITEM.test(line) || (previous === "list" && /^\s/.test(line)) ? "list" : "text";
}

function markdown(source = "") {
  const blocks = [];
  let isFenced = false;
  for (const line of (source ?? "").split(/\r?\n/)) {
    const last = blocks.at(-1);
    const kind = markdownKind(line, last?.kind);
    if (kind === "fence") isFenced = !isFenced;
    if (isFenced && kind !== "fence") last.lines.push(line);
    else if (kind === last?.kind && kind !== "heading" && kind !== "fence") last.lines.push(line);
    else blocks.push({ kind: kind === "fence" && !isFenced ? "blank" : kind, lines: kind === "fence" ? [] : [line] });
  }
  return blocks.filter(({ kind }) => kind !== "blank").map(markdownBlock);
}

function markdownBlock({ kind, lines }) {
  if (kind === "heading") return h("h2", { class: "prose-heading" }, inlineMarkdown(lines[0].replace(/^#+ /, "")));
  if (kind === "fence") return codeBlock("Example", lines.join("\n"));
  if (kind === "table") return markdownTable(lines);
  if (kind === "text") return h("p", {}, inlineMarkdown(lines.join(" ")));
  const items = lines.join("\n").split(/\n(?=\s*(?:[-*]|\d+\.) )/);
  return h(/^\s*\d/.test(lines[0]) ? "ol" : "ul", {}, items.map((item) => h("li", {}, inlineMarkdown(item.replace(LIST_ITEM, "")))));
}

function markdownTable(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => inlineMarkdown(cell.trim()));
  const [head, , ...rows] = lines;
  return h("div", { class: "table-scroll", tabindex: "0", role: "group", "aria-label": "Table" }, h("table", {},
    h("thead", {}, h("tr", {}, cells(head).map((cell) => h("th", { scope: "col" }, cell)))),
    h("tbody", {}, rows.map((row) => h("tr", rowAnchor(row), cells(row).map((cell) => h("td", {}, cell)))))));
}

/** A row about an error code is where a problem's `type` leads: `/docs#error-<code>`. */
function rowAnchor(row) {
  const code = row.match(/^\|\s*(?:\d{3}\s*\|\s*)?`([a-z_]+)`/)?.[1];
  return code ? { id: `error-${code}`, tabindex: "-1" } : {};
}

function inlineMarkdown(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*|\[[^\]]+\]\((?:[^()\s]|\([^()\s]*\))+\))/).map((part) => {
    if (/^`.+`$/.test(part)) return h("code", {}, part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return h("strong", {}, part.slice(2, -2));
    if (/^\*.+\*$/.test(part)) return h("em", {}, part.slice(1, -1));
    const link = part.match(/^\[(.+)\]\((.+)\)$/);
    if (!link) return part;
    // Only addresses that lead to a page: a `javascript:` link stays text.
    return /^(https?:|[#/])/.test(link[2]) ? h("a", { href: link[2], rel: "noreferrer" }, link[1]) : link[1];
  });
}

// ---------------------------------------------------------------- the session, in this page's memory only

const session = {
  state: "checking", // "checking" | "anonymous" | "signed-in"
  accessToken: null,
  expiresAt: 0,
  lifetime: 0,
  csrfToken: null,
  user: null,
  note: "",
};
const sessionListeners = [];

function changeSession(changes) {
  Object.assign(session, changes);
  for (const listener of sessionListeners) listener();
}

/** Decodes what others wrote; what cannot be decoded stays as it is. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function csrfCookie() {
  const pair = document.cookie.split("; ").find((each) => each.startsWith("csrftoken="));
  return pair ? decoded(pair.slice("csrftoken=".length)) : null;
}

const currentCsrfToken = () => session.csrfToken ?? csrfCookie();

/** The parts of a JWT, for viewing: the signature is not checked here. */
function decodeToken(token) {
  try {
    const [header, claims] = token.split(".").slice(0, 2).map((part) => {
      const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
      return JSON.parse(new TextDecoder().decode(bytes));
    });
    return { header, claims };
  } catch {
    return { header: {}, claims: {} };
  }
}

/** Takes from an answer whatever it says about who is signed in. */
function learnFrom(operation, request, answer) {
  const body = answer.json ?? {};
  if (!answer.ok) {
    if (SESSION_IS_OVER.has(body.code)) forgetSession(body.detail ?? "The session has ended.");
    return;
  }
  if (operation.path.endsWith("/logout")) {
    const credentialSent = request.sends.accessToken || request.sends.refreshCookie;
    if (credentialSent && !/"others"/.test(request.body)) forgetSession("");
    return;
  }
  if (operation === endpoint("DELETE", "/sessions/{id}") && session.accessToken) {
    const { sid } = decodeToken(session.accessToken).claims;
    if (request.url.pathname.endsWith(`/${sid}`)) forgetSession("");
    return;
  }
  const changes = {};
  if (typeof body.csrf_token === "string") changes.csrfToken = body.csrf_token;
  if (typeof body.access_token === "string") {
    const { sub } = decodeToken(body.access_token).claims;
    const lifetime = Number(body.expires_in) || 0;
    // Counted from receipt with our own clock: `exp` is the server's clock, which may differ.
    Object.assign(changes, { state: "signed-in", accessToken: body.access_token, lifetime, expiresAt: Date.now() + lifetime * 1000, note: "" });
    if (String(session.user?.id) !== sub) changes.user = null;
  }
  if (body.user) changes.user = body.user;
  if (Object.keys(changes).length) changeSession(changes);
}

function forgetSession(note) {
  changeSession({ state: "anonymous", accessToken: null, csrfToken: null, user: null, note });
}

/** Sends a request on the page's own behalf. */
async function callQuietly(operation, values = {}) {
  const request = buildRequest(operation, {
    values,
    mediaType: operation.body ? "application/json" : null,
    sends: { accessToken: operation.schemes.has("accessToken"), csrfToken: true, refreshCookie: true },
  });
  const answer = await send(request);
  learnFrom(operation, request, answer);
  return answer;
}

/** The CSRF token is asked for first: another tab may have signed in since, with another session. */
async function refreshSession() {
  await callQuietly(endpoint("GET", "/csrf"));
  const answer = await callQuietly(endpoint("POST", "/refresh_token"));
  if (answer.ok) await nameTheVisitor();
  return answer;
}

/** Refresh answers without the user; ask once, and only where the page cannot know. */
async function nameTheVisitor() {
  const operation = endpoint("GET", "/user");
  if (session.accessToken && !session.user && operation) await callQuietly(operation);
}

/** Whoever has been here before is signed in again; a refusal is no news. */
async function signInSilently() {
  const hasBeenHere = csrfCookie() !== null;
  try {
    if (hasBeenHere) await refreshSession();
    else await callQuietly(endpoint("GET", "/csrf"));
  } catch { /* A missing endpoint or network shows as "not signed in". */ }
  if (session.state === "checking" || !session.accessToken) changeSession({ state: "anonymous", note: "" });
}

// ---------------------------------------------------------------- requests

const MULTIPART_BOUNDARY = `----countersign-${[...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;

const formText = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

function serialize(mediaType, values) {
  if (mediaType === "application/x-www-form-urlencoded") {
    return new URLSearchParams(Object.entries(values).map(([name, value]) => [name, formText(value)])).toString();
  }
  if (mediaType === "multipart/form-data") {
    // Written by hand, so that the page can show exactly what it sends.
    const parts = Object.entries(values).map(([name, value]) =>
      `--${MULTIPART_BOUNDARY}\r\nContent-Disposition: form-data; name="${name.replaceAll('"', "%22")}"\r\n\r\n${formText(value)}\r\n`);
    return `${parts.join("")}--${MULTIPART_BOUNDARY}--\r\n`;
  }
  return JSON.stringify(values, null, 2);
}

const contentType = (mediaType) =>
  (mediaType === "multipart/form-data" ? `${mediaType}; boundary=${MULTIPART_BOUNDARY}` : mediaType);

/**
 * Everything a call consists of. `choices`: values of the body, parameters by place, mediaType, rawBody,
 * `sends`, which credentials go along, and `feedToken`, which the page never has by itself. `token` stands in for the access token when the request is for display.
 */
function buildRequest(operation, choices, token = session.accessToken) {
  const { values = {}, parameters = {}, mediaType, rawBody, sends, feedToken } = choices;
  const path = operation.path.replace(/\{([^}]+)\}/g, (whole, name) => encodeURIComponent(parameters.path?.[name] ?? whole));
  const url = operationUrl(path);
  for (const [name, value] of Object.entries(parameters.query ?? {})) url.searchParams.append(name, value);
  const headers = [["Accept", "application/json, application/problem+json"]];
  if (mediaType) headers.push(["Content-Type", contentType(mediaType)]);
  if (sends.accessToken && token) headers.push(["Authorization", `Bearer ${token}`]);
  if (feedToken) headers.push(["Authorization", `Bearer ${feedToken}`]);
  if (sends.csrfToken && UNSAFE_METHODS.has(operation.method) && currentCsrfToken()) headers.push(["X-CSRFToken", currentCsrfToken()]);
  for (const [name, value] of Object.entries(parameters.header ?? {})) headers.push([name, String(value)]);
  return {
    method: operation.method, url, headers, values, mediaType, sends, isRaw: rawBody != null,
    body: mediaType ? rawBody ?? serialize(mediaType, values) : undefined,
  };
}

async function send(request) {
  const started = performance.now();
  const response = await fetch(request.url, {
    method: request.method,
    headers: request.headers,
    body: request.body,
    credentials: request.sends.refreshCookie === false ? "omit" : "same-origin",
    cache: "no-store",
  });
  const text = await response.text();
  const milliseconds = performance.now() - started;
  let json = null;
  if (/[/+]json\b/.test(response.headers.get("content-type") ?? "")) {
    try { json = JSON.parse(text); } catch { /* Shown as the text it is. */ }
  }
  // Redirects have been followed: what is left of 3xx is 304, which refuses nothing.
  return { ok: response.status < 400, status: response.status, statusText: response.statusText, headers: [...response.headers], text, json, milliseconds };
}

const shellQuoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

function curlCommand(operation, request) {
  const isMultipartForm = request.mediaType === "multipart/form-data" && !request.isRaw;
  const parts = [`curl ${request.method === "GET" ? "" : `-X ${request.method} `}${shellQuoted(request.url)}`];
  for (const [name, value] of request.headers) {
    if (name !== "Content-Type" || !isMultipartForm) parts.push(`-H ${shellQuoted(`${name}: ${value}`)}`);
  }
  if (usesCookies(operation) && request.sends.refreshCookie !== false) parts.push("-b cookies.txt -c cookies.txt");
  if (isMultipartForm) {
    for (const [name, value] of Object.entries(request.values)) parts.push(`--form-string ${shellQuoted(`${name}=${formText(value)}`)}`);
  } else if (request.body != null) parts.push(`--data-raw ${shellQuoted(request.body)}`);
  return parts.join(" \\\n  ");
}

const usesCookies = (operation) => operation.schemes.has("refreshCookie") || operation.path.endsWith("/login");

// ---------------------------------------------------------------- documentation of an operation

function operationDocumentation(operation) {
  const bodySchema = operation.body && plainSchema(Object.values(operation.body.content ?? {})[0]?.schema);
  const inputs = [...parameterFields(operation), ...bodyFields(bodySchema)];
  return h("div", { class: "documentation" },
    h("header", {},
      h("h3", { id: `heading-${operation.id}`, tabindex: "-1" }, operation.summary ?? operation.id),
      h("p", { class: "route" }, methodBadge(operation.method), h("code", {}, operation.path), operation.deprecated && h("span", { class: "chip" }, "deprecated"))),
    h("div", { class: "prose" }, markdown(operation.description)),
    credentialsNeeded(operation),
    inputs.length > 0 && h("section", {}, h("h4", {}, "Request"), h("dl", { class: "fields" }, inputs.map((input) => fieldEntry(input)))),
    h("section", {}, h("h4", {}, "Answers"), h("ul", { class: "answers" }, operation.responses.map(responseEntry))));
}

function credentialsNeeded(operation) {
  const chip = (text) => h("span", { class: "chip" }, text);
  const separated = (parts, separator) => parts.flatMap((part, index) => (index ? [separator(), part] : [part]));
  const alternatives = operation.alternatives.map((alternative) => {
    const chips = Object.keys(alternative).map((name) => chip(SCHEME_LABELS[name] ?? name));
    return h("span", { class: "together" }, chips.length ? separated(chips, () => "+") : chip("none"));
  });
  return h("p", { class: "needs" }, h("span", { class: "needs-label" }, "Credentials"),
    alternatives.length ? separated(alternatives, () => h("span", { class: "or" }, "or")) : chip("none"));
}

const parameterFields = (operation) =>
  operation.parameters.map((parameter) => ({ ...parameter, place: parameter.in, schema: plainSchema(parameter.schema) }));

function bodyFields(schema) {
  return Object.entries(schema?.properties ?? {}).map(([name, node]) => {
    const field = plainSchema(node);
    return { name, place: "body", required: Boolean(schema.required?.includes(name)), schema: field, description: field.description };
  });
}

function fieldEntry({ name, place, required, schema, description: text }, depth = 0) {
  const isList = schema.type === "array";
  const inner = depth < 3 ? bodyFields(isList ? plainSchema(schema.items) : schema) : [];
  const facts = [isList ? `array of ${plainSchema(schema.items).type}` : schema.type, schema.format, place !== "body" && `in ${place}`,
    schema.default != null && `default ${JSON.stringify(schema.default)}`].filter(Boolean).join(" · ");
  return h("div", { class: "field-entry" },
    h("dt", {}, h("code", {}, name), h("span", { class: "facts" }, facts), required && h("span", { class: "required" }, "required")),
    h("dd", {}, markdown(text),
      schema.enum && h("p", { class: "values" }, "One of ", schema.enum.flatMap((value, index) => [index ? ", " : "", h("code", {}, JSON.stringify(value))])),
      inner.length > 0 && h("dl", { class: "fields" }, inner.map((each) => fieldEntry(each, depth + 1)))));
}

function responseEntry(response) {
  const [firstLine, ...rest] = (response.description ?? "").split("\n");
  const title = [h("span", { class: `status status-${response.status[0]}` }, response.status), h("span", {}, inlineMarkdown(firstLine))];
  const schema = Object.entries(response.content ?? {}).find(([type]) => type !== "application/problem+json")?.[1]?.schema;
  const fields = schema ? bodyFields(plainSchema(schema)) : [];
  const codes = problemExamples(response);
  const more = [
    ...markdown(rest.join("\n").trim()),
    fields.length > 0 && h("dl", { class: "fields" }, fields.map((field) => fieldEntry({ ...field, required: false }))),
    codes.length > 0 && h("dl", { class: "codes" }, codes.map(({ code, text }) => h("div", {},
      h("dt", {}, h("code", {}, code)), h("dd", {}, inlineMarkdown(text || glossary(description.info?.description)[code] || ""))))),
  ].filter(Boolean);
  if (!more.length) return h("li", {}, h("p", { class: "answer-title" }, title));
  return h("li", {}, h("details", {}, h("summary", { class: "answer-title" }, title), h("div", { class: "answer-more" }, more)));
}

// ---------------------------------------------------------------- trying an operation

const AUTOCOMPLETE = { username: "username", password: "current-password", current_password: "current-password",
  new_password: "new-password", email: "email", first_name: "given-name", last_name: "family-name" };
const INPUT_TYPES = { integer: "number", number: "number", password: "password", email: "email" };
const isSecret = (field) => field.schema.format === "password" || /password/.test(field.name);
const FEED_TOKEN = { name: "feed token", place: "feed", schema: { type: "string", format: "password" } };

/** One form field. `read()` gives the typed value, or undefined when it is not to be sent. */
function formField(operation, field, example, onchange) {
  const { schema, name, required, place } = field;
  const id = `try-${operation.id}-${place}-${name.replaceAll(" ", "-")}`;
  const isChoice = schema.enum || schema.type === "boolean";
  const isJson = !isChoice && (schema.type === "object" || schema.type === "array");
  const choices = schema.enum ?? [true, false];
  const defaultNote = schema.default != null ? ` (default: ${schema.default})` : "";
  const input = isChoice
    ? h("select", { id }, !required && h("option", { value: "" }, `not sent${defaultNote}`), choices.map((value) => h("option", { value: JSON.stringify(value) }, String(value))))
    : h(isJson ? "textarea" : "input", {
      id, rows: isJson && "3", type: !isJson && (isSecret(field) ? "password" : INPUT_TYPES[schema.format] ?? INPUT_TYPES[schema.type] ?? "text"),
      required: place === "path", autocomplete: AUTOCOMPLETE[name] ?? "off", autocapitalize: "none", spellcheck: "false",
      placeholder: example != null && !isSecret(field) ? formText(example) : null,
    });
  // An optional text needs a switch, since "" (clear my name) and "not sent" (leave it) differ.
  const hasSwitch = !required && !isChoice;
  const include = h("input", { type: "checkbox", "aria-label": `send ${name}`, onchange });
  input.addEventListener("input", () => { if (hasSwitch) include.checked = true; onchange(); });

  function read() {
    if (isChoice) return input.value === "" ? undefined : JSON.parse(input.value);
    if (hasSwitch && !include.checked) return undefined;
    if (!isJson && !["integer", "number"].includes(schema.type)) return input.value;
    // What does not parse is sent as typed: the visitor may want to see how it is refused.
    try { return JSON.parse(input.value); } catch { return input.value; }
  }
  const element = h("div", { class: "form-field" },
    h("div", { class: "form-label" }, h("label", { for: id }, name),
      h("span", { class: "facts" }, required ? "required" : "optional"),
      hasSwitch && h("label", { class: "include" }, include, h("span", { "aria-hidden": "true" }, "send"))),
    input);
  return { ...field, element, read, isUsable: () => isChoice || input.reportValidity() };
}

/** The panel beside an operation: inputs, the request they make, and the response to it. */
function tryPanel(operation) {
  const inputs = requestInputs(operation, () => display.showNext());
  const display = requestDisplay(operation, inputs);
  const response = h("div", { class: "response", role: "group", "aria-label": `Response of ${operation.method} ${operation.path}` });
  const sendButton = h("button", { type: "submit", class: "button primary" }, "Send request");

  async function submit(event) {
    event.preventDefault();
    // Not `disabled`, which would take the keyboard focus away.
    if (sendButton.hasAttribute("aria-disabled")) return;
    if (!inputs.makeAnAddress()) return;
    sendButton.setAttribute("aria-disabled", "true");
    sendButton.textContent = "Sending…";
    const request = inputs.request();
    display.keepAsSent(request);
    try {
      const answer = await send(request);
      response.replaceChildren(...responseView(operation, answer));
      response.firstElementChild.scrollIntoView({ block: "nearest" });
      announce(`${operation.method} ${operation.path} answered ${answer.status} ${answer.statusText}. ${answer.json?.detail ?? ""}`);
      learnFrom(operation, request, answer);
      await nameTheVisitor();
    } catch (error) {
      response.replaceChildren(h("p", { class: "problem" }, `No answer: ${error.message}. Is the service running?`));
      announce("No answer.");
    } finally {
      sendButton.removeAttribute("aria-disabled");
      sendButton.textContent = "Send request";
    }
  }

  sessionListeners.push(() => { inputs.update(); display.show(); });
  inputs.update();
  display.show();
  return h("form", { class: "try", novalidate: true, onsubmit: submit, "aria-label": `Try ${operation.method} ${operation.path}` },
    h("div", { class: "try-input" }, inputs.elements, h("div", {}, sendButton)),
    display.element, response);
}

/** Everything a visitor fills in: parameters, body in one of its encodings, credentials. */
function requestInputs(operation, onchange) {
  const content = operation.body?.content ?? {};
  const [media = {}] = Object.values(content);
  const mediaTypes = Object.keys(content);
  const bodyExample = media.example ?? resolve(Object.values(media.examples ?? {})[0]).value ?? {};
  const exampleOf = (field) => field.example ?? field.schema.example ?? field.schema.examples?.[0] ?? (field.place === "body" ? bodyExample[field.name] : null);
  const credentials = operation.schemes.has("feedToken") ? [FEED_TOKEN] : [];
  const fields = [...parameterFields(operation).filter((each) => each.place !== "cookie"), ...credentials, ...bodyFields(plainSchema(media.schema))]
    .map((field) => formField(operation, field, exampleOf(field), onchange));
  const isOfBody = (field) => field.place === "body";
  const bodyForm = h("div", { class: "form-fields" }, fields.filter(isOfBody).map((each) => each.element));
  const raw = h("textarea", { rows: "7", hidden: true, spellcheck: "false", autocapitalize: "none", "aria-label": "Body as raw text", oninput: onchange });
  const options = credentialOptions(operation, onchange);
  let [mediaType = null] = mediaTypes;

  const read = (place) => Object.fromEntries(fields.filter((each) => each.place === place).map((each) => [each.name, each.read()]).filter(([, value]) => value !== undefined));

  function chooseBody(nextMediaType, isRaw) {
    mediaType = nextMediaType;
    if (isRaw) raw.value = serialize(mediaType, read("body"));
    raw.hidden = !isRaw;
    bodyForm.hidden = isRaw;
    onchange();
  }

  /** With `hideSecrets`, the same request as it may be shown to whoever looks at the screen. */
  function request({ hideSecrets = false } = {}) {
    const values = read("body");
    if (hideSecrets) for (const { name } of fields.filter(isSecret)) if (values[name]) values[name] = "********";
    const token = session.accessToken;
    const feedToken = read("feed")[FEED_TOKEN.name];
    return buildRequest(operation, {
      values, mediaType, rawBody: raw.hidden ? null : raw.value, sends: options.read(),
      feedToken: hideSecrets && feedToken ? "********" : feedToken,
      parameters: { path: read("path"), query: read("query"), header: read("header") },
    }, hideSecrets && token ? `${token.slice(0, 12)}…${token.slice(-6)}` : token);
  }

  const bodyControls = operation.body && h("div", { class: "body-controls" },
    segmented("Write the body as", `write-${operation.id}`, { fields: "Fields", raw: "Raw" }, (value) => chooseBody(mediaType, value === "raw")),
    mediaTypes.length > 1 && h("select", { class: "media-type", "aria-label": "Send the body as", onchange: (event) => chooseBody(event.target.value, !raw.hidden) },
      mediaTypes.map((type) => h("option", { value: type }, type))));
  const elements = [fields.filter((each) => !isOfBody(each)).map((each) => each.element), bodyControls, bodyForm, raw, options.element];
  /** False, and the browser says so beside the field, while a part of the path is missing. */
  const makeAnAddress = () => fields.filter((each) => each.place === "path").every((each) => each.isUsable());
  return { elements, request, makeAnAddress, update: options.update };
}

/** The request as HTTP or curl: the one that was sent until something is changed, else the next one. */
function requestDisplay(operation, inputs) {
  const title = h("h5", {});
  const block = h("div", {});
  let asSent = null;
  let isCurl = false;

  function show() {
    const request = asSent?.shown ?? inputs.request({ hideSecrets: true });
    title.textContent = asSent ? `Request, as sent at ${asSent.time}` : "Request";
    block.replaceChildren(isCurl
      ? codeBlock("curl command", curlCommand(operation, request))
      : codeBlock("Request", httpHead(request), browserHeaders(operation, request), request.body ? ["\n\n", bodyText(request)] : ""));
    if (isCurl && operation.schemes.has("refreshCookie")) {
      block.append(h("p", { class: "hint" }, "curl has its own session in cookies.txt: sign in there first and send the csrf_token of that answer."));
    }
  }

  function showNext() {
    asSent = null;
    inputs.update();
    show();
  }

  function keepAsSent(request) {
    asSent = { request, shown: inputs.request({ hideSecrets: true }), time: new Date().toLocaleTimeString() };
    show();
  }

  /** The copy has the real secrets, so that it works. */
  function textToCopy() {
    const request = asSent?.request ?? inputs.request();
    if (isCurl) return curlCommand(operation, request);
    return request.body ? `${httpHead(request)}\n\n${request.body}` : httpHead(request);
  }

  const view = segmented("Show the request as", `view-${operation.id}`, { http: "HTTP", curl: "curl" }, (value) => { isCurl = value === "curl"; show(); });
  const element = h("div", { class: "request" }, h("div", { class: "block-head" }, title, view, copyButton("Copy", textToCopy)), block);
  return { element, show, showNext, keepAsSent };
}

/** Checkboxes to leave out a credential that the page has, and watch the refusal. */
function credentialOptions(operation, onchange) {
  const known = {
    accessToken: () => (session.accessToken ? "" : "none yet: sign in first"),
    refreshCookie: () => "",
    csrfToken: () => (currentCsrfToken() ? "" : "none yet"),
  };
  const rows = Object.keys(known).filter((name) => operation.schemes.has(name)).map((name) => {
    const box = h("input", { type: "checkbox", checked: true, onchange });
    const note = h("span", { class: "facts" });
    return { name, box, note, element: h("label", { class: "option" }, box, h("span", {}, name === "csrfToken" ? "CSRF header" : SCHEME_LABELS[name]), note) };
  });
  return {
    element: rows.length ? h("fieldset", { class: "options" }, h("legend", {}, "Send with"), rows.map((row) => row.element)) : "",
    read: () => Object.fromEntries(rows.map(({ name, box }) => [name, box.checked])),
    update: () => rows.forEach(({ name, note }) => { note.textContent = known[name](); }),
  };
}

const httpHead = (request) => [`${request.method} ${request.url}`, ...request.headers.map(([name, value]) => `${name}: ${value}`)].join("\n");
const bodyText = (request) => (request.mediaType === "application/json" ? highlightedJson(request.body) : request.body);

/** What the browser adds and no script can set or see. */
function browserHeaders(operation, request) {
  const lines = [];
  if (UNSAFE_METHODS.has(request.method)) lines.push(`Origin: ${location.origin}  (added by the browser)`);
  if (operation.schemes.has("refreshCookie") && request.sends.refreshCookie) lines.push("Cookie: …  (added by the browser; scripts cannot read the refresh token)");
  return lines.map((line) => ["\n", h("span", { class: "by-browser" }, line)]);
}

function responseView(operation, answer) {
  const size = new TextEncoder().encode(answer.text).length;
  const pretty = answer.json !== null ? highlightedJson(JSON.stringify(answer.json, null, 2)) : answer.text;
  return [
    h("div", { class: "block-head" }, h("h5", {}, "Response"),
      h("span", { class: `status status-${String(answer.status)[0]}` }, `${answer.status} ${answer.statusText}`),
      h("span", { class: "facts" }, `${Math.round(answer.milliseconds)} ms · ${size} bytes`)),
    !answer.ok && problemView(operation, answer),
    answer.text ? codeBlock("Response body", pretty) : h("p", { class: "hint" }, "No body, as documented for this status."),
    h("details", { class: "headers" }, h("summary", {}, `${answer.headers.length} response headers`),
      codeBlock("Response headers", answer.headers.map(([name, value]) => `${name}: ${value}`).join("\n")),
      h("p", { class: "hint" }, "Set-Cookie is never shown to scripts; your browser's developer tools have it.")),
  ].filter(Boolean);
}

function problemView(operation, answer) {
  const problem = answer.json ?? {};
  const advice = adviceForEnd(problem.end_reason) ?? adviceFor(operation, answer.status, problem.code);
  const meaning = operation.responses.find((each) => each.status === String(answer.status))?.description;
  const retryAfter = answer.headers.find(([name]) => name === "retry-after")?.[1];
  return h("div", { class: "problem" },
    h("p", { class: "problem-title" }, h("code", {}, problem.code ?? String(answer.status)), problem.end_reason && ["because of ", h("code", {}, problem.end_reason)]),
    h("p", {}, problem.detail ?? problem.title ?? answer.statusText),
    problem.errors?.length > 0 && h("ul", {}, problem.errors.map((each) => h("li", {}, h("code", {}, each.field), ` ${each.detail ?? each.code}`))),
    (advice || meaning) && h("p", { class: "advice" }, h("strong", {}, advice ? "What to do " : "Meaning "), inlineMarkdown(advice || meaning)),
    retryAfter && h("p", { class: "advice" }, h("strong", {}, "Retry after "), /^\d+$/.test(retryAfter) ? `${retryAfter} seconds` : retryAfter));
}

// ---------------------------------------------------------------- the session bar

const secondsLeft = () => Math.max(0, Math.ceil((session.expiresAt - Date.now()) / 1000));
const clockText = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;

function renderSessionBar() {
  const bar = byId("page-session");
  const focusedLabel = bar.contains(document.activeElement) ? document.activeElement.textContent : null;
  bar.replaceChildren(...(session.state === "signed-in" ? signedInBar() : anonymousBar()));
  // The bar is rebuilt while one of its own buttons is at work; the keyboard must not lose its place.
  if (focusedLabel) ([...bar.querySelectorAll("button, a")].find((each) => each.textContent === focusedLabel) ?? bar.querySelector("a, button"))?.focus();
  if (session.state !== "signed-in") byId("page-token-panel").hidden = true;
  else renderTokenPanel();
  tick();
}

function anonymousBar() {
  const login = endpoint("POST", "/login");
  const words = session.state === "checking" ? "Looking for a session…" : session.note || "Not signed in";
  return [h("span", { class: session.note ? "session-note" : "session-note is-plain" }, words), session.state === "anonymous" && login && h("a", { class: "button primary", href: `#${login.id}` }, "Sign in")].filter(Boolean);
}

function signedInBar() {
  const { claims } = decodeToken(session.accessToken);
  const name = session.user?.username ?? claims.username ?? claims.email ?? `user ${claims.sub ?? ""}`;
  const isOpen = !byId("page-token-panel").hidden;
  return [
    h("span", { class: "avatar", "aria-hidden": "true" }, name.slice(0, 1).toUpperCase()),
    h("span", { class: "who" }, h("span", { class: "visually-hidden" }, "Signed in as "), h("strong", {}, name), session.note && h("span", { class: "session-note" }, session.note)),
    h("span", { class: "life" }, h("span", { class: "life-label" }, "access token"), h("progress", { id: "page-life-bar", max: session.lifetime || 1, "aria-hidden": "true" }), h("span", { id: "page-life-text", class: "life-text" })),
    h("button", { type: "button", id: "page-token-button", class: "button quiet", "aria-expanded": String(isOpen), "aria-controls": "page-token-panel", onclick: toggleTokenPanel }, "Token"),
    h("button", { type: "button", class: "button quiet refresh-button", onclick: () => fromBar(refreshSession, "The access token is new.") }, "Refresh"),
    h("button", { type: "button", class: "button quiet", onclick: () => fromBar(() => callQuietly(endpoint("POST", "/logout"), { scope: "local" }), "Signed out.") }, "Sign out"),
  ];
}

async function fromBar(action, success) {
  try {
    const answer = await action();
    announce(answer.ok ? success : answer.json?.detail ?? "Refused.");
    if (!answer.ok && session.state === "signed-in") changeSession({ note: answer.json?.detail ?? `Refused with ${answer.status}` });
  } catch (error) {
    changeSession({ note: `No answer: ${error.message}` });
  }
}

/** Once a second; the text is not a live region, which would speak every second. */
function tick() {
  const text = byId("page-life-text");
  if (!text) return;
  const left = secondsLeft();
  text.textContent = left ? clockText(left) : "expired";
  byId("page-life-bar").value = left;
  text.parentElement.dataset.state = left === 0 ? "expired" : left <= 30 ? "ending" : "fresh";
}

function toggleTokenPanel() {
  const panel = byId("page-token-panel");
  panel.hidden = !panel.hidden;
  byId("page-token-button").setAttribute("aria-expanded", String(!panel.hidden));
}

function renderTokenPanel() {
  const parts = decodeToken(session.accessToken);
  const moment = (name) => parts.claims[name] && `${name} ${new Date(parts.claims[name] * 1000).toLocaleTimeString()}`;
  byId("page-token-panel").replaceChildren(
    h("div", { class: "token-parts" },
      h("div", {}, h("h2", {}, "Header"), codeBlock("Token header", highlightedJson(JSON.stringify(parts.header, null, 2)))),
      h("div", {}, h("h2", {}, "Claims"), codeBlock("Token claims", highlightedJson(JSON.stringify(parts.claims, null, 2))))),
    h("div", { class: "token-foot" },
      h("p", { class: "hint" }, [moment("iat"), moment("exp")].filter(Boolean).join(" · "), h("br"), "Kept in this page's memory only, and gone when it closes. Decoded for viewing; the signature is not checked here."),
      copyButton("Copy token", () => session.accessToken)));
}

// ---------------------------------------------------------------- the page

function renderNavigation() {
  const groups = groupByTag(operations).map(([tag, members], index) => [
    h("h2", { id: `page-group-${index}` }, tag),
    h("ul", { "aria-labelledby": `page-group-${index}` }, members.map((each) => h("li", {},
      h("a", { href: `#${each.id}` }, h("span", { class: "nav-name" }, each.summary ?? each.path), methodBadge(each.method)))))]);
  byId("page-navigation").replaceChildren(...groups.flat(), h("p", { class: "nav-foot" }, h("a", { href: "#page-reference" }, "Errors"), " · ", h("a", { href: "openapi.json" }, "openapi.json")));
}

function renderOperation(operation) {
  return h("article", { class: "operation", id: operation.id, "aria-labelledby": `heading-${operation.id}` },
    h("div", { class: "columns" }, operationDocumentation(operation), tryPanel(operation)));
}

function renderMain() {
  const { title, version, description: text = "" } = description.info ?? {};
  // What comes below a heading is reference: it follows the operations.
  const [introduction, ...reference] = text.split(/^(?=## )/m);
  document.title = title ?? document.title;
  const tagText = (name) => description.tags?.find((tag) => tag.name === name)?.description;
  byId("page-main").replaceChildren(
    h("section", { class: "introduction", id: "page-introduction" }, h("h1", {}, title ?? "API", version && h("span", { class: "version" }, version)), h("div", { class: "prose" }, markdown(introduction))),
    ...groupByTag(operations).map(([tag, members]) => h("section", { class: "group", "aria-label": tag },
      h("div", { class: "group-head" }, h("h2", {}, tag), h("div", { class: "prose" }, markdown(tagText(tag)))), members.map(renderOperation))),
    h("section", { class: "group", id: "page-reference", "aria-label": "Reference" }, h("div", { class: "prose" }, markdown(reference.join("")))));
}

/** The fragment is an operationId or an error: go there, mark it, and put the keyboard there. */
function followFragment() {
  setMenu(false);
  document.querySelectorAll(".is-target").forEach((each) => each.classList.remove("is-target"));
  const id = decoded(location.hash.slice(1));
  if (id.startsWith("error-") && byId(id)) {
    byId(id).classList.add("is-target");
    byId(id).scrollIntoView({ block: "center" });
    byId(id).focus({ preventScroll: true });
    return;
  }
  const operation = operations.find((each) => each.id === id);
  if (!operation) return;
  byId(id).classList.add("is-target");
  byId(id).scrollIntoView();
  byId(`heading-${id}`).focus({ preventScroll: true });
  markCurrent(id);
}

function greetWhoeverCameByAddress() {
  const query = new URLSearchParams(location.search);
  if (query.get("from") !== "browser") return;
  const notice = h("p", { class: "notice" }, "You opened this address in a browser; here you can try it.");
  const target = byId(decoded(location.hash.slice(1)))?.querySelector("header");
  if (target) target.append(notice);
  else byId("page-main").prepend(notice);
  // It was true once: a reload or a shared link should not say it again.
  history.replaceState(null, "", location.pathname + location.hash);
}

function markCurrent(id) {
  for (const link of byId("page-navigation").querySelectorAll("a")) {
    if (link.hash === `#${id}`) link.setAttribute("aria-current", "location");
    else link.removeAttribute("aria-current");
  }
}

function followScrolling() {
  // One line across the window, so that one operation at a time touches it.
  const observer = new IntersectionObserver((entries) => {
    const entered = entries.find((entry) => entry.isIntersecting);
    if (entered) markCurrent(entered.target.id);
  }, { rootMargin: "-25% 0px -75% 0px" });
  document.querySelectorAll(".operation, .introduction").forEach((each) => observer.observe(each));
}

function setMenu(isOpen) {
  byId("page-navigation").classList.toggle("is-open", isOpen);
  byId("page-menu-button").setAttribute("aria-expanded", String(isOpen));
}

function closeOnEscape(event) {
  if (event.key !== "Escape") return;
  if (byId("page-navigation").classList.contains("is-open")) {
    setMenu(false);
    byId("page-menu-button").focus();
  } else if (!byId("page-token-panel").hidden) {
    toggleTokenPanel();
    byId("page-token-button").focus();
  }
}

async function start() {
  try {
    await loadDescription();
  } catch (error) {
    byId("page-main").replaceChildren(h("p", { class: "notice" }, `The description of the API could not be read (${error.message}). Reload to try again.`));
    return;
  }
  operations = readOperations();
  renderNavigation();
  renderMain();
  sessionListeners.push(renderSessionBar);
  renderSessionBar();
  greetWhoeverCameByAddress();
  followFragment();
  followScrolling();
  addEventListener("hashchange", followFragment);
  addEventListener("keydown", closeOnEscape);
  byId("page-menu-button").addEventListener("click", () => setMenu(!byId("page-navigation").classList.contains("is-open")));
  setInterval(tick, 1000);
  await signInSilently();
}

start();
