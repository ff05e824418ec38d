"""The examples beside the real service: who is let in, who is not, and how soon."""

import hmac
import json
import time

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec

from apis import FASTAPI, Api, base64url, refused, seconds_until
from client import ANA, APP, BOB, Page, Service

AUDIENCE = "https://api.example.org"
LIFETIME = 10
LEEWAY = 10


@pytest.fixture(scope="module")
def service():
    settings = {"COUNTERSIGN_TOKENS__AUDIENCE": AUDIENCE}
    with Service.on_free_ports("examples", origins=[APP], **settings) as service:
        service.create_superuser(**ANA)
        service.add_user(**BOB)
        service.start()
        yield service
        assert service.stop() == 0
        assert service.leaked() == []


@pytest.fixture(scope="module")
def api(example, service):
    api = Api(example, service.url, audience=AUDIENCE).start()
    yield api
    api.stop()


@pytest.fixture
def page(service):
    """A page where ana has signed in."""
    return signed_in(service, ANA)


def signed_in(service, who):
    page = Page(service)
    assert page.sign_in(json=who).status_code == 200
    return page


@pytest.fixture(scope="session", autouse=True)
def short_lived():
    """A token of a service whose tokens live for ten seconds, and when that was: long ago when it is tried."""
    settings = {"COUNTERSIGN_TOKENS__ACCESS_LIFETIME": f"{LIFETIME}s"}
    with Service.on_free_ports("examples-short", origins=[APP], **settings) as service:
        service.add_user(**BOB)
        page = signed_in(service.start(), BOB)
        yield service.url, page.access, time.monotonic()
        assert service.stop() == 0


# Who is let in


def test_a_user_is_known_by_the_access_token(api, page):
    answer = api.me(page.access)
    assert (answer.status_code, answer.json()) == (200, {"id": 1})


def test_the_scheme_is_read_in_any_case(api, page):
    for scheme in ("bearer", "BEARER"):
        assert api.me("", Authorization=f"{scheme} {page.access}").ok


def test_without_a_token_one_is_asked_for(api):
    refused(api.me(""), 401, "credentials_missing")
    for shown in ("Basic YW5hOng=", "Bearer", "Bearer "):
        refused(api.me("", Authorization=shown), 401, "credentials_missing")
    refused(api.order(""), 401, "credentials_missing")


NO_TOKENS = [
    "x",
    "e30.e30",
    "e30.e30.",
    "....",
    "A" * 9000,
    f"{base64url(b'[' * 5000)}.e30.e30",
    f"{base64url(b'null')}.e30.e30",
    f"{base64url(b'[1]')}.e30.e30",
    f"{base64url(bytes([255, 254]))}.e30.e30",
]


@pytest.mark.parametrize("text", NO_TOKENS, ids=range(len(NO_TOKENS)))
def test_what_is_no_token_is_refused_and_no_failure_of_ours(api, text):
    refused(api.me(text), 401, "token_invalid")


def test_a_refresh_token_is_no_access_token(api, page):
    refused(api.me(page.refresh_token), 401, "token_invalid")


# Forged


def forgeries(service, token):
    """What somebody makes of a token who has no key but their own."""
    (published, *_) = requests.get(f"{service.url}/.well-known/jwks.json", timeout=5).json()["keys"]
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    head, body, signature = token.split(".")
    mine = ec.generate_private_key(ec.SECP256R1())
    my_jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(mine.public_key()))

    def unsigned(alg):
        return f"{as_part({**header, 'alg': alg})}.{body}."

    def signed(**more):
        return jwt.encode(claims, mine, algorithm="ES256", headers={**header, **more})

    def by_secret(secret):
        # By hand: PyJWT would not do it.
        text = unsigned("HS256")[:-1]
        return f"{text}.{base64url(hmac.digest(secret, text.encode(), 'sha256'))}"

    return {
        "alg none": unsigned("none"),
        "alg None": unsigned("None"),
        "a refresh token's typ": f"{as_part({**header, 'typ': 'refresh+jwt'})}.{body}.{signature}",
        "no alg": f"{as_part({'kid': header['kid'], 'typ': 'at+jwt'})}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "another key": signed(),
        "another key, in the header": signed(jwk=my_jwk),
        "another key, at an address": signed(jku=f"{service.url}/users/jwks.json"),
        "the public key as a secret": by_secret(published["x"].encode()),
        "the published JSON as a secret": by_secret(json.dumps(published).encode()),
        "no secret": by_secret(b""),
        "a kid that nobody knows": signed(kid="made-up"),
        "a kid that leads elsewhere": signed(kid="../../dev/null"),
        "changed claims": f"{head}.{as_part({**claims, 'user_id': 2})}.{signature}",
        "cut short": token[:-4],
    }


def as_part(members):
    return base64url(json.dumps(members).encode())


def test_forged_tokens_are_refused(api, service, page):
    for how, forged in forgeries(service, page.access).items():
        assert api.me(forged).status_code == 401, how
        refused(api.me(forged), 401, "token_invalid")
    assert api.me(page.access).ok


def test_a_token_for_somebody_else_is_refused(start_api, service, page):
    refused(start_api(service.url, audience="https://other.example").me(page.access), 401, "token_invalid")
    # Nor is a token that is meant for somebody taken where nobody was named.
    refused(start_api(service.url).me(page.access), 401, "token_invalid")


# CSRF


def test_an_unsafe_request_shows_the_csrf_token(api, page):
    answer = api.order(page.access, csrf=page.csrf)
    assert (answer.status_code, answer.json()) == (201, {"ordered_by": 1})


def test_without_the_csrf_token_or_with_another_it_is_refused(api, service, page):
    refused(api.order(page.access), 403, "csrf_missing")
    refused(api.order(page.access, csrf=""), 403, "csrf_missing")
    bobs, anas_other = signed_in(service, BOB), signed_in(service, ANA)
    for wrong in (bobs.csrf, anas_other.csrf, page.csrf[:-1], page.csrf.swapcase(), "x" * 64, "é"):
        refused(api.order(page.access, csrf=wrong.encode()), 403, "csrf_invalid")


def test_what_comes_by_cookie_proves_nothing(api, page):
    cookies = {"Cookie": f"csrftoken={page.csrf}"}
    refused(api.call("POST", "/orders", page.access, **cookies), 403, "csrf_missing")


def test_djangos_masked_form_is_read_in_python(api, page):
    # The mask that shifts nothing, and the one that shifts by one.
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    shifted = "".join(letters[(letters.index(letter) + 1) % 62] for letter in page.csrf)
    for masked in ("a" * 32 + page.csrf, "b" * 32 + shifted):
        answer = api.order(page.access, csrf=masked)
        assert answer.status_code == (201 if api.example == FASTAPI else 403)
    refused(api.order(page.access, csrf="b" * 32 + page.csrf), 403, "csrf_invalid")


# What ends, ends at once


def test_a_session_that_was_signed_out_is_refused_within_a_second(api, service, page):
    other = signed_in(service, ANA)
    assert api.me(page.access).ok
    assert page.call("POST", "/users/logout").status_code == 204
    assert seconds_until(lambda: not api.me(page.access).ok) < 1
    refused(api.me(page.access), 401, "session_ended")
    refused(api.order(page.access, csrf=page.csrf), 401, "session_ended")
    assert api.me(other.access).ok


def test_one_that_is_ended_from_elsewhere_is_refused_in_all_its_tokens(api, service, page):
    first = page.access
    assert page.refresh().ok
    other = signed_in(service, ANA)
    answer = other.call("POST", "/users/logout", json={"scope": "others"})
    assert answer.status_code == 204
    assert seconds_until(lambda: not api.me(page.access).ok) < 1
    refused(api.me(first), 401, "session_ended")
    assert api.me(other.access).ok


def test_a_user_who_is_switched_off_is_refused_until_back(api, service):
    page = signed_in(service, BOB)
    assert api.me(page.access).ok
    service.run("user", "deactivate", "bob")
    assert seconds_until(lambda: not api.me(page.access).ok) < 1
    refused(api.me(page.access), 401, "session_ended")
    time.sleep(1)  # An `iat` has no fractions: a token of the same second counts as an earlier one.
    service.run("user", "activate", "bob")
    back = signed_in(service, BOB)
    assert seconds_until(lambda: api.me(back.access).ok) < 2
    refused(api.me(page.access), 401, "session_ended")


def test_an_expired_token_is_told_to_be_one(start_api, short_lived):
    issuer, token, signed_at = short_lived
    api = start_api(issuer)
    time.sleep(max(0, signed_at + LIFETIME + LEEWAY + 1 - time.monotonic()))
    refused(api.me(token), 401, "token_expired")


# When the service is silent


@pytest.fixture
def lone_service():
    with Service.on_free_ports("examples-silent", origins=[APP]) as service:
        service.add_user(**BOB)
        yield service.start()
        assert service.stop() in (0, None)


def test_tokens_are_verified_without_the_service_where_that_is_wanted(start_api, lone_service):
    api = start_api(lone_service.url, unreachable_after=2, when_unreachable="keep_until_expiry")
    page, ended = signed_in(lone_service, BOB), signed_in(lone_service, BOB)
    assert ended.call("POST", "/users/logout").status_code == 204
    seconds_until(lambda: not api.me(ended.access).ok)
    assert lone_service.stop() == 0
    time.sleep(3)
    assert api.me(page.access).ok
    assert api.order(page.access, csrf=page.csrf).ok
    # What was heard of is not forgotten, and what is forged is not believed.
    refused(api.me(ended.access), 401, "session_ended")
    refused(api.me(page.access[:-4]), 401, "token_invalid")


def test_otherwise_they_are_refused_once_the_feed_is_lost_and_until_it_is_back(start_api, lone_service):
    api = start_api(lone_service.url, unreachable_after=3)
    page, other = signed_in(lone_service, BOB), signed_in(lone_service, BOB)
    assert lone_service.stop() == 0
    assert api.me(page.access).ok
    assert seconds_until(lambda: not api.me(page.access).ok) < 5
    refused(api.me(page.access), 503, "revocations_unknown")
    # A bad token is as bad as ever: the caller is to be told so.
    refused(api.me(page.access[:-4]), 401, "token_invalid")
    lone_service.start()
    assert seconds_until(lambda: api.me(page.access).ok) < 5
    assert other.call("POST", "/users/logout").status_code == 204
    assert seconds_until(lambda: not api.me(other.access).ok) < 1


def test_an_api_that_starts_before_the_service_waits_for_it(start_api, lone_service):
    page = signed_in(lone_service, BOB)
    assert lone_service.stop() == 0
    api = start_api(lone_service.url)
    refused(api.me(page.access), 503, "keys_unknown")
    refused(api.me(""), 401, "credentials_missing")
    lone_service.start()
    assert seconds_until(lambda: api.me(page.access).ok) < 5


# Keys


def kid(page):
    return jwt.get_unverified_header(page.access)["kid"]


def test_a_new_key_is_accepted_and_a_revoked_one_is_not(start_api):
    with Service.on_free_ports("examples-keys", origins=[APP]) as service:
        service.create_superuser(**ANA)
        service.start()
        api = start_api(service.url)
        before = signed_in(service, ANA)
        assert api.me(before.access).ok
        service.run("keys", "rotate", "--now")
        after = signed_in(service, ANA)
        seconds_until(lambda: after.refresh().ok and kid(after) != kid(before))
        # Nobody was told of it beforehand: it is fetched when the first token comes that names it.
        assert seconds_until(lambda: api.me(after.access).ok) < 1
        assert api.me(before.access).ok
        service.run("keys", "revoke", kid(before))
        assert seconds_until(lambda: not api.me(before.access).ok) < 1
        assert api.me(before.access).status_code == 401
        assert api.me(after.access).ok
        assert service.stop() == 0


def test_a_key_of_another_kind_verifies_by_its_own_algorithm(start_api):
    settings = {"COUNTERSIGN_TOKENS__ALGORITHM": "EdDSA"}
    with Service.on_free_ports("examples-eddsa", origins=[APP], **settings) as service:
        service.create_superuser(**ANA)
        page = signed_in(service.start(), ANA)
        assert start_api(service.url).me(page.access).ok
        assert service.stop() == 0
