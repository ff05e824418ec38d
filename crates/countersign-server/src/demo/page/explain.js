// What only the demo shows: the token from inside, what script can see, what the service saw, and a page of
// somebody else. Nothing here is needed to sign anybody in.

import { draw, find, lookAgain, say } from "./page.js";

export function explain({ account, settings, look, tellProblem }) {
  /** Origins other than this one, whose pages forge requests; none if the demo's program is not there. */
  const strangers = settings.strangers ?? [];
  for (const element of document.querySelectorAll("[data-needs-stranger]")) element.hidden = !strangers.length;
  find("cast").classList.toggle("is-alone", !strangers.length);
  find("cast-page").textContent = location.origin;
  find("cast-service").textContent = settings.api;
  find("cast-stranger").textContent = strangers[0] ?? "";

  // -------------------------------------------------------------- the token

  let shown;
  let life;

  async function readToken() {
    const token = account.known() && (await account.getAccessToken().catch(() => shown));
    if (!token || token === shown) return;
    if (shown) say("The access token was refreshed.");
    shown = token;
    const [header, claims] = token.split(".").slice(0, 2).map(decoded);
    life = { end: claims.exp * 1000, whole: (claims.exp - claims.iat) * 1000 };
    find("life-whole").textContent = life.whole === 60_000 ? "a minute" : `${life.whole / 1000} seconds`;
    draw(find("claims"), explained(header, claims));
    readSights();
  }

  // The device's own clock is good enough for a picture, as page and service are on one machine. The client
  // does not trust it: it counts from the moment it asked.
  function showLife() {
    if (!life) return;
    const left = Math.min(life.whole, Math.max(0, life.end - Date.now()));
    find("life-number").textContent = Math.ceil(left / 1000);
    find("life-bar").style.width = `${(100 * left) / life.whole}%`;
  }

  // -------------------------------------------------------------- what script can see

  function readSights() {
    const names = (storage) => Object.keys(storage).length;
    draw(find("sights"), [
      sight("document.cookie", cookies(document.cookie), "The CSRF token: to be shown in a header, and worth nothing without the session."),
      sight("the refresh token", "nothing", "It is in a cookie too, but in one that is HttpOnly: the browser sends it to the service, and shows it to no script."),
      sight("localStorage, sessionStorage", `${names(localStorage) + names(sessionStorage)} entries`, "Anything here could be read by every script, for as long as it lies here."),
    ]);
  }

  // -------------------------------------------------------------- tabs, and a second device

  let device;
  find("second-device").hidden = !settings.password;

  // Each tab holds a lock that all can hold; so they can be counted.
  navigator.locks?.request("countersign-demo-tab", { mode: "shared" }, () => new Promise(() => {}));

  async function countTabs() {
    const held = (await navigator.locks?.query())?.held ?? [];
    const others = held.filter(({ name }) => name === "countersign-demo-tab").length - 1;
    find("tabs").textContent = others > 0 ? `In this browser: this tab and ${others} more, in one session.` : "In this browser: this tab only.";
  }

  // With `credentials: "omit"` the browser keeps no cookie of it: to the service this is another device.
  find("add-device").addEventListener("click", async () => {
    try {
      const answer = await fetch(`${settings.api}/users/login`, {
        method: "POST",
        credentials: "omit",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ username: settings.username, password: settings.password }),
      });
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.detail);
      device = { token: body.access_token, id: decoded(body.access_token.split(".")[1]).sid };
      find("add-device").disabled = true;
      await look();
      await askForDevice();
    } catch (error) {
      tellProblem(error);
    }
  });

  async function askForDevice() {
    if (!device) return;
    const answer = await fetch(`${settings.api}/users/user`, { headers: { Authorization: `Bearer ${device.token}` } }).catch(() => {});
    if (!answer) return;
    if (answer.ok) {
      find("device-hint").textContent = "It is there, and its token is accepted. End it, and see.";
      return;
    }
    const { code, end_reason: reason } = await answer.json();
    find("device-hint").textContent = `Its token is refused from now on: ${answer.status} ${code}${reason ? `, ${reason}` : ""}.`;
    find("add-device").disabled = false;
    device = undefined;
  }

  // -------------------------------------------------------------- what the service saw

  /** What came in since the demo began, oldest first; `undefined` where nobody looks over its shoulder. */
  async function seen() {
    const answer = await fetch("seen").catch(() => {});
    return answer?.ok ? (await answer.json()).requests : undefined;
  }

  const told = new Set();
  let isFirstLook = true;

  async function readWire() {
    const requests = await seen();
    find("wire-title").closest(".chapter").hidden = !requests;
    if (!requests) return;
    const rows = requests.filter(isOfNote).slice(-7).reverse();
    draw(find("wire"), rows.map((request) => wireRow(request, isFirstLook || told.has(request.number))));
    for (const { number } of rows) told.add(number);
    isFirstLook = false;
  }

  function wireRow(request, isOld) {
    const { generation: { before, after } = {}, time, method, path, origin, status, code } = request;
    const moved = after === undefined ? "" : before === undefined ? `${after}` : before === after ? `${after} again` : `${before} → ${after}`;
    const by = strangers.includes(origin) ? ", by a stranger" : "";
    return ["tr", isOld ? {} : { class: "is-new" },
      ["td", { class: "wire-time" }, new Date(time).toLocaleTimeString()],
      ["td", { class: "wire-what" }, ["strong", {}, wordsFor(request) + by], ["code", {}, `${method} ${path}`], ...(code ? [" ", ["code", { class: "wire-code" }, code]] : [])],
      ["td", { class: "wire-generation" }, moved],
      ["td", { class: `wire-answer ${status < 400 ? "is-good" : "is-bad"}` }, `${status}`],
    ];
  }

  // -------------------------------------------------------------- the forgery

  const KINDS = {
    0: "On another site. Cookies that are SameSite stay at home when it asks.",
    1: "On another port of this very host, as a neighbour may be: the browser does send your cookies along, and lets it read the CSRF token. What stops it is its origin, which it cannot forge.",
  };
  let stranger;

  function visit(index) {
    stranger = strangers[index];
    find("stranger").src = `${stranger}/`;
    find("stranger-address").textContent = stranger;
    find("stranger-kind").textContent = KINDS[index];
    draw(find("deeds"), []);
    find("verdict").hidden = true;
  }

  if (strangers.length) {
    find("strangers").append(...strangers.map((origin, index) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "stranger", checked: index === 0 });
      input.addEventListener("change", () => visit(index));
      label.append(input, Object.assign(document.createElement("span"), { textContent: ["Another site", "Another port"][index] }));
      return label;
    }));
    // The frame is loaded once there is somebody to forge requests of.
    account.onChange((user) => user && !stranger && visit(0));
    if (account.known()) visit(0);
  }

  // The stranger tells what it did and what came of it on its side. What the service made of it, the
  // service's side tells.
  addEventListener("message", async ({ data, origin }) => {
    if (origin !== stranger || !Array.isArray(data?.deeds)) return;
    const requests = (await seen()) ?? [];
    const rows = data.deeds.map((deed) => deedRow(deed, requests.filter((each) => each.origin === stranger)));
    draw(find("deeds"), rows);
    const user = await account.user(true).catch(() => undefined);
    const verdict = find("verdict");
    verdict.classList.toggle("is-bad", !user);
    verdict.textContent = user ? "You are signed in as before. Nothing has changed." : "You are no longer signed in. That must not be: tell us.";
    verdict.hidden = false;
    say(verdict.textContent);
  });

  function deedRow({ name, method, path, got }, requests) {
    const { title, why } = DEEDS[name];
    const answered = requests.findLast((each) => each.deed === name);
    const answer = answered ? `${answered.method === method ? "" : "preflight "}${answered.status} ${answered.code ?? "not readable"}` : "never arrived";
    const cookies = answered?.cookies.length ? answered.cookies.join(", ") : "none";
    return ["li", {},
      ["div", { class: "deed-head" }, ["strong", {}, title], ["code", {}, answer]],
      ["p", {}, why],
      ["dl", { class: "deed-facts" },
        ["dt", {}, "Asked"], ["dd", {}, ["code", {}, `${method} ${path}`]],
        ["dt", {}, "Cookies sent"], ["dd", {}, cookies],
        ["dt", {}, "It got"], ["dd", {}, got]],
    ];
  }

  // -------------------------------------------------------------- again and again

  readSights();
  countTabs();
  lookAgain(1_000, async () => {
    await readToken();
    if (!account.known()) return;
    await Promise.all([readWire(), countTabs(), askForDevice()]);
  });
  setInterval(showLife, 250);
  find("reload").addEventListener("click", () => location.reload());

  return { isSecondDevice: (id) => id === device?.id };
}

// ---------------------------------------------------------------- words

const decoded = (part) =>
  JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0))));

function explained(header, claims) {
  const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString();
  const rows = [
    ["alg", header.alg, "how it is signed: anybody can verify it"],
    ["typ", header.typ, "an access token, and nothing else"],
    ["iss", claims.iss, "who issued it"],
    ["sub", claims.sub, "who you are: a number that is never given twice"],
    ["sid", short(claims.sid), "the session it belongs to, and dies with"],
    ["iat", time(claims.iat), "when it was issued"],
    ["exp", time(claims.exp), "when it ends"],
    ["csrf", short(claims.csrf), "the hash of the CSRF token that must come with it"],
  ];
  return rows.flatMap(([name, value, meaning]) => [["dt", {}, name], ["dd", {}, ["code", {}, value], ["span", {}, meaning]]]);
}

const short = (text) => (text?.length > 16 ? `${text.slice(0, 13)}…` : `${text}`);

const sight = (what, value, meaning) => ["div", {}, ["dt", {}, what], ["dd", {}, ["code", {}, value], ["span", {}, meaning]]];

const cookies = (text) => text.replaceAll(/=([^;]{6})[^;]+/g, "=$1…") || "nothing";

/** A stranger's reading and asking is told beside its deed. */
const isOfNote = ({ method, status }) => method !== "OPTIONS" && (method !== "GET" || status >= 400);

function wordsFor({ method, path, status, code }) {
  if (code === "refresh_missing") return "Nobody was signed in yet";
  if (status >= 400 && path !== "/users/login") return "Refused";
  if (path === "/users/login") return status < 400 ? "Signed in" : "Sign-in refused";
  if (path === "/users/refresh_token") return "Refreshed";
  if (path === "/users/logout") return "Signed out";
  if (path.startsWith("/users/sessions/")) return "Ended a session";
  return method === "GET" ? "Asked" : "Changed something";
}

const DEEDS = {
  form: { title: "A form that signs you out", why: "Before anything else of an unsafe request its origin is looked at." },
  blind: { title: "A refresh in your name, whatever comes back", why: "It would move your session on. Its origin is not listed." },
  token: { title: "The same, with a CSRF token", why: "A header of its own makes the browser ask first, and the service says no: the request itself was never sent." },
  read: { title: "Reading your CSRF token", why: "Reading changes nothing, so it is answered; but nobody told the browser that this page may have the answer." },
};
