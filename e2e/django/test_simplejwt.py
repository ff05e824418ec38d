"""Countersign after simplejwt, with keys of its own: DRF verifies by the published ones.

The site has the class of `examples/python`.
"""

import secrets
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
import requests

from databases import wait_until
from site_under_test import A_MONTH_FROM_NOW, PASSWORD, SECRETS, Browser

SETTINGS = {
    "COUNTERSIGN_DJANGO__TOKENS": "simplejwt",
    "COUNTERSIGN_DJANGO__TOKENS_UNTIL": A_MONTH_FROM_NOW,
    "COUNTERSIGN_DJANGO__SECRET_KEY": SECRETS["SHOP_SECRET_KEY"],
}


# Asks the site's API where nobody publishes keys.
WITHOUT_KEYS = """
import countersign_drf
from countersign import Verifier
from rest_framework.test import APIRequestFactory
from shop import views

countersign_drf.verifier = Verifier("http://127.0.0.1:9")
request = APIRequestFactory().get("/api", HTTP_AUTHORIZATION="Bearer {token}")
print(views.api(request).status_code)
"""


@pytest.fixture
def pair(site):
    """What simplejwt gives to someone who signs in."""
    username = f"user-{secrets.token_hex(4)}"
    site.add_user(username)
    body = {"username": username, "password": PASSWORD}
    answer = requests.post(f"{site.url}/simplejwt/login", json=body, timeout=60)
    assert answer.ok, answer.text
    return answer.json()


def exchange(browser, token):
    return browser.take(browser.ask("POST", "/users/refresh_token", json={"refresh": token}))


def test_a_refresh_token_of_simplejwt_is_exchanged_once(site, service, browser, pair):
    assert exchange(browser, pair["refresh"]).ok
    assert browser.me().ok and browser.refresh().ok
    answer = exchange(Browser(site, service), pair["refresh"])
    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_reused")
    assert browser.me().status_code == 401


def test_one_that_the_site_has_revoked_is_refused(site, browser, pair):
    body = {"refresh": pair["refresh"]}
    assert requests.post(f"{site.url}/simplejwt/blacklist", json=body, timeout=60).ok
    answer = exchange(browser, pair["refresh"])
    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_invalid")


def test_an_access_token_of_simplejwt_is_none(browser, pair):
    assert exchange(browser, pair["access"]).json()["code"] == "refresh_invalid"
    browser.access = pair["access"]
    assert browser.me().status_code == 401


def bearer(browser, **headers):
    return {"Authorization": f"Bearer {browser.access}", **headers}


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    shown = 'Bearer error="invalid_token"' if status == 401 else None
    assert answer.headers.get("WWW-Authenticate") == shown


def test_djangos_rest_framework_verifies_by_the_published_keys(site, browser, pair):
    assert exchange(browser, pair["refresh"]).ok
    shown = bearer(browser)
    assert browser.ask_site("GET", "/api", headers=shown).ok
    refused(browser.ask_site("POST", "/api", headers=shown), 403, "csrf_missing")
    wrong = {**shown, "X-CSRFToken": browser.csrf.swapcase()}
    refused(browser.ask_site("POST", "/api", headers=wrong), 403, "csrf_invalid")
    csrf = {"X-CSRFToken": browser.csrf}
    assert browser.ask_site("POST", "/api", headers={**shown, **csrf}).ok
    brackets = urlsafe_b64encode(b"[" * 5000).decode()
    wrong = [browser.cookies["refreshtoken"], pair["access"], browser.access[:-4] + "AAAA", "x"]
    for bad in [*wrong, f"{brackets}.e30.e30"]:
        headers = {"Authorization": f"Bearer {bad}"}
        refused(browser.ask_site("GET", "/api", headers=headers), 401, "token_invalid")
    nobody = browser.ask_site("GET", "/api")
    assert (nobody.status_code, nobody.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_djangos_masked_token_passes(site, browser, pair):
    """As `{% csrf_token %}` writes it into a page of Django's, from the cookie that we set."""
    assert exchange(browser, pair["refresh"]).ok
    masked = browser.ask_site("GET", "/form").json()["csrfmiddlewaretoken"]
    assert len(masked) == 64
    assert browser.ask_site("POST", "/api", headers=bearer(browser, **{"X-CSRFToken": masked})).ok


def test_a_session_that_ended_is_refused_by_the_site_within_a_second(site, browser, pair):
    assert exchange(browser, pair["refresh"]).ok
    shown = bearer(browser)
    assert browser.ask_site("GET", "/api", headers=shown).ok
    assert browser.ask("POST", "/users/logout").status_code == 204
    ended = time.monotonic()
    wait_until(lambda: not browser.ask_site("GET", "/api", headers=shown).ok, "it is refused")
    assert time.monotonic() - ended < 1
    refused(browser.ask_site("GET", "/api", headers=shown), 401, "session_ended")


def test_keys_that_cannot_be_fetched_are_no_refusal_of_the_token(site, browser, pair):
    assert exchange(browser, pair["refresh"]).ok
    said = site.run("shell", "-c", WITHOUT_KEYS.format(token=browser.access))
    assert said.split()[-1] == "503", said


def test_the_class_in_the_documentation_is_the_one_that_was_tried():
    root = Path(__file__).resolve().parent.parent.parent
    shown = (root / "docs" / "django.md").read_text()
    tried = (root / "examples" / "python" / "countersign_drf.py").read_text()
    assert f"```python\n{tried}```" in shown
