// A small world for the client: time that passes when told to, a service with the real one's rules about
// refresh tokens, devices with cookie jars and clocks of their own, and a network that can fail.

import { createClient } from "../../dist/index.js";

export const SERVICE = "https://auth.example.org";
export const API = "https://api.example.org";

export const ANA = { id: 1, username: "ana" };
export const BOB = { id: 2, username: "bob" };
const USERS = { ana: ANA, bob: BOB };

/** How finely time passes, in milliseconds. */
const STEP = 10;

const settled = () => new Promise(setImmediate);

/** True time, in milliseconds, and whoever waits for it. It passes in steps, or a thousand pages take long. */
export class Time {
  now = Date.UTC(2026, 10, 24);
  #waiting = new Map();

  wait = (milliseconds) =>
    new Promise((resolve) => {
      const due = Math.max(this.now, STEP * Math.ceil((this.now + milliseconds) / STEP));
      this.#waiting.set(due, [...(this.#waiting.get(due) ?? []), resolve]);
    });

  /** Lets so much time pass, in the order in which things are due. */
  async pass(milliseconds) {
    const end = this.now + milliseconds;
    await settled();
    for (let next = this.now; next <= end; next = STEP * (Math.floor(next / STEP) + 1)) {
      this.now = next;
      while (this.#waiting.has(next)) {
        const due = this.#waiting.get(next);
        this.#waiting.delete(next);
        for (const resolve of due) resolve();
        await settled();
      }
    }
    this.now = end;
    await settled();
  }

  /** Nothing happens, and it is later. */
  skip(milliseconds) {
    this.#waiting = new Map([...this.#waiting].map(([due, resolves]) => [due + milliseconds, resolves]));
    this.now += milliseconds;
  }

  /** What comes of `work` if time passes until it is done. */
  async until(work, { atMost = 600_000, step = 100 } = {}) {
    let outcome;
    work.then(
      (value) => (outcome = { value }),
      (error) => (outcome = { error }),
    );
    for (let passed = 0; passed <= atMost; passed += step) {
      await settled();
      if (outcome?.error) throw outcome.error;
      if (outcome) return outcome.value;
      await this.pass(step);
    }
    throw new Error("it is not done even now");
  }
}

/** Pseudo-random numbers, the same in every run. */
export function dice(seed = 1) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const problem = (status, code, more = {}, headers = {}) =>
  new Response(
    JSON.stringify({ type: `/docs#error-${code}`, title: code, status, detail: `${code}.`, code, ...more }),
    {
      status,
      headers: { "Content-Type": "application/problem+json", ...headers },
    },
  );

const json = (body) => new Response(JSON.stringify(body), { headers: { "Content-Type": "application/json" } });

/** The service and an API that takes its tokens. `log` has every request that reached it, with its time. */
export class Service {
  log = [];
  sessions = new Map();
  /** What happens to a request: "lost" before it arrives, its answer "swallowed", or an answer in our place. */
  weather = () => undefined;
  accessLifetime = 300_000;
  grace = 30_000;
  /** What the API says of a request whose token is good. */
  api = () => json({ ok: true });

  constructor(time) {
    this.time = time;
  }

  count(path) {
    return this.log.filter(({ url }) => new URL(url).pathname === path).length;
  }

  /** What travels from a device with `jar`. */
  async answer(request, jar) {
    const { pathname } = new URL(request.url);
    const entry = {
      at: this.time.now,
      method: request.method,
      url: request.url,
      headers: new Headers(request.headers),
    };
    const weather = await this.weather({ ...entry, pathname });
    if (weather === "lost") throw new TypeError("Failed to fetch");
    this.log.push(entry);
    if (weather instanceof Response) return weather;
    const cookies = request.credentials === "include" ? jar : {};
    const body = request.body ? await request.text() : "";
    // Where the answer is swallowed, the cookies that it sets are too.
    const response = this.#route(request, pathname, weather === "swallowed" ? { ...cookies } : cookies, body);
    if (weather === "swallowed") throw new TypeError("Failed to fetch");
    return response;
  }

  #route(request, pathname, jar, body) {
    if (request.url.startsWith(API)) return this.#authenticate(request) ?? this.api(request, body);
    switch (`${request.method} ${pathname}`) {
      case "POST /users/login":
        return this.#login(JSON.parse(body), jar);
      case "GET /users/csrf":
        return json({ csrf_token: this.#csrf(jar.refresh?.sid ?? "nobody") });
      case "POST /users/refresh_token":
        return this.#refresh(request, jar);
      case "GET /users/user":
        return this.#authenticate(request) ?? json({ user: this.#sessionOf(request).user });
      case "POST /users/logout":
        return this.#logout(request, jar);
      default:
        return problem(404, "not_found");
    }
  }

  #csrf = (sid) => sid.padEnd(32, "x");

  #grant(sid, jar) {
    const session = this.sessions.get(sid);
    jar.refresh = { sid, generation: session.generation };
    const expires = this.time.now + this.accessLifetime;
    const issue = (this.issued = (this.issued ?? 0) + 1);
    const access_token = `${sid}.${issue}.${expires}`;
    return { access_token, token_type: "Bearer", expires_in: this.accessLifetime / 1000, csrf_token: this.#csrf(sid) };
  }

  #login({ username, password }, jar) {
    if (password !== "right") return problem(401, "invalid_credentials");
    this.end(jar.refresh?.sid, "replaced_by_login");
    const sid = `session${this.sessions.size + 1}`;
    this.sessions.set(sid, { user: USERS[username], generation: 0, rotatedAt: 0 });
    return json({ ...this.#grant(sid, jar), user: USERS[username] });
  }

  #refresh(request, jar) {
    if (!jar.refresh) return problem(401, "refresh_missing");
    const { sid, generation } = jar.refresh;
    if (request.headers.get("X-CSRFToken") !== this.#csrf(sid)) return problem(403, "csrf_invalid");
    const session = this.sessions.get(sid);
    if (session.end) return problem(401, "session_ended", { end_reason: session.end });
    const isReplay = generation === session.generation - 1 && this.time.now - session.rotatedAt <= this.grace;
    if (generation === session.generation) {
      session.generation += 1;
      session.rotatedAt = this.time.now;
    } else if (!isReplay) {
      this.end(sid, "reuse_detected");
      return problem(401, "refresh_reused");
    }
    return json(this.#grant(sid, jar));
  }

  #logout(request, jar) {
    if (request.headers.get("X-CSRFToken") !== this.#csrf(jar.refresh?.sid ?? "nobody"))
      return problem(403, "csrf_invalid");
    this.end(jar.refresh?.sid, "logout");
    delete jar.refresh;
    return new Response(null, { status: 204 });
  }

  end(sid, why) {
    const session = this.sessions.get(sid);
    if (session) session.end ??= why;
  }

  #sessionOf(request) {
    const [, sid] = request.headers.get("Authorization")?.match(/^Bearer (\w+)\./) ?? [];
    return this.sessions.get(sid);
  }

  #authenticate(request) {
    const token = request.headers.get("Authorization")?.replace("Bearer ", "");
    if (!token) return problem(401, "credentials_missing");
    const session = this.#sessionOf(request);
    if (session.end) return problem(401, "session_ended", { end_reason: session.end });
    if (this.time.now >= Number(token.split(".")[2])) return problem(401, "token_expired");
    return undefined;
  }
}

/** Somebody's device: cookies, and two clocks, one of them set by hand and the other asleep at times. */
export class Device {
  jar = {};
  clockIsOffBy = 0;
  slept = 0;

  constructor(service, { random = dice(), fetch } = {}) {
    Object.assign(this, { service, random, fetchOf: fetch });
  }

  /** A page that has just been opened. */
  page(options = {}) {
    const { service, random } = this;
    const { time } = service;
    return createClient({
      url: SERVICE,
      apis: [API],
      fetch: async (input, init) => {
        const sent = input instanceof Request ? input : new Request(input, init);
        sent.signal.throwIfAborted();
        return this.fetchOf ? this.fetchOf(sent) : service.answer(sent, this.jar);
      },
      platform: {
        wall: () => time.now + this.clockIsOffBy,
        elapsed: () => time.now - this.slept,
        wait: time.wait,
        random,
      },
      ...options,
    });
  }

  /** The lid is closed: time passes, and the device's second clock stands still. */
  sleep(milliseconds) {
    this.slept += milliseconds;
    this.service.time.skip(milliseconds);
  }
}

/** The usual beginning: the service, a device, and a page on it where Ana has signed in. */
export async function worldWithAna(options) {
  const time = new Time();
  const service = new Service(time);
  const device = new Device(service, options);
  const page = device.page();
  await page.login({ username: "ana", password: "right" });
  return { time, service, device, page };
}

export const askApi = async (page, init) => (await page.fetch(`${API}/things`, init)).status;
