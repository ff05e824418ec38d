"""An issuer of the tests' own, which publishes and signs whatever they want."""

import json
import secrets
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec


class Issuer:
    """It never waits: what it publishes is known to whoever follows it within half a second."""

    def __init__(self):
        self.keys = {}
        self.feed = feed()
        self.asked = []
        # Given instead of what is published under a name: `(status, headers, body)`.
        self.instead = {}
        self.add_key("first")
        handler = type("Handler", (Handler,), {"issuer": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://localhost:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def add_key(self, kid):
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1())

    def published_keys(self):
        keys = []
        for kid, key in self.keys.items():
            jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
            keys.append({**jwk, "kid": kid, "alg": "ES256", "use": "sig"})
        return {"keys": keys}

    def sign(self, kid="first", header=(), **claims):
        """A token as the service makes them, but for what is named; None leaves it out."""
        now = int(time.time())
        claims = {
            **{"iss": self.url, "sub": "7", "user_id": 7, "iat": now, "exp": now + 300},
            **{"jti": secrets.token_hex(8), "sid": secrets.token_hex(8), "csrf": "c"},
            **claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"typ": "at+jwt", "kid": kid, **dict(header)}
        header = {name: value for name, value in header.items() if value is not None or name == "typ"}
        return jwt.encode(claims, self.keys[kid], algorithm="ES256", headers=header)

    def asked_for(self, name):
        return [headers for path, headers in self.asked if path.partition("?")[0] == f"/.well-known/{name}"]


class Handler(BaseHTTPRequestHandler):
    issuer = None

    def do_GET(self):
        self.issuer.asked.append((self.path, self.headers))
        name = self.path.partition("?")[0].rpartition("/")[2]
        published = {"jwks.json": self.issuer.published_keys, "revocations": lambda: self.issuer.feed}
        if name in self.issuer.instead:
            status, headers, body = self.issuer.instead[name]
        else:
            status, headers, body = 200, {}, json.dumps(published[name]()).encode()
        self.send_response(status)
        for header in {"Content-Length": len(body), **headers}.items():
            self.send_header(*map(str, header))
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            pass  # It has read enough.

    def log_message(self, *_):
        pass


def feed(**ended):
    return {"issued_at": in_seconds(0), "sessions": [], "users": [], "keys": [], **ended}


def in_seconds(seconds):
    return f"{datetime.now(timezone.utc) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
