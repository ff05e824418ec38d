"""Countersign and a Django site that followed the recipe, on one database and one secret."""

import secrets

import jwt
import pytest

from databases import wait_until
from site_under_test import A_MONTH_FROM_NOW, PASSWORD, SECRETS, Browser

SETTINGS = {
    "COUNTERSIGN_TOKENS__ALGORITHM": "HS256",
    "COUNTERSIGN_TOKENS__SHARED_SECRET": SECRETS["SHOP_SECRET_KEY"],
    "COUNTERSIGN_TOKENS__HEADER_SCHEMES": "Bearer,Token",
    "COUNTERSIGN_TOKENS__USER_CLAIMS": "username,is_superuser,groups,permissions",
    "COUNTERSIGN_DJANGO__TOKENS": "recipe",
    "COUNTERSIGN_DJANGO__TOKENS_UNTIL": A_MONTH_FROM_NOW,
    "COUNTERSIGN_DJANGO__SECRET_KEY": SECRETS["SHOP_REFRESH_TOKEN_SECRET"],
}

HASHERS = ["argon2", "pbkdf2_sha256", "pbkdf2_sha1", "bcrypt_sha256", "bcrypt", "scrypt", "md5"]

# A change that only the database tells of: 250 ms in SQLite, a second or so in PostgreSQL; the rest is for a
# busy machine.
SECONDS_TO_HEAR = 5


@pytest.fixture
def someone(site):
    """A user of the site's, and nobody else's in these tests."""
    username = f"user-{secrets.token_hex(4)}"
    site.add_user(username)
    return username


def sign_in_at_the_site(browser, username):
    answer = browser.ask_site("POST", "/login", json={"username": username, "password": PASSWORD})
    assert answer.ok, answer.text
    return answer.json()["access_token"]


@pytest.mark.parametrize("hasher", HASHERS)
def test_a_password_of_every_hasher_signs_in_here_and_there(site, browser, hasher):
    username = f"by-{hasher}"
    site.add_user(username, hasher)
    kept_by = site.user(username)["password"].partition("$")[0]
    assert kept_by == hasher
    assert browser.sign_in(username, "wrong").status_code == 401
    assert browser.sign_in(username).ok
    assert browser.sign_in(username).ok, "also after it was hashed anew"
    assert "signed in" in site.manage("signin", username, PASSWORD)


def test_only_what_was_meant_to_change_changes(site, service, browser, someone):
    other = f"other-{someone}"
    site.add_user(other)
    sign_in_at_the_site(browser, other)
    before = site.tables()
    # Whatever Countersign does that is no sign-in leaves every user as they were.
    assert browser.refresh(shown=browser.cookies["csrftoken"]).ok
    assert browser.me().ok and browser.refresh().ok
    assert browser.ask("POST", "/users/logout", json={"scope": "local"}).status_code == 204
    assert Browser(site, service).sign_in(someone, "wrong").status_code == 401
    assert site.tables() == before

    # A sign-in is noted as Django notes it, and a password may be hashed anew.
    assert Browser(site, service).sign_in(someone).ok
    after = site.tables()
    assert after["shapes"] == before["shapes"]
    was, is_now = before["users"].pop(someone), after["users"].pop(someone)
    assert after["users"] == before["users"]
    changed = {name for name in was if was[name] != is_now[name]}
    assert "last_login" in changed and changed <= {"last_login", "password"}


def test_the_tables_of_django_are_as_django_made_them(site, service):
    shapes = site.tables()["shapes"]
    ours = {table for table in shapes if table.startswith("countersign_")}
    assert ours, "Countersign's tables stand beside them"
    # What Django would have to migrate is nothing.
    assert "No changes detected" in site.run("makemigrations", "--check", "--dry-run")
    site.run("migrate", "--check")


def test_whoever_is_signed_in_at_the_site_stays_signed_in(site, service, browser, someone):
    sign_in_at_the_site(browser, someone)
    legacy = dict(browser.cookies)
    assert browser.refresh(shown=browser.cookies["csrftoken"]).ok
    assert browser.me().json()["user"]["username"] == someone
    assert browser.cookies["refreshtoken"] != legacy["refreshtoken"]
    assert browser.refresh().ok

    # The token is used up: shown again it is theft, and ends the session.
    thief = Browser(site, service)
    thief.cookies = legacy
    answer = thief.refresh(shown=legacy["csrftoken"])
    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_reused")
    assert browser.me().status_code == 401


def test_a_page_with_the_masked_token_takes_over_too(browser, someone):
    sign_in_at_the_site(browser, someone)
    masked = browser.ask_site("GET", "/form").json()["csrfmiddlewaretoken"]
    assert len(masked) == 64
    wrong = masked[:-1] + ("a" if masked[-1] != "a" else "b")
    assert browser.refresh(shown=wrong).json()["code"] == "csrf_invalid"
    assert browser.refresh(shown=masked).ok


def test_an_access_token_of_the_recipe_is_no_refresh_token(browser, someone):
    access = sign_in_at_the_site(browser, someone)
    browser.cookies["refreshtoken"] = access
    answer = browser.refresh(shown=browser.cookies["csrftoken"])
    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_invalid")
    browser.access = access
    assert browser.me().json()["code"] == "token_invalid"


def test_the_recipes_own_code_takes_our_access_token(site, browser, someone):
    assert browser.sign_in(someone).ok
    shown = {"Authorization": f"Token {browser.access}"}
    refused = browser.ask_site("GET", "/recipe_api", headers={"Authorization": "Token x"})
    assert refused.status_code == 401
    # It checks the CSRF token of the cookie that we set, by Django's middleware.
    assert browser.ask_site("GET", "/recipe_api", headers=shown).json()["username"] == someone
    answer = browser.ask_site("POST", "/recipe_api", headers=shown)
    assert answer.status_code == 403 and "CSRF" in answer.text
    csrf = {"X-CSRFToken": browser.csrf}
    assert browser.cookies["csrftoken"] == browser.csrf
    assert browser.ask_site("POST", "/recipe_api", headers={**shown, **csrf}).ok
    # And we take the word that its clients write.
    headers = {**shown, "Origin": browser.service.url}
    assert browser.call("GET", browser.service.url + "/users/user", headers=headers).ok


def test_djangos_pages_and_ours_share_the_csrf_cookie(browser, someone):
    assert browser.sign_in(someone).ok
    masked = browser.ask_site("GET", "/form").json()["csrfmiddlewaretoken"]
    assert len(masked) == 64 and browser.cookies["csrftoken"] == browser.csrf
    # Django's page changes something here.
    answer = browser.ask("PATCH", "/users/user", shown=masked, json={"first_name": "Ana"})
    assert answer.json()["user"]["first_name"] == "Ana"
    assert browser.refresh(shown=masked).ok


def test_a_password_that_django_changes_is_at_once_the_password_here(
    site, service, browser, admin, someone
):
    admin.set_password(site.user(someone)["id"], "blue/umbrella+of&bob")
    service.must_not_log("blue/umbrella+of&bob")
    assert browser.sign_in(someone).status_code == 401
    assert browser.sign_in(someone, "blue/umbrella+of&bob").ok


def test_a_password_that_we_change_is_at_once_the_password_in_django(site, service, browser, someone):
    service.must_not_log("a new and longer one")
    assert browser.sign_in(someone).ok
    body = {"current_password": PASSWORD, "new_password": "a new and longer one"}
    assert browser.ask("POST", "/users/password", json=body).status_code == 204
    assert "signed in" in site.manage("signin", someone, "a new and longer one")
    answer = browser.ask_site("POST", "/login", json={"username": someone, "password": PASSWORD})
    assert not answer.ok
    # Django may hash it anew at its own sign-in; it stays the password here.
    assert Browser(site, service).sign_in(someone, "a new and longer one").ok


def test_whoever_is_deactivated_in_the_admin_site_is_refused(site, browser, admin, someone):
    assert browser.sign_in(someone).ok and browser.me().ok
    admin.change_user(site.user(someone)["id"], is_active=False)
    wait_until(lambda: not browser.me().ok, "the deactivation is heard of", SECONDS_TO_HEAR)
    answer = browser.me().json()
    assert (answer["code"], answer["end_reason"]) == ("session_ended", "user_deactivated")
    assert browser.refresh().json()["end_reason"] == "user_deactivated"
    assert browser.sign_in(someone).json()["code"] == "user_inactive"
    admin.change_user(site.user(someone)["id"], is_active="on")
    wait_until(lambda: browser.sign_in(someone).ok, "and signs in again", SECONDS_TO_HEAR)


def test_whoever_we_deactivate_is_refused_by_django(site, service, browser, someone):
    assert browser.sign_in(someone).ok
    service.run("user", "deactivate", someone)
    shown = {"Authorization": f"Token {browser.access}"}
    assert browser.ask_site("GET", "/recipe_api", headers=shown).status_code == 401
    assert site.user(someone)["is_active"] is False


def test_groups_and_permissions_are_in_the_token(site, browser, someone):
    powers = ["--group", "Éditeurs", "--of-group", "auth.view_user", "--own", "auth.add_group"]
    site.manage("grantpowers", someone, *powers)
    assert browser.sign_in(someone).ok
    claims = jwt.decode(browser.access, SECRETS["SHOP_SECRET_KEY"], algorithms=["HS256"])
    assert claims["groups"] == ["Éditeurs"]
    assert claims["permissions"] == ["auth.add_group", "auth.view_user"]
    assert claims["username"] == someone and claims["is_superuser"] is False
    # What Django takes away is gone at the next refresh.
    site.manage("takepowers", someone)
    assert browser.refresh().ok
    claims = jwt.decode(browser.access, SECRETS["SHOP_SECRET_KEY"], algorithms=["HS256"])
    assert claims["permissions"] == ["auth.view_user"]
