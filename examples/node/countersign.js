// Verifies Countersign's access tokens in any Node service, without a call for each request.
//
// It follows the issuer's public keys and its revocation feed; `authenticate` asks memory only.
// Node 20.3 or later, `npm install jose`.

import { createHash, timingSafeEqual } from "node:crypto";
import { STATUS_CODES } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

import { createLocalJWKSet, decodeProtectedHeader, errors, jwtVerify } from "jose";

// Of keys, and so of tokens: whatever else is published or written into a header does not count.
const ALGORITHMS = ["ES256", "EdDSA", "Ed25519"];
const CLAIMS = ["iss", "sub", "user_id", "iat", "exp", "jti", "sid", "csrf"];
const SAFE_METHODS = ["GET", "HEAD", "OPTIONS"];
const MAX_TOKEN_BYTES = 8 * 1024;

// Seconds.
const LEEWAY = 10;
const LONGEST_LIFE = 3600; // what `tokens.access_lifetime` allows
const KEYS_ASKED_EVERY = 300;
const KEYS_ASKED_AT_MOST_EVERY = 60; // whatever kids strangers send
const LONGEST_WAIT = 25; // what the issuer grants
const FEED_ASKED_AT_MOST_EVERY = 0.05;
const FEED_POLLED_EVERY = 0.5; // if the issuer, or a proxy before it, does not wait
const RETRIED_EVERY = 2;
const TIMEOUT = 5;

const MAX_KEYS_BYTES = 64 * 1024;
const MAX_FEED_BYTES = 64 * 1024 * 1024;

const REFUSALS = /** @type {const} */ ({
  credentials_missing: [401, "An access token is needed."],
  token_invalid: [401, "The access token is not valid here. Refresh it."],
  token_expired: [401, "The access token has expired. Refresh it."],
  session_ended: [401, "The session has ended. Sign in again."],
  csrf_missing: [403, "Send the CSRF token in X-CSRFToken."],
  csrf_invalid: [403, "The CSRF token is not the one of this session."],
  // Not 401: that would make every page refresh, and sign in again, for nothing.
  keys_unknown: [503, "Tokens cannot be verified at the moment. Try again shortly."],
  revocations_unknown: [503, "Whether the session has ended cannot be told. Try again shortly."],
});

/** The request is not accepted: `status`, `headers` and `problem` (RFC 9457) are the answer. */
export class Refused extends Error {
  /** @param {keyof typeof REFUSALS} code */
  constructor(code) {
    const [status, detail] = REFUSALS[code];
    super(detail);
    this.code = code;
    this.status = status;
    this.problem = { title: STATUS_CODES[status], status, detail, code };
  }

  /** @returns {Record<string, string>} */
  get headers() {
    if (this.status === 503) return { "Retry-After": String(RETRIED_EVERY) };
    if (this.status !== 401) return {};
    // RFC 6750, section 3: no error where no token was shown.
    const error = this.code === "credentials_missing" ? "" : ' error="invalid_token"';
    return { "WWW-Authenticate": `Bearer${error}` };
  }
}

/**
 * What a verified access token says.
 * @typedef {import("jose").JWTPayload & Claimed} Claims
 * @typedef {{ iss: string, sub: string, user_id: number, iat: number, exp: number, jti: string, sid: string, csrf: string }} Claimed
 */

/**
 * @typedef {object} Options
 * @property {string} [audience] this service's name among the issuer's `tokens.audience`
 * @property {string} [feedToken] the issuer's `revocations.token`, if it has one
 * @property {number} [unreachableAfter] seconds of silence after which the feed counts as lost
 * @property {"refuse" | "keepUntilExpiry"} [whenUnreachable] what happens to tokens then: 503, or nothing
 */

/** Verifies the tokens of one issuer, and follows what that publishes, until it is closed. */
export class Verifier {
  #issuer;
  #options;
  /** @type {ReturnType<typeof createLocalJWKSet> | undefined} */
  #keys;
  /** @type {Set<string>} */
  #kids = new Set();
  #keysWantedAgain = 0;
  /** By name: tokens issued before the first time have ended; after the second there are none left.
   * @type {Map<string, [notBefore: number, until: number]>} */
  #ended = new Map();
  #feedHeard = -Infinity;
  #closing = new AbortController();

  /**
   * Resolves when the issuer was asked once, whatever it said: while its keys are unknown, everything is
   * refused with 503.
   * @param {string} issuer its public URL, which is also every token's `iss`
   * @param {Options} [options]
   */
  static async start(issuer, options) {
    const verifier = new Verifier(issuer, options);
    await Promise.all([verifier.#followKeys(), verifier.#followFeed()]);
    return verifier;
  }

  /** Use `start`, which also follows.
   * @param {string} issuer
   * @param {Options} [options] */
  constructor(issuer, { audience, feedToken, unreachableAfter = 30, whenUnreachable = "refuse" } = {}) {
    const { protocol, hostname } = new URL(issuer);
    if (protocol !== "https:" && !["localhost", "127.0.0.1", "[::1]"].includes(hostname)) {
      throw new Error(`${issuer} is not reached by https: anybody on the way could give keys`);
    }
    if (!["refuse", "keepUntilExpiry"].includes(whenUnreachable)) {
      throw new Error(`whenUnreachable is no ${whenUnreachable}`);
    }
    this.#issuer = issuer;
    this.#options = { audience, feedToken, unreachableAfter, whenUnreachable };
  }

  close() {
    this.#closing.abort();
  }

  /**
   * The claims of whoever sends this request; throws `Refused`.
   * @param {import("node:http").IncomingMessage} request
   */
  async authenticate({ method = "", headers }) {
    const [, token] = headers.authorization?.match(/^bearer +(\S+) *$/i) ?? [];
    if (!token) throw new Refused("credentials_missing");
    const claims = await this.verify(token);
    if (!SAFE_METHODS.includes(method)) {
      const shown = String(headers["x-csrftoken"] ?? "");
      if (!csrfMatches(shown, claims.csrf)) throw new Refused(shown ? "csrf_invalid" : "csrf_missing");
    }
    return claims;
  }

  /**
   * The claims of an access token; throws `Refused`.
   * @param {string} token
   */
  async verify(token) {
    if (!this.#keys) throw new Refused("keys_unknown");
    const { kid, claims } = await this.#decode(token, this.#keys);
    if (this.#hasEnded(kid, claims)) throw new Refused("session_ended");
    const { unreachableAfter, whenUnreachable } = this.#options;
    if (whenUnreachable === "refuse" && now() - this.#feedHeard > unreachableAfter) {
      throw new Refused("revocations_unknown");
    }
    return claims;
  }

  /**
   * @param {string} token
   * @param {ReturnType<typeof createLocalJWKSet>} keys
   */
  async #decode(token, keys) {
    try {
      if (token.length > MAX_TOKEN_BYTES) throw new errors.JWTInvalid();
      // Which key was it? A revoked one is known by its name only.
      const { kid } = decodeProtectedHeader(token);
      if (!kid || !this.#kids.has(kid)) {
        this.#wantKeys();
        throw new errors.JWTInvalid();
      }
      // jose holds the header's algorithm against the key's own, and refuses what it does not know in `crit`.
      const { payload } = await jwtVerify(token, keys, {
        algorithms: ALGORITHMS,
        typ: "at+jwt", // a refresh token is no access token
        issuer: this.#issuer,
        ...(this.#options.audience && { audience: this.#options.audience }),
        requiredClaims: CLAIMS,
        maxTokenAge: LONGEST_LIFE, // with it, jose refuses an `iat` of tomorrow
        clockTolerance: LEEWAY,
      });
      // Without a name of ours, a token that has any is meant for somebody else.
      if (!this.#options.audience && payload.aud !== undefined) throw new errors.JWTInvalid();
      return { kid, claims: /** @type {Claims} */ (payload) };
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw new Refused("token_expired");
      if (error instanceof errors.JOSEError || error instanceof TypeError) throw new Refused("token_invalid");
      throw error;
    }
  }

  /**
   * @param {string} kid
   * @param {Claims} claims
   */
  #hasEnded(kid, { sid, sub, iat }) {
    return [`sid ${sid}`, `sub ${sub}`, `kid ${kid}`].some((name) => iat < (this.#ended.get(name)?.[0] ?? -Infinity));
  }

  // Following

  #followKeys() {
    return this.#follow("keys", async () => {
      await this.#askForKeys();
      return KEYS_ASKED_EVERY;
    });
  }

  /** Somebody shows a key that is not known: it may be new, or made up. */
  #wantKeys() {
    if (now() < this.#keysWantedAgain) return;
    this.#keysWantedAgain = now() + KEYS_ASKED_AT_MOST_EVERY;
    this.#askForKeys().catch(() => {}); // they are asked for again in any case
  }

  async #askForKeys() {
    const { body } = await this.#get("jwks.json", MAX_KEYS_BYTES);
    const keys = createLocalJWKSet(body);
    const kids = body.keys.flatMap((/** @type {{ alg: string, kid: string }} */ { alg, kid }) => (ALGORITHMS.includes(alg) ? kid : []));
    if (kids.length === 0) throw new Error(`no key of ${ALGORITHMS.join(" or ")} is published`);
    [this.#keys, this.#kids] = [keys, new Set(kids)];
  }

  #followFeed() {
    /** @type {string | null} */
    let etag = null;
    let wait = 0;
    return this.#follow("revocation feed", async () => {
      const [asked, known, waits] = [now(), etag, wait];
      wait = 0; // until it has answered: whether it is back is to be known at once
      const answer = await this.#get("revocations", MAX_FEED_BYTES, { etag, wait: waits });
      if (answer.body) this.#ended = this.#withWhatEnded(answer.body);
      this.#feedHeard = now();
      etag = answer.etag;
      wait = Math.min(LONGEST_WAIT, Math.floor((this.#options.unreachableAfter * 5) / 6)); // ends before silence counts
      const isNews = etag && etag !== known;
      const hasWaited = waits > 0 && now() - asked > waits / 2;
      return isNews || hasWaited ? FEED_ASKED_AT_MOST_EVERY : FEED_POLLED_EVERY;
    });
  }

  /** @param {Record<string, Record<string, string>[]>} feed */
  #withWhatEnded(feed) {
    // Added to what was known: a list from a node that lags behind brings nothing back to life.
    const ended = new Map(this.#ended);
    for (const [kind, name] of [["sessions", "sid"], ["users", "sub"], ["keys", "kid"]]) {
      for (const entry of list(feed[kind])) {
        const [notBefore, until] = [kind === "users" ? seconds(entry.not_before) : Infinity, seconds(entry.until)];
        const known = ended.get(`${name} ${entry[name]}`) ?? [notBefore, until];
        ended.set(`${name} ${entry[name]}`, [Math.max(notBefore, known[0]), Math.max(until, known[1])]);
      }
    }
    const earliest = Date.now() / 1000 - LEEWAY;
    for (const [name, [, until]] of ended) {
      // A key that is still published would be believed again.
      if (until <= earliest && !(name.startsWith("kid ") && this.#kids.has(name.slice(4)))) ended.delete(name);
    }
    return ended;
  }

  /**
   * Asks once, and then goes on in the background; `ask` tells after how many seconds.
   * @param {string} what
   * @param {() => Promise<number>} ask
   */
  async #follow(what, ask) {
    let failing = false;
    const askOnce = async () => {
      try {
        const next = await ask();
        failing = false;
        return next;
      } catch (error) {
        if (!failing && !this.#closing.signal.aborted) {
          console.warn(`the issuer's ${what} cannot be had, and will be tried again:`, error);
        }
        failing = true;
        return RETRIED_EVERY * (0.5 + Math.random() / 2); // not all services at the same moment
      }
    };
    const goOn = async (/** @type {number} */ next) => {
      while (!this.#closing.signal.aborted) {
        await pause(next * 1000, undefined, { signal: this.#closing.signal, ref: false }).catch(() => {});
        next = await askOnce();
      }
    };
    goOn(await askOnce());
  }

  /**
   * What the issuer publishes under a name; no body if it is as it was.
   * @param {string} name
   * @param {number} maxBytes
   * @param {{ etag?: string | null, wait?: number }} [known]
   */
  async #get(name, maxBytes, { etag = null, wait = 0 } = {}) {
    const url = `${this.#issuer.replace(/\/$/, "")}/.well-known/${name}${wait ? `?wait=${wait}` : ""}`;
    const { feedToken } = this.#options;
    const answer = await fetch(url, {
      headers: {
        ...(etag && { "If-None-Match": etag }),
        ...(feedToken && name === "revocations" && { Authorization: `Bearer ${feedToken}` }),
      },
      redirect: "error",
      signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout((wait + TIMEOUT) * 1000)]),
    });
    if (answer.status === 304) return { etag };
    if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
    return { etag: answer.headers.get("ETag"), body: JSON.parse(await textOf(answer, maxBytes)) };
  }
}

/**
 * @param {Response} answer
 * @param {number} maxBytes
 */
async function textOf(answer, maxBytes) {
  const chunks = [];
  let length = 0;
  for await (const chunk of answer.body ?? []) {
    length += chunk.length;
    if (length > maxBytes) throw new Error(`${answer.url} is longer than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** On a clock that nobody sets. */
const now = () => performance.now() / 1000;

/** A fraction is rounded up, so that nothing is believed again too early.
 * @param {string | undefined} timeOfDay */
function seconds(timeOfDay) {
  const milliseconds = Date.parse(timeOfDay ?? "");
  if (Number.isNaN(milliseconds)) throw new Error(`${timeOfDay} is no time`);
  return Math.ceil(milliseconds / 1000);
}

/** Half a list would say that the other half has not ended.
 * @template T
 * @param {T[] | undefined} entries */
function list(entries) {
  if (!Array.isArray(entries)) throw new Error("the revocation feed has another form");
  return entries;
}

/**
 * Whether this is the CSRF token whose hash an access token carries.
 * @param {string} shown
 * @param {string} claim
 */
function csrfMatches(shown, claim) {
  const [ours, theirs] = [createHash("sha256").update(shown).digest("base64url"), claim].map((text) => Buffer.from(text));
  return ours.length === theirs.length && timingSafeEqual(ours, theirs);
}

/**
 * Express middleware: only requests of users pass, and `response.locals.user` has their claims.
 * @param {Verifier} verifier
 * @returns {import("express").RequestHandler}
 */
export function requireUser(verifier) {
  return async (request, response, next) => {
    try {
      response.locals.user = await verifier.authenticate(request);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      response.status(error.status).set(error.headers).type("application/problem+json");
      response.send(JSON.stringify(error.problem));
      return;
    }
    next();
  };
}
