"""The examples as running programs, and how the tests call them."""

import base64
import os
import subprocess
import sys
import time

import requests

from service import ROOT, SECONDS_TO_STOP, WORK, free_ports

SECONDS_TO_START = 20
FASTAPI, EXPRESS, GO = "fastapi", "express", "go"
# `EXAMPLES=go` tries that one, for whoever has Go.
EXAMPLES = os.environ.get("EXAMPLES", f"{FASTAPI} {EXPRESS}").split()


class Api:
    """One of the examples as a program on loopback; settings are those of its environment."""

    def __init__(self, example, issuer, **settings):
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.example = example
        outside = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSIGN_")}
        ours = {f"COUNTERSIGN_{name.upper()}": str(value) for name, value in settings.items()}
        self.environment = {**outside, "COUNTERSIGN_URL": issuer, "PORT": str(self.port), **ours}
        self.log_file = WORK / "logs" / f"example-{example}.log"
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.process = None

    def start(self):
        uvicorn = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(self.port)]
        command, directory = {
            FASTAPI: (uvicorn, "python"),
            EXPRESS: (["node", "server.js"], "node"),
            GO: ([WORK / "example-go"], "go"),
        }[self.example]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT / "examples" / directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + SECONDS_TO_START
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the example does not start:\n{self.log_file.read_text()}")
            time.sleep(0.05)
        return self

    def answers(self):
        try:
            return self.me("").status_code > 0
        except requests.ConnectionError:
            return False

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def me(self, token, **headers):
        return self.call("GET", "/me", token, **headers)

    def order(self, token, csrf=None):
        shown = {} if csrf is None else {"X-CSRFToken": csrf}
        return self.call("POST", "/orders", token, **shown)

    def call(self, method, path, token, **headers):
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.request(method, self.url + path, headers={**shown, **headers}, timeout=10)


def build_go():
    directory = ROOT / "examples" / "go"
    subprocess.run(["go", "build", "-o", WORK / "example-go", "."], cwd=directory, check=True)


def refused(answer, status, code):
    """The refusal, in the form of the service's own."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status and problem["title"] and problem["detail"]
    shown = answer.headers.get("WWW-Authenticate")
    if status == 401:
        assert shown == ("Bearer" if code == "credentials_missing" else 'Bearer error="invalid_token"')
    else:
        assert shown is None
    assert ("Retry-After" in answer.headers) == (status == 503)


def seconds_until(is_so, most=10):
    """How long it takes until something is so."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < most, f"not within {most} s"
        time.sleep(0.02)
    return time.monotonic() - started


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
