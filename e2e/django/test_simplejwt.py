"""Countersign after simplejwt, with keys of its own: DRF verifies by the published ones."""

import secrets
from pathlib import Path

import pytest
import requests

from site_under_test import A_MONTH_FROM_NOW, PASSWORD, SECRETS, Browser

SETTINGS = {
    "COUNTERSIGN_DJANGO__TOKENS": "simplejwt",
    "COUNTERSIGN_DJANGO__TOKENS_UNTIL": A_MONTH_FROM_NOW,
    "COUNTERSIGN_DJANGO__SECRET_KEY": SECRETS["SHOP_SECRET_KEY"],
}


# Asks the site's API where nobody publishes keys.
WITHOUT_KEYS = """
import jwt
from rest_framework.test import APIRequestFactory
from shop import countersign, views

countersign.KEYS = jwt.PyJWKClient("http://127.0.0.1:9/jwks.json")
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


def test_djangos_rest_framework_verifies_by_the_published_keys(site, browser, pair):
    assert exchange(browser, pair["refresh"]).ok
    shown = {"Authorization": f"Bearer {browser.access}"}
    assert browser.ask_site("GET", "/api", headers=shown).ok
    assert browser.ask_site("POST", "/api", headers=shown).status_code == 403
    csrf = {"X-CSRFToken": browser.csrf}
    assert browser.ask_site("POST", "/api", headers={**shown, **csrf}).ok
    for bad in [browser.cookies["refreshtoken"], pair["access"], browser.access[:-4] + "AAAA", "x"]:
        headers = {"Authorization": f"Bearer {bad}"}
        assert browser.ask_site("GET", "/api", headers=headers).status_code == 401


def test_keys_that_cannot_be_fetched_are_no_refusal_of_the_token(site, browser, pair):
    assert exchange(browser, pair["refresh"]).ok
    said = site.run("shell", "-c", WITHOUT_KEYS.format(token=browser.access))
    assert said.split()[-1] == "503", said


def test_the_class_in_the_documentation_is_the_one_that_was_tried():
    root = Path(__file__).resolve().parent
    shown = (root.parent.parent / "docs" / "django.md").read_text()
    tried = (root / "site" / "shop" / "countersign.py").read_text()
    assert f"```python\n{tried}```" in shown
