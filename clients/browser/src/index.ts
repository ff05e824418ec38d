// The page's half of Countersign.
//
// The access token is in memory only. It is refreshed when it is needed and nearly used up, by one tab at a
// time, and shown to the service and to the listed APIs alone.

import { CountersignError, problemIn } from "./error.js";
import type { LoginAnswer, LoginBody, LogoutScope, TokensBody, UserAnswer, UserBody } from "./api.js";

export { CountersignError };
export type { Code } from "./error.js";
export type * from "./api.js";

export type User = UserBody;

/** Whoever is signed in; `null` is nobody, `undefined` is not known yet. */
export type Known = User | null | undefined;

/** Told whenever somebody else is signed in, or nobody; then `why`, unless it was done here and on purpose. */
export type Listener = (user: Known, why?: CountersignError) => void;

export interface Options {
  /** Where the service is: its origin, or `/` if it is the page's. */
  url: string;
  /** Origins of further APIs that are shown the token. Nobody else is. */
  apis?: readonly string[];
  /** What sends requests. Default: the global `fetch`. */
  fetch?: typeof fetch;
  /** How long the service may take for one answer, in milliseconds. Default: 10,000. */
  timeout?: number;
  /** Whether tabs of one origin refresh together. Default: in pages and their workers, not in Node. */
  share?: boolean;
  /** The device's two clocks, its timer and its dice. Default: the platform's. */
  platform?: Platform;
}

export interface Platform {
  /** The time of day, in milliseconds; may be wrong, and be put right at any moment. */
  wall(): number;
  /** Milliseconds since some moment; never set, but may stand still while the device sleeps. */
  elapsed(): number;
  /** Resolves after so many milliseconds. */
  wait(milliseconds: number): Promise<unknown>;
  /** A number from 0 to 1. */
  random(): number;
}

export interface Client {
  /** Signs in. A wrong password is a {@link CountersignError} of code `invalid_credentials`. */
  login(credentials: LoginBody): Promise<User>;
  /** Signs out here, on every `others` device, or everywhere. If it rejects, nobody was signed out. */
  logout(scope?: LogoutScope): Promise<void>;
  /** Who is signed in, after one refresh if the page was reloaded; asked for again if `fresh`. */
  user(fresh?: boolean): Promise<User | null>;
  /** What is known of that without asking. The same object until it changes. */
  known(): Known;
  /** Calls back whenever that changes, in this tab or another; returns how to stop. */
  onChange(listener: Listener): () => void;
  /** A token that is good for now, or `null` if nobody is signed in. Rejects if the service is away. */
  getAccessToken(): Promise<string | null>;
  /** As the platform's, and shows the token and the CSRF token where they belong. */
  fetch: typeof fetch;
  /** Calls a route of the service, below `/users`; its answer, or a {@link CountersignError}. */
  call<Answer = void>(method: string, path: string, body?: unknown): Promise<Answer>;
  /** Hears and tells other tabs no more. */
  close(): void;
}

/** What tabs tell each other: a token, or that the session of a CSRF token is over. */
type Message =
  | { token: string; csrf: string; left: number; until: number; early: number; user: Known }
  | { ended: string; why?: Partial<CountersignError> };

const PLATFORM: Platform = {
  wall: () => Date.now(),
  elapsed: () => performance.now(),
  wait: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
  random: () => Math.random(),
};

/** After so many failures in a row the service is left alone for a while. */
const PATIENCE = 4;
/** The longest while, in milliseconds; about as long as a lost answer can still be asked for again. */
const LONGEST_PAUSE = 30_000;
/** How often, and for how long in milliseconds, to wait for a token from the tab that held the lock before. */
const LOOKS = 6;
const BETWEEN_LOOKS = 50;

export function createClient(options: Options): Client {
  const here = globalThis.location?.href;
  const { apis = [], timeout = 10_000, share = !!here, platform = PLATFORM } = options;
  const send: typeof fetch = (...request) => (options.fetch ?? fetch)(...request);
  const base = new URL(options.url, here);
  const users = base.href.replace(/\/*([?#].*)?$/, "/users");
  const trusted = new Set([base.href, ...apis].map((address) => new URL(address, here).origin));
  // Opaque origins are all alike.
  if (trusted.has("null")) throw new TypeError("url and apis must be http or https");

  let token: string | undefined;
  /** The CSRF token of its session. */
  let csrf: string | undefined;
  /** The CSRF token that was shown last with the cookie, which can be another session's. */
  let proof: string | undefined;
  /** When the token will have been used up, on either clock. */
  let until = { wall: 0, elapsed: 0 };
  /** How long before that it is refreshed: not the same for all, or all come back together. */
  let early = 0;
  /** Whether a refusal has led to this token. One more of those is not about its age. */
  let isSecondTry = false;

  let user: Known;
  /** The session in which the user was heard of, by its CSRF token. */
  let session: string | undefined;
  let asking: Promise<Known> | undefined;
  const listeners = new Set<Listener>();

  let refreshing: Promise<string | null> | undefined;
  let failures = 0;
  let pausedUntil = 0;
  let failure: unknown;

  // ------------------------------------------------------------- one at a time, in all tabs

  const name = `countersign:${users}`;
  const channel = share && globalThis.BroadcastChannel ? new BroadcastChannel(name) : undefined;
  const locks = share && globalThis.navigator?.locks;
  let queue: Promise<unknown> = Promise.resolve();

  const alone = <Answer>(task: () => Promise<Answer>): Promise<Answer> =>
    locks ? locks.request(name, task) : ((queue = queue.then(task, task)) as Promise<Answer>);

  const tell = (message: Message) => channel?.postMessage(message);

  if (channel) {
    channel.onmessage = ({ data }: MessageEvent<Message>) => {
      if ("token" in data) {
        // It may have waited for this tab to wake.
        const left = Math.min(data.left, data.until - platform.wall());
        adopt(data.token, data.csrf, { wall: data.until, elapsed: platform.elapsed() + left }, data.early, data.user);
      } else if (data.ended === csrf) {
        forget(data.why && new CountersignError(data.why));
      }
    };
  }

  // ------------------------------------------------------------- what is known

  const time = () => ({ wall: platform.wall(), elapsed: platform.elapsed() });

  const left = () => Math.min(until.wall - platform.wall(), until.elapsed - platform.elapsed());

  function learn(next: Known, why?: CountersignError) {
    session = csrf;
    if (JSON.stringify(next) === JSON.stringify(user)) return;
    user = next;
    for (const listener of listeners) queueMicrotask(() => listener(next, why));
  }

  function adopt(nextToken: string, nextCsrf: string, nextUntil: typeof until, nextEarly: number, whose: Known) {
    token = nextToken;
    csrf = nextCsrf;
    until = nextUntil;
    early = nextEarly;
    isSecondTry = false;
    failures = pausedUntil = 0;
    if (whose) learn(whose);
    else if (user !== undefined && session !== csrf) {
      // Another session, maybe somebody else's.
      learn(undefined);
      ask().catch(() => {});
    }
  }

  /** Takes an answer that was asked for at `sent`: of the token's life, what it took is gone. */
  function take(answer: TokensBody & Partial<LoginAnswer>, sent: typeof until) {
    const life = answer.expires_in * 1000;
    const end = { wall: sent.wall + life, elapsed: sent.elapsed + life };
    adopt(answer.access_token, answer.csrf_token, end, life * (0.1 + 0.2 * platform.random()), answer.user);
    tell({
      token: token!,
      csrf: csrf!,
      left: left(),
      until: end.wall,
      early,
      user: session === csrf ? user : undefined,
    });
    return token!;
  }

  function forget(why?: CountersignError) {
    token = csrf = undefined;
    learn(null, why);
  }

  /** The session is over: here, and in every tab that was in it. */
  function end(why?: CountersignError) {
    for (const ended of [csrf, proof]) if (ended) tell({ ended, why: why && { ...why, message: why.message } });
    forget(why);
  }

  // ------------------------------------------------------------- the service

  async function read<Answer>(answering: Promise<Response>): Promise<Answer> {
    let response: Response;
    try {
      response = await answering;
      if (response.ok) return response.status === 204 ? (undefined as Answer) : await response.json();
    } catch (cause) {
      throw cause instanceof CountersignError ? cause : new CountersignError({ code: "unreachable", cause });
    }
    throw new CountersignError(await problemIn(response));
  }

  const init = (method: string, body?: unknown, headers?: Record<string, string>): RequestInit => ({
    method,
    credentials: "include",
    headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

  const askPlainly = <Answer>(method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
    read<Answer>(
      send(users + path, { ...init(method, body, headers), redirect: "error", signal: AbortSignal.timeout(timeout) }),
    );

  /** Posts what the refresh cookie pays for, with the CSRF token of its session. */
  async function post<Answer>(path: string, body?: unknown): Promise<Answer> {
    proof = csrf ?? cookie();
    for (let isAgain = false; ; isAgain = true) {
      proof ??= (await askPlainly<{ csrf_token: string }>("GET", "/csrf")).csrf_token;
      try {
        return await askPlainly<Answer>("POST", path, body, { "X-CSRFToken": proof });
      } catch (error) {
        // It was that of a session before, or a neighbour has planted it.
        if (isAgain || !/^csrf/.test((error as CountersignError).code)) throw error;
        proof = undefined;
      }
    }
  }

  /** The CSRF token as the cookie has it, which spares asking. It can only be the service's on its host. */
  const cookie = () =>
    globalThis.location?.hostname === base.hostname
      ? globalThis.document?.cookie.match(/(?:^|; )csrftoken=(\w{32})(?:;|$)/)?.[1]
      : undefined;

  // ------------------------------------------------------------- refreshing

  const refresh = () => (refreshing ??= refreshAlone().finally(() => (refreshing = undefined)));

  function refreshAlone() {
    const before = token;
    const asked = platform.elapsed();
    return alone(async () => {
      if (channel && platform.elapsed() - asked > 5) {
        for (let look = 0; look < LOOKS && token === before; look += 1) await platform.wait(BETWEEN_LOOKS);
      }
      if (token !== before) return token ?? null;
      if (platform.elapsed() < pausedUntil) throw failure;
      for (;;) {
        const sent = time();
        try {
          return take(await post<TokensBody>("/refresh_token"), sent);
        } catch (error) {
          const { isEnd, isPassing, status, retryAfter = 0 } = error as CountersignError;
          if (isEnd) {
            end(error as CountersignError);
            return null;
          }
          failure = error;
          // Full jitter: who failed together does not come back together.
          const pause = retryAfter * 1000 + platform.random() * Math.min(LONGEST_PAUSE, 1000 * 2 ** failures);
          if (++failures >= PATIENCE || !isPassing || retryAfter > 2) {
            pausedUntil = platform.elapsed() + pause;
            // Unanswered, it may have been done; the answer can be had again, for half a minute.
            if (!status && failures < 8) askAgain(pause, before);
            throw error;
          }
          await platform.wait(pause);
        }
      }
    });
  }

  async function askAgain(pause: number, before: string | undefined) {
    await platform.wait(pause);
    if (token === before) await refresh().catch(() => {});
  }

  async function getAccessToken(evenIfNobody?: boolean) {
    if (!token && user === null && !evenIfNobody) return null;
    if (token && left() > early) return token;
    try {
      return await refresh();
    } catch (error) {
      if (token && left() > 0) return token;
      throw error;
    }
  }

  // ------------------------------------------------------------- fetch

  /** Whether, after `response` has refused the token that was `shown`, there is another to try. */
  async function hasAnother(shown: string, response: Response) {
    const problem = new CountersignError(await problemIn(response.clone()));
    if (token !== shown) return !!token;
    if (problem.isEnd && problem.endReason !== "replaced_by_login") end(problem);
    // A code of an API's own says nothing, or at least not that it would not help.
    if (isSecondTry || !token || /^(invalid_cred|credentials_m|token_m)/.test(problem.code)) return false;
    const isNew = !!(await refresh());
    isSecondTry = true;
    return isNew;
  }

  const fetchAs: typeof fetch = async (input, options) => {
    // What is looked at is what is sent: no second reading of the address.
    let request = new Request(input, options);
    const { headers, signal } = request;
    if (!trusted.has(new URL(request.url).origin) || request.mode === "no-cors" || headers.has("Authorization")) {
      return send(request);
    }
    // Redirected by the platform, our headers would go along, to whomever.
    const follows = request.redirect === "follow";
    if (follows) request = new Request(request, { redirect: "manual" });
    const body = options?.body as Partial<ReadableStream & AsyncIterable<unknown>> | undefined;
    const spare = body?.getReader || body?.[Symbol.asyncIterator] ? undefined : request.clone();

    const sendAs = async (dressed: Request) => {
      const shown = token;
      if (shown) {
        dressed.headers.set("Authorization", `Bearer ${shown}`);
        if (!/^(GET|HEAD|OPTIONS)$/.test(dressed.method)) dressed.headers.set("X-CSRFToken", csrf!);
      }
      const response = await send(dressed);
      if (follows && (response.type === "opaqueredirect" || /^30[12378]$/.test(`${response.status}`))) {
        throw new CountersignError({
          code: "redirected",
          detail: `${request.url} leads elsewhere: call that address.`,
        });
      }
      return { shown, response };
    };

    await unless(signal, getAccessToken());
    const { shown, response } = await sendAs(request);
    if (response.status !== 401 || !shown || !(await unless(signal, hasAnother(shown, response))) || !spare) {
      return response;
    }
    response.body?.cancel();
    return (await sendAs(spare)).response;
  };

  const call: Client["call"] = (method, path, body) => read(fetchAs(users + path, init(method, body)));

  // ------------------------------------------------------------- who

  const ask = (evenIfNobody?: boolean): Promise<Known> =>
    (asking ??= (async () => {
      while (await getAccessToken(evenIfNobody)) {
        const during = csrf;
        const answer = await call<UserAnswer>("GET", "/user");
        // Or somebody else has signed in meanwhile.
        if (csrf === during) {
          learn(answer.user);
          break;
        }
      }
      return user;
    })().finally(() => (asking = undefined)));

  return {
    known: () => user,
    getAccessToken: () => getAccessToken(),
    fetch: fetchAs,
    call,

    async user(fresh) {
      if (user !== undefined && !fresh) return user;
      // What was asked before may be answered with what was.
      if (fresh) await asking?.catch(() => {});
      try {
        return (await ask(fresh)) ?? null;
      } catch (error) {
        if (user === null) return user;
        throw error;
      }
    },

    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },

    login: (credentials) =>
      alone(async () => {
        const sent = time();
        const answer = await askPlainly<LoginAnswer>("POST", "/login", credentials);
        take(answer, sent);
        return answer.user;
      }),

    logout: (scope = "local") =>
      alone(async () => {
        try {
          await post("/logout", { scope });
        } catch (error) {
          if (!(error as CountersignError).isEnd) throw error;
          end(error as CountersignError);
          if (scope !== "local") throw error;
        }
        if (scope !== "others") end();
      }),

    close: () => channel?.close(),
  };
}

/** Waits for `work`, but no longer than `signal` wants; the work goes on for whoever else waits. */
const unless = <Answer>(signal: AbortSignal, work: Promise<Answer>) =>
  new Promise<Answer>((resolve, reject) => {
    const abandon = () => reject(signal.reason);
    if (signal.aborted) abandon();
    signal.addEventListener("abort", abandon);
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abandon));
  });
