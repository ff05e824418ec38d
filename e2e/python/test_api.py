"""The service as a Python client and a Python resource server meet it."""

import base64
import hashlib
import http.client
import re
import time

import jwt
import pytest
import requests

from client import (
    ANA,
    APP,
    BOB,
    STRANGER,
    Page,
    Service,
    refused,
    session_cookies,
    still_signed_in,
    with_cookies,
)


@pytest.fixture(scope="module")
def service():
    """One service for all tests; when they are done, its log must have kept every secret."""
    with Service.on_free_ports("python", origins=[APP]) as service:
        service.create_superuser(**ANA)
        service.add_user(**BOB)
        service.start()
        yield service
        assert service.stop() == 0
        # The search means something only if the log is there, and talkative.
        for event in ("login_succeeded", "session_refreshed", "refresh_reused", "csrf_refused"):
            assert f'"{event}"' in service.log()
        assert service.leaked() == []


@pytest.fixture
def page(service):
    """A page where ana has signed in."""
    page = Page(service)
    assert page.sign_in().status_code == 200
    return page


@pytest.fixture
def bobs_page(service):
    page = Page(service)
    assert page.sign_in(json=BOB).status_code == 200
    return page


def sha256_base64url(text):
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def verify(service, token, algorithm="ES256"):
    """What a resource server does: it knows the public URL and one algorithm, and nothing else."""
    discovery = f"{service.url}/.well-known/oauth-authorization-server"
    about = requests.get(discovery, timeout=30).json()
    assert about["issuer"] == service.url
    key = jwt.PyJWKClient(about["jwks_uri"]).get_signing_key_from_jwt(token)
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    return jwt.decode(
        token,
        key,
        algorithms=[algorithm],
        issuer=service.url,
        options={"require": ["iss", "sub", "iat", "exp", "jti"]},
    )


# Signing in


@pytest.mark.parametrize(
    "form",
    [
        {"json": ANA},
        {"data": ANA},
        {"files": {name: (None, value) for name, value in ANA.items()}},
    ],
    ids=["json", "form", "multipart"],
)
def test_signs_in_with_every_kind_of_body(service, form):
    page = Page(service)
    answer = page.sign_in(**form)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 300)
    assert body["user"]["username"] == "ana"
    assert page.refresh_token not in answer.text
    assert page.cookies["csrftoken"] == body["csrf_token"]


def test_scripts_cannot_read_the_refresh_cookie(page):
    cookies = {cookie.name: cookie for cookie in page.cookies}
    assert cookies["refreshtoken"].has_nonstandard_attr("HttpOnly")
    assert not cookies["csrftoken"].has_nonstandard_attr("HttpOnly")


def test_a_password_typed_anywhere_is_refused_and_never_logged(service):
    wrong, misplaced = "a wrong & secret password", "typed%into/the wrong field"
    service.must_not_log(wrong)
    service.must_not_log(misplaced)
    page = Page(service)
    for attempt in ({**ANA, "password": wrong}, {"username": misplaced, "password": wrong}):
        for form in ({"json": attempt}, {"data": attempt}):
            refused(page.sign_in(**form), 401, "invalid_credentials")
    assert not page.cookies


# Access tokens


def test_a_resource_server_verifies_access_tokens_with_the_published_keys(service, page):
    claims = verify(service, page.access)
    assert (claims["sub"], claims["user_id"]) == ("1", 1)
    assert claims["exp"] - claims["iat"] == 300
    assert claims["csrf"] == sha256_base64url(page.csrf)


def test_a_resource_server_refuses_another_algorithm_and_changed_claims(service, page):
    with pytest.raises(jwt.InvalidAlgorithmError):
        verify(service, page.access, algorithm="RS256")
    head, claims, signature = page.access.split(".")
    text = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
    changed = text.replace(b'"user_id":1', b'"user_id":2')
    assert changed != text
    forged = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
    forged = f"{head}.{forged}.{signature}"
    with pytest.raises(jwt.InvalidSignatureError):
        verify(service, forged)
    answer = page.call("GET", "/users/user", headers={"Authorization": f"Bearer {forged}"})
    refused(answer, 401, "token_invalid")


def test_a_resource_server_verifies_eddsa_too():
    settings = {"COUNTERSIGN_TOKENS__ALGORITHM": "EdDSA"}
    with Service.on_free_ports("python-eddsa", origins=[APP], **settings) as service:
        service.create_superuser(**ANA)
        page = Page(service.start())
        page.sign_in()
        claims = verify(service, page.access, algorithm="EdDSA")
        assert claims["csrf"] == sha256_base64url(page.csrf)
        assert service.stop() == 0
        assert service.leaked() == []


def test_no_token_a_broken_token_and_a_refresh_token_are_refused(page):
    mine = f"{page.service.url}/users/user"
    refused(requests.get(mine, timeout=30), 401, "credentials_missing")
    for token, code in [
        ("not-a-token", "token_malformed"),
        ("e30.e30", "token_malformed"),
        (page.refresh_token, "token_invalid"),
        (page.access[:-8] + "AAAAAAAA", "token_invalid"),
    ]:
        headers = {"Authorization": f"Bearer {token}"}
        answer = page.call("GET", "/users/user", headers=headers)
        refused(answer, 401, code)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


# The user


def test_reads_and_changes_the_user(page):
    user = page.call("GET", "/users/user").json()["user"]
    assert (user["username"], user["email"]) == ("ana", "ana@example.org")
    assert "password" not in user
    changed = page.call("PATCH", "/users/user", json={"first_name": "Ána", "last_name": "Ní"})
    assert changed.status_code == 200
    assert changed.json()["user"] == {**user, "first_name": "Ána", "last_name": "Ní"}
    assert page.call("GET", "/users/user").json() == changed.json()


# Refreshing


def test_a_refresh_gives_a_new_pair_for_the_same_session(service, page):
    access, refresh, csrf = page.access, page.refresh_token, page.csrf
    assert page.refresh().status_code == 200
    assert page.access != access
    assert page.refresh_token != refresh
    assert page.csrf == csrf
    before, after = verify(service, access), verify(service, page.access)
    assert before["sid"] == after["sid"]
    assert before["jti"] != after["jti"]


def test_after_a_reload_the_page_asks_for_its_csrf_token(page):
    csrf, page.csrf, page.access = page.csrf, None, None
    page.csrf = page.call("GET", "/users/csrf").json()["csrf_token"]
    assert page.csrf == csrf
    assert page.refresh().ok
    assert still_signed_in(page)


def test_a_refresh_repeated_at_once_gets_the_same_token(page):
    before = page.refresh_token
    page.refresh()
    successor = page.refresh_token
    repeated = page.call("POST", "/users/refresh_token", headers=with_cookies(refreshtoken=before))
    assert repeated.status_code == 200
    assert repeated.cookies["refreshtoken"] == successor
    assert still_signed_in(page)


def test_a_superseded_refresh_token_ends_the_session_for_thief_and_owner(service, page):
    other_device = Page(service)
    other_device.sign_in()
    stolen = page.refresh_token
    page.refresh()
    page.refresh()
    thief = page.call("POST", "/users/refresh_token", headers=with_cookies(refreshtoken=stolen))
    refused(thief, 401, "refresh_reused")
    assert "refreshtoken" not in thief.cookies
    problem = refused(page.call("GET", "/users/user"), 401, "session_ended")
    assert problem["end_reason"] == "reuse_detected"
    refused(page.refresh(), 401, "session_ended")
    assert still_signed_in(other_device)


def test_only_a_refresh_token_refreshes(page):
    with_changed_signature = page.refresh_token[:-8] + "AAAAAAAA"
    for token in ("", "not-a-token", page.access, with_changed_signature):
        shown = with_cookies(refreshtoken=token)
        answer = page.call("POST", "/users/refresh_token", headers=shown)
        refused(answer, 401, "refresh_invalid")
    assert still_signed_in(page)


def test_without_a_cookie_there_is_nothing_to_refresh(service):
    refused(Page(service).refresh(), 401, "refresh_missing")


def test_two_refresh_cookies_are_refused(page, bobs_page):
    both = f"refreshtoken={bobs_page.refresh_token}; refreshtoken={page.refresh_token}"
    answer = page.call("POST", "/users/refresh_token", headers={"Cookie": both})
    refused(answer, 400, "malformed_request")
    assert not answer.cookies
    assert still_signed_in(page)


# Requests that a page did not mean


UNSAFE = [("POST", "/users/refresh_token"), ("PATCH", "/users/user"), ("POST", "/users/logout")]
each_unsafe_request = pytest.mark.parametrize("method, path", UNSAFE)


@each_unsafe_request
def test_an_unsafe_request_without_the_csrf_token_is_refused(page, method, path):
    refused(page.call(method, path, csrf=False, json={}), 403, "csrf_missing")
    assert still_signed_in(page)


@each_unsafe_request
def test_a_strangers_csrf_token_and_cookie_prove_nothing(page, bobs_page, method, path):
    planted = {
        **with_cookies(refreshtoken=page.refresh_token, csrftoken=bobs_page.csrf),
        "X-CSRFToken": bobs_page.csrf,
    }
    refused(page.call(method, path, json={}, headers=planted), 403, "csrf_invalid")
    assert still_signed_in(page)


@each_unsafe_request
def test_a_visitors_csrf_token_proves_nothing(service, page, method, path):
    visitors = Page(service).call("GET", "/users/csrf").json()["csrf_token"]
    headers = {"X-CSRFToken": visitors}
    refused(page.call(method, path, json={}, headers=headers), 403, "csrf_invalid")
    assert still_signed_in(page)


@pytest.mark.parametrize("origin", [STRANGER, "null", f"{APP}.evil.example", "http://localhost:3001"])
@pytest.mark.parametrize("method, path", [*UNSAFE, ("POST", "/users/login")])
def test_a_foreign_origin_is_refused_whatever_it_knows(page, method, path, origin):
    answer = page.call(method, path, json=ANA, headers={"Origin": origin})
    refused(answer, 403, "origin_denied")
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert not answer.cookies
    assert still_signed_in(page)


def test_only_a_listed_origin_may_read_answers(page):
    allowed = page.call("GET", "/users/user")
    assert allowed.headers["Access-Control-Allow-Origin"] == APP
    assert allowed.headers["Access-Control-Allow-Credentials"] == "true"
    foreign = page.call("GET", "/users/user", headers={"Origin": STRANGER})
    assert "Access-Control-Allow-Origin" not in foreign.headers


@pytest.mark.parametrize(
    "method, path, origin, status",
    [
        ("PATCH", "/users/user", STRANGER, 403),
        ("PATCH", "/users/user", APP, 401),
        ("POST", "/users/refresh_token", APP, 401),
        ("POST", "/users/nowhere", APP, 404),
        ("PUT", "/users/login", APP, 405),
    ],
)
def test_a_refusal_before_the_body_came_leaves_the_connection_in_order(
    service, method, path, origin, status
):
    connection = http.client.HTTPConnection("localhost", service.port, timeout=30)
    connection.putrequest(method, path)
    for header in [("Origin", origin), ("Content-Type", "application/json"), ("Content-Length", "2")]:
        connection.putheader(*header)
    connection.endheaders()
    time.sleep(0.1)  # Most clients send headers and body apart; here, surely.
    connection.send(b"{}")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == status
    # Goes over the same connection, unless the answer said that it closes.
    connection.request("GET", "/users/csrf")
    assert connection.getresponse().status == 200
    connection.close()


def test_every_answer_names_its_request(page):
    answer = page.call("GET", "/users/user")
    assert re.fullmatch(r"[\w-]+", answer.headers["X-Request-Id"])


# Signing out


def test_after_signing_out_no_token_of_the_session_works(page):
    old = with_cookies(refreshtoken=page.refresh_token)
    answer = page.call("POST", "/users/logout")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not session_cookies(page)
    problem = refused(page.call("GET", "/users/user"), 401, "session_ended")
    assert problem["end_reason"] == "logout"
    answer = page.call("POST", "/users/refresh_token", headers=old)
    assert refused(answer, 401, "session_ended")["end_reason"] == "logout"


def test_signs_out_with_the_access_token_alone(page):
    page.cookies.clear()
    bearer = {"Authorization": f"Bearer {page.access}"}
    assert page.call("POST", "/users/logout", headers=bearer).status_code == 204
    refused(page.call("GET", "/users/user"), 401, "session_ended")


def test_signing_in_anew_ends_the_session_this_browser_had(page):
    before = page.access
    page.sign_in()
    assert page.call("GET", "/users/user").status_code == 200
    headers = {"Authorization": f"Bearer {before}"}
    problem = refused(page.call("GET", "/users/user", headers=headers), 401, "session_ended")
    assert problem["end_reason"] == "replaced_by_login"
