"""Verifies Countersign's access tokens in any Python service, without a call for each request.

One thread follows the issuer's public keys and one its revocation feed; `authenticate` asks memory only.
Python 3.11 or later, `pip install "pyjwt[crypto]>=2.10"`.
"""

import hashlib
import json
import logging
import math
import random
import string
import threading
import time
from base64 import urlsafe_b64encode
from datetime import datetime
from hmac import compare_digest
from http import HTTPStatus
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt

log = logging.getLogger("countersign")

# Of keys, and so of tokens: whatever else is published or written into a header does not count.
ALGORITHMS = {"ES256", "EdDSA"}
CLAIMS = ["iss", "sub", "user_id", "iat", "exp", "jti", "sid", "csrf"]
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
MAX_TOKEN_BYTES = 8 * 1024

# Seconds.
LEEWAY = 10
KEYS_ASKED_EVERY = 300
KEYS_ASKED_AT_MOST_EVERY = 60  # whatever kids strangers send
LONGEST_WAIT = 25  # what the issuer grants
FEED_ASKED_AT_MOST_EVERY = 0.05
FEED_POLLED_EVERY = 0.5  # if the issuer, or a proxy before it, does not wait
RETRIED_EVERY = 2
TIMEOUT = 5

MAX_KEYS_BYTES = 64 * 1024
MAX_FEED_BYTES = 64 * 1024 * 1024

REFUSALS = {
    "credentials_missing": (401, "An access token is needed."),
    "token_invalid": (401, "The access token is not valid here. Refresh it."),
    "token_expired": (401, "The access token has expired. Refresh it."),
    "session_ended": (401, "The session has ended. Sign in again."),
    "csrf_missing": (403, "Send the CSRF token in X-CSRFToken."),
    "csrf_invalid": (403, "The CSRF token is not the one of this session."),
    # Not 401: that would make every page refresh, and sign in again, for nothing.
    "keys_unknown": (503, "Tokens cannot be verified at the moment. Try again shortly."),
    "revocations_unknown": (503, "Whether the session has ended cannot be told. Try again shortly."),
}


class Refused(Exception):
    """The request is not accepted: `status`, `headers` and `problem` (RFC 9457) are the answer."""

    def __init__(self, code):
        self.code = code
        self.status, self.detail = REFUSALS[code]
        super().__init__(self.detail)

    @property
    def headers(self):
        if self.status == 503:
            return {"Retry-After": str(RETRIED_EVERY)}
        if self.status != 401:
            return {}
        # RFC 6750, section 3: no error where no token was shown.
        error = "" if self.code == "credentials_missing" else ' error="invalid_token"'
        return {"WWW-Authenticate": f"Bearer{error}"}

    @property
    def problem(self):
        title = HTTPStatus(self.status).phrase
        return {"title": title, "status": self.status, "detail": self.detail, "code": self.code}


class Verifier:
    """Verifies the tokens of one issuer, and follows what that publishes.

    It follows from the first use in a process on, also in one that a server forks; `start` does so before.

    `issuer`            its public URL, which is also every token's `iss`
    `audience`          this service's name among the issuer's `tokens.audience`
    `feed_token`        the issuer's `revocations.token`, if it has one
    `unreachable_after` seconds of silence after which the feed counts as lost
    `when_unreachable`  what happens to tokens then: "refuse" them with 503, or "keep_until_expiry"
    """

    def __init__(
        self, issuer, audience=None, *,
        feed_token=None, unreachable_after=30, when_unreachable="refuse",
    ):  # fmt: skip
        url = urlsplit(issuer)
        if url.scheme != "https" and url.hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError(f"{issuer} is not reached by https: anybody on the way could give keys")
        if when_unreachable not in {"refuse", "keep_until_expiry"}:
            raise ValueError(f"when_unreachable is no {when_unreachable}")
        self._issuer = issuer
        self._audience = audience
        self._feed_headers = {"Authorization": f"Bearer {feed_token}"} if feed_token else {}
        self._unreachable_after = unreachable_after
        self._refuse_when_lost = when_unreachable == "refuse"

        # Replaced whole and never changed, so that nobody has to hold a lock to read them.
        self._keys = {}
        self._ended = {}
        self._feed_heard = -math.inf

        self._starting = threading.Lock()
        self._threads = []
        self._keys_wanted = threading.Event()
        self._keys_asked = threading.Event()
        self._feed_asked = threading.Event()

    def authenticate(self, method, authorization, csrf_token):
        """The claims of whoever sends a request with these headers; raises `Refused`."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused("credentials_missing")
        claims = self.verify(token.strip())
        if method not in SAFE_METHODS and not csrf_matches(csrf_token or "", claims["csrf"]):
            raise Refused("csrf_invalid" if csrf_token else "csrf_missing")
        return claims

    def verify(self, token):
        """The claims of an access token; raises `Refused`."""
        self.start()
        if not self._keys:
            raise Refused("keys_unknown")
        try:
            kid, claims = self._decode(token)
        except jwt.ExpiredSignatureError:
            raise Refused("token_expired") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            # The last is what JSON of a thousand brackets makes.
            raise Refused("token_invalid") from None
        if self._has_ended(kid, claims):
            raise Refused("session_ended")
        if self._refuse_when_lost and self._is_feed_lost():
            raise Refused("revocations_unknown")
        return claims

    def _decode(self, token):
        if len(token) > MAX_TOKEN_BYTES:
            raise jwt.InvalidTokenError
        header = jwt.get_unverified_header(token)
        # A refresh token is no access token; what is critical must be understood, and nothing is.
        if header.get("typ") != "at+jwt" or "crit" in header:
            raise jwt.InvalidTokenError
        kid = header.get("kid")
        key = self._keys.get(kid)
        if key is None:
            self._keys_wanted.set()
            raise jwt.InvalidTokenError
        claims = jwt.decode(
            token,
            key,
            # The key's own algorithm: the header's is only compared with it.
            algorithms=[key.algorithm_name],
            issuer=self._issuer,
            # Without one of ours, a token that names any is meant for somebody else.
            audience=self._audience,
            leeway=LEEWAY,
            options={"require": CLAIMS},
        )
        return kid, claims

    def _has_ended(self, kid, claims):
        about = ("sid", claims["sid"]), ("sub", claims["sub"]), ("kid", kid)
        return any(claims["iat"] < self._ended[name][0] for name in about if name in self._ended)

    def _is_feed_lost(self):
        return time.monotonic() - self._feed_heard > self._unreachable_after

    # Following

    def start(self):
        """Follows from now on; the first time, it waits until the issuer was asked once."""
        if self._is_following():
            return
        with self._starting:
            if not self._is_following():
                followers = (self._follow_keys, self._follow_feed)
                self._threads = [threading.Thread(target=each, daemon=True) for each in followers]
                for thread in self._threads:
                    thread.start()
        for asked in (self._keys_asked, self._feed_asked):
            asked.wait(TIMEOUT)

    def _is_following(self):
        # A process that was forked has no threads but one.
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def _follow_keys(self):
        failing = False
        earliest = 0
        while True:
            try:
                self._keys = keys_of(self._get("jwks.json", MAX_KEYS_BYTES)[1])
                failing = False
            except Exception as error:
                failing = complain("keys", error, failing)
            self._keys_asked.set()
            self._keys_wanted.wait(RETRIED_EVERY if failing else KEYS_ASKED_EVERY)
            time.sleep(max(0, earliest - time.monotonic()))
            self._keys_wanted.clear()
            earliest = time.monotonic() + KEYS_ASKED_AT_MOST_EVERY if self._keys else 0

    def _follow_feed(self):
        failing = False
        etag = None
        wait = 0
        while True:
            asked = time.monotonic()
            try:
                known = etag
                etag, feed = self._get("revocations", MAX_FEED_BYTES, etag, wait, self._feed_headers)
                if feed is not None:
                    self._ended = self._with_what_ended(feed)
                self._feed_heard = time.monotonic()
                failing = False
                is_news = etag not in {None, known}
                has_waited = self._feed_heard - asked > wait / 2 > 0
                pause = FEED_ASKED_AT_MOST_EVERY if is_news or has_waited else FEED_POLLED_EVERY
                # It ends before the silence would count.
                wait = min(LONGEST_WAIT, int(self._unreachable_after * 5 / 6))
            except Exception as error:
                failing = complain("revocation feed", error, failing)
                # Not all services at the same moment; and then for an answer that comes at once.
                pause = random.uniform(RETRIED_EVERY / 2, RETRIED_EVERY)
                wait = 0
            self._feed_asked.set()
            time.sleep(pause)

    def _with_what_ended(self, feed):
        """What is known to have ended, by name: tokens older than the first time; until the second."""
        # Added to what was known: a list from a node that lags behind brings nothing back to life.
        ended = dict(self._ended)
        for kind, name in (("sessions", "sid"), ("users", "sub"), ("keys", "kid")):
            for entry in feed[kind]:
                about = name, entry[name]
                not_before = seconds(entry["not_before"]) if kind == "users" else math.inf
                times = not_before, seconds(entry["until"])
                ended[about] = tuple(map(max, times, ended.get(about, times)))
        now = time.time() - LEEWAY
        # A key that is still published here would be believed again.
        return {
            (name, value): times
            for (name, value), times in ended.items()
            if times[1] > now or (name == "kid" and value in self._keys)
        }

    def _get(self, name, max_bytes, etag=None, wait=0, headers={}):
        """What the issuer publishes under a name, as `(etag, JSON)`; no JSON if it is as it was."""
        url = f"{self._issuer.rstrip('/')}/.well-known/{name}" + (f"?wait={wait}" if wait else "")
        headers = {**headers, "If-None-Match": etag} if etag else headers
        try:
            with HTTP.open(Request(url, headers=headers), timeout=wait + TIMEOUT) as answer:
                body = answer.read(max_bytes + 1)
                if len(body) > max_bytes:
                    raise ValueError(f"{url} is longer than {max_bytes} bytes")
                return answer.headers["ETag"], json.loads(body)
        except HTTPError as error:
            error.close()
            if error.code == 304:
                return etag, None
            raise


class NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


HTTP = build_opener(NoRedirects)


def keys_of(published):
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(published).keys}
    keys = {kid: key for kid, key in keys.items() if kid and key.algorithm_name in ALGORITHMS}
    if not keys:
        raise ValueError(f"no key of {' or '.join(sorted(ALGORITHMS))} is published")
    return keys


def complain(what, error, failing):
    """Once for each time that the issuer is lost."""
    if not failing:
        log.warning("the issuer's %s cannot be had, and will be tried again: %s", what, error)
    return True


def seconds(time_of_day):
    # A fraction is rounded up, so that nothing is believed again too early.
    return math.ceil(datetime.fromisoformat(time_of_day).timestamp())


CSRF_CHARACTERS = string.ascii_letters + string.digits


def csrf_matches(shown, claim):
    """Whether this is the CSRF token whose hash an access token carries."""
    if len(shown) == 64:
        shown = unmasked(shown)
    digest = hashlib.sha256(shown.encode(errors="replace")).digest()
    return compare_digest(urlsafe_b64encode(digest).rstrip(b"="), claim.encode())


def unmasked(shown):
    """As Django's `{% csrf_token %}` writes the token: 32 characters of mask, 32 shifted by them."""
    place = CSRF_CHARACTERS.find
    shifted = (place(cipher) - place(mask) for mask, cipher in zip(shown[:32], shown[32:]))
    return "".join(CSRF_CHARACTERS[shift] for shift in shifted)
