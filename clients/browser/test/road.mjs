// The road between clients and the real service: it sees what passes, can end TLS, and has its weather.

import { once } from "node:events";
import { Agent, createServer, request as send } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Listens on a port of its own, before the service is there to lead to. `host` is the name that clients call it
 * by; with `tls`, `{ key, cert }`, they call it by https.
 */
export async function buildRoad({ host = "localhost", tls } = {}) {
  const agent = new Agent({ keepAlive: true });
  let to;
  const road = {
    /** What has passed, in order, but for preflights. */
    passed: [],
    /**
     * What happens to a request: it is `lost` before it arrives, or its answer `swallowed`; it is `refused` in the
     * service's place, as if its token were bad; it arrives again `twice` milliseconds later; it is held up for
     * `delay` milliseconds, and its answer for `delayBack`.
     */
    weather: () => ({}),
    leadTo: (url) => {
      to = url;
    },
    count: (path) => road.passed.filter((each) => each.path === path).length,
    close() {
      server.close();
      server.closeAllConnections();
      agent.destroy();
    },
  };

  async function ask({ method, url, headers }, body) {
    const forwarded = tls && { "x-forwarded-proto": "https", "x-forwarded-for": "127.0.0.1" };
    const onward = send(to + url, { agent, method, headers: { ...headers, ...forwarded } }).end(body);
    const [answer] = await once(onward, "response");
    return { status: answer.statusCode, headers: answer.headers, body: await buffer(answer) };
  }

  const server = (tls ? createSecureServer : createServer)(tls ?? {}, async (request, response) => {
    try {
      const body = await buffer(request);
      const path = request.url.split("?")[0];
      const {
        lost,
        refused,
        swallowed,
        twice,
        delay = 0,
        delayBack = 0,
      } = road.weather({ method: request.method, path }) ?? {};
      if (delay) await sleep(delay);
      if (lost) return response.destroy();
      if (refused) return response.writeHead(401, { "WWW-Authenticate": "Bearer" }).end();
      const answering = ask(request, body);
      if (twice)
        sleep(twice)
          .then(() => ask(request, body))
          .catch(() => {});
      const answer = await answering;
      if (request.method !== "OPTIONS")
        road.passed.push({
          method: request.method,
          path,
          status: answer.status,
          shown: request.headers,
          sets: answer.headers["set-cookie"] ?? [],
        });
      road.hear?.(answer);
      if (delayBack) await sleep(delayBack);
      return swallowed ? response.destroy() : response.writeHead(answer.status, answer.headers).end(answer.body);
    } catch {
      // The client has gone, or the service has.
      return response.destroy();
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  road.url = `${tls ? "https" : "http"}://${host}:${server.address().port}`;
  return road;
}

/** Has every secret that passes noted as one that the service must not log. */
export function noteSecrets(road, service) {
  road.hear = ({ headers, body }) => {
    for (const cookie of headers["set-cookie"] ?? []) {
      const [, value] = cookie.match(/^[\w-]+=([^;]+)/) ?? [];
      if (value) service.mustNotLog(value);
    }
    if (!headers["content-type"]?.startsWith("application/json")) return;
    const { access_token, csrf_token } = JSON.parse(body);
    for (const secret of [access_token, csrf_token]) if (secret) service.mustNotLog(secret);
  };
}
