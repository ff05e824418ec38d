"""The examples beside an issuer that errs: its signatures are good, and that is not enough."""

import json
import time

import pytest

from apis import Api, refused, seconds_until
from issuer import Issuer, feed, in_seconds

FEED_TOKEN = "for-resource-servers-and-nobody-else"


@pytest.fixture
def issuer():
    with Issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def steady():
    """One issuer for all tests that change nothing about it."""
    with Issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def api(example, steady):
    api = Api(example, steady.url).start()
    yield api
    api.stop()


# What a good signature does not mend


def now(seconds):
    return int(time.time()) + seconds


WRONG = {
    "a refresh token": {"header": {"typ": "refresh+jwt"}},
    "any JWT": {"header": {"typ": "JWT"}},
    "no typ": {"header": {"typ": None}},
    "something critical": {"header": {"crit": ["b64"], "b64": True}},
    "something critical and unknown": {"header": {"crit": ["x"], "x": 1}},
    "no kid": {"header": {"kid": None}},
    "another issuer": {"iss": "https://other.example"},
    "an issuer that only begins so": {"iss": "http://localhost"},
    "no issuer": {"iss": None},
    "an audience": {"aud": "https://other.example"},
    "audiences": {"aud": ["https://other.example"]},
    "no expiry": {"exp": None},
    "no time of issue": {"iat": None},
    "issued tomorrow": {"iat": now(86400), "exp": now(86700)},
    "not valid before tomorrow": {"nbf": now(86400)},
    "no session": {"sid": None},
    "no user": {"sub": None},
    "no CSRF hash": {"csrf": None},
    "more than 8 KiB": {"groups": "A" * 6500},
}


@pytest.mark.parametrize("how", WRONG)
def test_a_token_that_is_signed_well_and_is_none_of_ours_is_refused(api, steady, how):
    refused(api.me(steady.sign(**WRONG[how])), 401, "token_invalid")


def test_clocks_may_differ_by_ten_seconds(api, steady):
    assert api.me(steady.sign()).ok
    assert api.me(steady.sign(exp=now(-5), iat=now(-305))).ok
    assert api.me(steady.sign(iat=now(5))).ok
    refused(api.me(steady.sign(exp=now(-15), iat=now(-315))), 401, "token_expired")


def test_no_request_asks_the_issuer(api, steady):
    before = len(steady.asked_for("jwks.json"))
    for _ in range(50):
        assert api.me(steady.sign()).ok
    assert len(steady.asked_for("jwks.json")) == before


# Keys


def test_unknown_keys_make_it_ask_once_in_a_minute_however_many_are_shown(start_api, issuer):
    api = start_api(issuer.url)
    assert len(issuer.asked_for("jwks.json")) == 1
    issuer.add_key("second")
    second = issuer.sign("second")
    seconds_until(lambda: api.me(second).ok)
    issuer.add_key("third")
    third = issuer.sign("third")
    for _ in range(30):
        refused(api.me(third), 401, "token_invalid")
    assert len(issuer.asked_for("jwks.json")) == 2


BAD_KEYS = {
    "an error": (500, {}, b"{}"),
    "no JSON": (200, {}, b"<html>"),
    "no keys": (200, {}, b'{"keys":[]}'),
    "keys of secrets": (200, {}, b'{"keys":[{"kty":"oct","kid":"first","alg":"HS256","k":"c2VjcmV0"}]}'),
}


@pytest.mark.parametrize("how", BAD_KEYS)
def test_keys_that_are_none_are_not_taken(start_api, issuer, how):
    issuer.instead["jwks.json"] = BAD_KEYS[how]
    api = start_api(issuer.url)
    refused(api.me(issuer.sign()), 503, "keys_unknown")
    issuer.instead.clear()
    assert seconds_until(lambda: api.me(issuer.sign()).ok) < 5


def test_keys_beyond_64_kib_are_not_read(start_api, issuer):
    padded = json.dumps(issuer.published_keys()).encode() + b" " * 65_536
    issuer.instead["jwks.json"] = (200, {}, padded)
    refused(start_api(issuer.url).me(issuer.sign()), 503, "keys_unknown")


def test_nor_do_they_replace_those_that_are_known(start_api, issuer):
    api = start_api(issuer.url)
    issuer.instead["jwks.json"] = BAD_KEYS["no keys"]
    issuer.keys["second"] = issuer.keys["first"]
    refused(api.me(issuer.sign("second")), 401, "token_invalid")
    seconds_until(lambda: len(issuer.asked_for("jwks.json")) == 2)
    assert api.me(issuer.sign()).ok


# The feed


def test_what_the_feed_lists_is_refused(start_api, issuer):
    api = start_api(issuer.url)
    issuer.add_key("second")
    earlier, later = issuer.sign(sub="8", iat=now(-60)), issuer.sign(sub="8", iat=now(-20))
    of_session, of_key, other = issuer.sign(sid="s"), issuer.sign("second"), issuer.sign()
    seconds_until(lambda: api.me(of_key).ok)
    assert all(api.me(token).ok for token in (earlier, later, of_session, other))
    issuer.feed = feed(
        sessions=[{"sid": "s", "until": in_seconds(300)}],
        users=[{"sub": "8", "not_before": in_seconds(-40), "until": in_seconds(300)}],
        keys=[{"kid": "second", "until": in_seconds(300)}],
    )
    assert seconds_until(lambda: not api.me(of_session).ok) < 1
    for token in (earlier, of_session, of_key):
        refused(api.me(token), 401, "session_ended")
    assert api.me(later).ok and api.me(other).ok
    # A list that is behind, of another node, brings nothing back.
    issuer.feed = feed()
    time.sleep(1)
    for token in (earlier, of_session, of_key):
        refused(api.me(token), 401, "session_ended")


def test_an_entry_that_is_over_is_forgotten(start_api, issuer):
    api = start_api(issuer.url)
    # Over it is ten seconds later, on a clock that differs by so much.
    issuer.feed = feed(sessions=[{"sid": "s", "until": in_seconds(-6)}])
    seconds_until(lambda: not api.me(issuer.sign(sid="s")).ok)
    refused(api.me(issuer.sign(sid="s")), 401, "session_ended")
    seconds_until(lambda: api.me(issuer.sign(sid="s")).ok)


def test_an_issuer_that_does_not_wait_is_asked_twice_a_second(start_api, issuer):
    start_api(issuer.url)
    before = len(issuer.asked_for("revocations"))
    time.sleep(3)
    assert 3 <= len(issuer.asked_for("revocations")) - before <= 8


BAD_FEEDS = {
    "an error": (500, {}, b"{}"),
    "no JSON": (200, {}, b"<html>"),
    "half a list": (200, {}, b'{"issued_at":"2026-11-24T10:00:00Z","sessions":[]}'),
    "no list": (200, {}, b'{"issued_at":"","sessions":null,"users":[],"keys":[]}'),
    "no time": (200, {}, b'{"issued_at":"","sessions":[{"sid":"s","until":"soon"}],"users":[],"keys":[]}'),
}


@pytest.mark.parametrize("how", BAD_FEEDS)
def test_a_feed_that_is_none_is_a_feed_that_is_lost(start_api, issuer, how):
    api = start_api(issuer.url, unreachable_after=2)
    assert api.me(issuer.sign()).ok
    issuer.instead["revocations"] = BAD_FEEDS[how]
    seconds_until(lambda: not api.me(issuer.sign()).ok)
    refused(api.me(issuer.sign()), 503, "revocations_unknown")


def test_the_feeds_token_is_shown_to_the_feed_and_to_nobody_else(start_api, issuer):
    with Issuer() as stranger:
        issuer.instead["revocations"] = (302, {"Location": f"{stranger.url}/.well-known/revocations"}, b"")
        issuer.instead["jwks.json"] = (302, {"Location": f"{stranger.url}/.well-known/jwks.json"}, b"")
        api = start_api(issuer.url, feed_token=FEED_TOKEN)
        refused(api.me(stranger.sign(iss=issuer.url)), 503, "keys_unknown")
        assert stranger.asked == []
    shown = [headers["Authorization"] for headers in issuer.asked_for("revocations")]
    assert shown and set(shown) == {f"Bearer {FEED_TOKEN}"}
    assert [headers["Authorization"] for headers in issuer.asked_for("jwks.json")][0] is None


def test_an_issuer_on_another_host_is_reached_by_https_only(start_api):
    with pytest.raises(RuntimeError, match="https"):
        start_api("http://auth.example.org")
