// For programs: Node's `fetch` keeps no cookies.

/** A cookie jar, as `tough-cookie` has it. */
export interface CookieJar {
  getCookieString(url: string): string | Promise<string>;
  setCookie(cookie: string, url: string): unknown;
}

/** A `fetch` for `createClient` that keeps its cookies in `jar`. One jar for one user. */
export function withCookies(jar: CookieJar, send: typeof fetch = fetch): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const { credentials, redirect, url } = request;
    // Redirected by the platform, the cookies would go along.
    if (credentials !== "include" || redirect === "follow") return send(request);
    const cookies = await jar.getCookieString(url);
    if (cookies) request.headers.set("Cookie", cookies);
    const response = await send(request);
    for (const cookie of response.headers.getSetCookie()) await jar.setCookie(cookie, url);
    return response;
  };
}
