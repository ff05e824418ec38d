"""A page of the app, as the tests play it: its tokens in memory, its cookies in a jar."""

import sys
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from service import Service  # noqa: E402, F401

APP = "http://localhost:3000"
STRANGER = "https://evil.example"
ANA = {"username": "ana", "password": "correct horse battery staple"}
BOB = {"username": "bob", "password": "blue/umbrella+of&bob"}

# What shows the access token; the others go by the cookie.
BY_ACCESS_TOKEN = ("/users/user", "/users/sessions", "/users/password")


class Page(requests.Session):
    """A page of the app: keeps its two tokens in memory and its cookies in the jar.

    Every token that it sends or gets is one that the service must not log.
    """

    def __init__(self, service):
        super().__init__()
        self.service = service
        self.headers["Origin"] = APP
        self.access = self.csrf = None
        self.hooks["response"].append(self.remember_secrets)

    def remember_secrets(self, answer, **_):
        if answer.headers.get("Content-Type", "").startswith("application/json"):
            body = answer.json()
            for name in ("access_token", "csrf_token"):
                if name in body:
                    self.service.must_not_log(body[name])
        for cookie in answer.cookies:
            self.service.must_not_log(cookie.value)
        for pair in answer.request.headers.get("Cookie", "").split("; "):
            self.service.must_not_log(pair.partition("=")[2])
        self.service.must_not_log(answer.request.headers.get("Authorization", "").partition(" ")[2])

    def call(self, method, path, csrf=True, **options):
        """Calls the API, showing what the page has; options and headers given go first."""
        shown = {}
        if self.access and path.startswith(BY_ACCESS_TOKEN):
            shown["Authorization"] = f"Bearer {self.access}"
        if csrf and self.csrf and method != "GET":
            shown["X-CSRFToken"] = self.csrf
        headers = {**shown, **options.pop("headers", {})}
        return self.request(method, self.service.url + path, headers=headers, timeout=30, **options)

    def sign_in(self, **body):
        return self.take(self.call("POST", "/users/login", **(body or {"json": ANA})))

    def refresh(self):
        return self.take(self.call("POST", "/users/refresh_token"))

    def take(self, answer):
        if answer.ok:
            self.access, self.csrf = answer.json()["access_token"], answer.json()["csrf_token"]
        return answer

    @property
    def refresh_token(self):
        return self.cookies["refreshtoken"]


def session_cookies(page):
    """The names in the jar, but that by which the device is known again: it outlives the session."""
    return {cookie.name for cookie in page.cookies} - {"knowndevice"}


def with_cookies(**cookies):
    """Exactly these cookies, whatever is in the jar."""
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


def refused(answer, status, code):
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert problem["status"] == status
    return problem


def still_signed_in(page):
    return page.call("GET", "/users/user").ok and page.refresh().ok
