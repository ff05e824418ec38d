"""What ends sessions, tokens and keys, as other devices and a Python resource server notice it."""

import json
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timezone

import jwt
import pytest
import requests

from client import ANA, APP, BOB, Page, Service, refused, session_cookies, still_signed_in

# The command line is heard of within 250 ms; the rest is for a busy machine.
SECONDS_TO_HEAR = 5
SECONDS_TO_WAIT = 25


@pytest.fixture(scope="module")
def service():
    """One service for all tests; when they are done, its log must have kept every secret."""
    with Service.on_free_ports("python-sessions", origins=[APP]) as service:
        service.create_superuser(**ANA)
        service.add_user(**BOB)
        service.start()
        yield service
        assert service.stop() == 0
        # The search means something only if the log is there, and talkative.
        for event in ("login_succeeded", "session_refreshed", "password_set", "session_ended"):
            assert f'"{event}"' in service.log()
        assert service.leaked() == []


@pytest.fixture
def sign_in(service):
    """Signs in on a device of its own."""

    def sign_in(user=ANA, device="Laptop/1.0"):
        page = Page(service)
        page.headers["User-Agent"] = device
        assert page.sign_in(json=user).status_code == 200
        return page

    return sign_in


class ResourceServer:
    """An API in Python that asks nobody about a token: it has the published keys, and the feed.

    It knows the public URL, and finds the rest from there.
    """

    def __init__(self, service):
        self.issuer = service.url
        discovery = f"{service.url}/.well-known/oauth-authorization-server"
        about = requests.get(discovery, timeout=30).json()
        # Left alone it would fetch the keys for an unknown one only every thirty seconds.
        self.keys = jwt.PyJWKClient(about["jwks_uri"], cooldown_duration=0.5)
        self.feed_address = about["revocations_uri"]
        self.feed, self.etag = None, None
        self.ask()

    def ask(self, wait=0):
        """Brings the list up to date; the status of the answer."""
        headers = {"If-None-Match": self.etag} if self.etag else {}
        answer = requests.get(
            self.feed_address, params={"wait": wait}, headers=headers, timeout=wait + 10
        )
        if answer.status_code == 200:
            self.feed, self.etag = answer.json(), answer.headers["ETag"]
        return answer.status_code

    @contextmanager
    def following(self):
        """Follows the feed in the background, as it would all its life."""
        is_over = threading.Event()

        def follow():
            while not is_over.is_set():
                assert self.ask(wait=1) in (200, 304)

        follower = threading.Thread(target=follow)
        follower.start()
        try:
            yield
            assert follower.is_alive()
        finally:
            is_over.set()
            follower.join()

    def accepts(self, token):
        try:
            key = self.keys.get_signing_key_from_jwt(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=["ES256"],
                issuer=self.issuer,
                options={"require": ["iss", "sub", "sid", "iat", "exp"]},
            )
        except jwt.PyJWTError:
            return False
        return not self.is_revoked(key.key_id, claims)

    def is_revoked(self, kid, claims):
        signed_out = {entry["sid"] for entry in self.feed["sessions"]}
        revoked_keys = {entry["kid"] for entry in self.feed["keys"]}
        not_before = {entry["sub"]: moment(entry["not_before"]) for entry in self.feed["users"]}
        issued = datetime.fromtimestamp(claims["iat"], timezone.utc)
        return (
            claims["sid"] in signed_out
            or kid in revoked_keys
            or issued < not_before.get(claims["sub"], issued)
        )


@pytest.fixture
def resource_server(service):
    return ResourceServer(service)


def moment(text):
    """A time as the service tells it: as text, parts of a second would not sort."""
    return datetime.fromisoformat(text)


def soon(happens):
    """Waits until it does, and fails if it takes too long."""
    deadline = time.monotonic() + SECONDS_TO_HEAR
    while not happens():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


def sessions_of(page):
    answer = page.call("GET", "/users/sessions")
    assert answer.status_code == 200
    return answer.json()["sessions"]


def told_why(page):
    return refused(page.call("GET", "/users/user"), 401, "session_ended")["end_reason"]


def done(answer):
    assert (answer.status_code, answer.content) == (204, b"")
    return answer


def sid(page):
    return jwt.decode(page.access, options={"verify_signature": False})["sid"]


def kid(page):
    return jwt.get_unverified_header(page.access)["kid"]


# The list of sessions


def test_the_list_shows_where_the_user_is_signed_in(service, sign_in):
    service.run("session", "end", "--user", "ana")
    laptop, phone, bobs = sign_in(), sign_in(device="Phone/1.0"), sign_in(BOB)
    listed = {session["id"]: session for session in sessions_of(phone)}
    assert listed.keys() == {sid(laptop), sid(phone)}
    here, there = listed[sid(phone)], listed[sid(laptop)]
    assert (here["current"], here["user_agent"]) == (True, "Phone/1.0")
    assert (there["current"], there["user_agent"]) == (False, "Laptop/1.0")
    assert here["ip"] == "127.0.0.1"
    assert moment(here["created_at"]) == moment(here["last_seen_at"])
    phone.refresh()
    [now] = [session for session in sessions_of(phone) if session["current"]]
    assert moment(now["created_at"]) == moment(here["created_at"])
    assert moment(now["last_seen_at"]) > moment(here["last_seen_at"])
    assert sid(bobs) not in listed


def test_ending_a_session_from_the_list_signs_that_device_out(sign_in):
    laptop, phone = sign_in(), sign_in()
    address = f"/users/sessions/{sid(laptop)}"
    refused(phone.call("DELETE", address, csrf=False), 403, "csrf_missing")
    assert still_signed_in(laptop)
    answer = done(phone.call("DELETE", address))
    assert "Set-Cookie" not in answer.headers
    assert told_why(laptop) == "revoked_by_user"
    problem = refused(laptop.refresh(), 401, "session_ended")
    assert problem["end_reason"] == "revoked_by_user"
    done(phone.call("DELETE", address))
    assert still_signed_in(phone)


def test_ending_ones_own_session_is_signing_out(sign_in):
    page = sign_in()
    done(page.call("DELETE", f"/users/sessions/{sid(page)}"))
    assert not session_cookies(page)
    assert told_why(page) == "logout"


def test_nobody_ends_what_is_not_theirs(sign_in):
    page, bobs = sign_in(), sign_in(BOB)
    for name in (sid(page), "0199c0de-7b1c-7000-8000-0123456789ab", "1", "..%2Fuser"):
        refused(bobs.call("DELETE", f"/users/sessions/{name}"), 404, "not_found")
    assert still_signed_in(page)
    assert still_signed_in(bobs)


# Signing out beyond one device


def test_signing_out_the_others_leaves_this_device_and_other_people(sign_in):
    laptop, phone, bobs = sign_in(), sign_in(), sign_in(BOB)
    before = phone.cookies.get_dict()
    done(phone.call("POST", "/users/logout", json={"scope": "others"}))
    assert phone.cookies.get_dict() == before
    assert told_why(laptop) == "revoked_by_user"
    assert still_signed_in(phone)
    assert still_signed_in(bobs)


def test_signing_out_everywhere_needs_a_session_that_is_alive(sign_in):
    laptop, phone = sign_in(), sign_in()
    old = phone.cookies.copy()
    done(phone.call("POST", "/users/logout"))
    phone.cookies.update(old)
    for scope in ("others", "global"):
        answer = phone.call("POST", "/users/logout", json={"scope": scope})
        refused(answer, 401, "session_ended")
    assert still_signed_in(laptop)
    done(laptop.call("POST", "/users/logout", json={"scope": "global"}))
    assert not session_cookies(laptop)
    assert told_why(laptop) == "logout"


def test_an_unknown_scope_signs_nobody_out(sign_in):
    page = sign_in()
    answer = page.call("POST", "/users/logout", json={"scope": "nobody"})
    problem = refused(answer, 400, "validation_failed")
    assert [error["field"] for error in problem["errors"]] == ["scope"]
    assert still_signed_in(page)


# The password


def test_changing_the_password_ends_the_other_devices_sessions(service, sign_in):
    laptop, phone, anas = sign_in(BOB), sign_in(BOB), sign_in()
    anew = {**BOB, "password": "a quiet river & old/stars"}
    wrong = "not his + password"
    for password in (anew["password"], wrong):
        service.must_not_log(password)

    def change(current, new):
        return phone.call(
            "POST", "/users/password", json={"current_password": current, "new_password": new}
        )

    refused(change(wrong, anew["password"]), 401, "invalid_credentials")
    problem = refused(change(BOB["password"], "short"), 400, "validation_failed")
    assert [error["field"] for error in problem["errors"]] == ["new_password"]
    assert still_signed_in(laptop)

    done(change(BOB["password"], anew["password"]))
    assert told_why(laptop) == "password_changed"
    assert still_signed_in(phone)
    assert still_signed_in(anas)
    refused(Page(service).sign_in(json=BOB), 401, "invalid_credentials")
    assert Page(service).sign_in(json=anew).ok
    done(change(anew["password"], BOB["password"]))


# A resource server that follows the feed


def test_the_feed_is_sent_once_and_again_only_when_there_is_something_new(sign_in, resource_server):
    page = sign_in()
    # What was ended at the command line a moment ago may still be on its way.
    soon(lambda: resource_server.ask() == 304)
    before = time.monotonic()
    assert resource_server.ask(wait=1) == 304
    assert time.monotonic() - before >= 1
    page.call("POST", "/users/logout")
    assert resource_server.ask() == 200
    assert sid(page) in {entry["sid"] for entry in resource_server.feed["sessions"]}
    assert resource_server.ask() == 304


def test_a_resource_server_that_waits_is_woken_by_a_sign_out(sign_in, resource_server):
    page, phone = sign_in(), sign_in()
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(resource_server.ask(SECONDS_TO_WAIT)))
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive()
    assert resource_server.accepts(page.access)
    done(page.call("POST", "/users/logout"))
    waiting.join(SECONDS_TO_HEAR)
    assert answers == [200]
    assert not resource_server.accepts(page.access)
    assert resource_server.accepts(phone.access)


def test_a_resource_server_that_follows_refuses_whatever_ends_a_session(
    service, sign_in, resource_server
):
    with resource_server.following():
        for end in (
            lambda page: page.call("POST", "/users/logout"),
            lambda page: sign_in().call("POST", "/users/logout", json={"scope": "others"}),
            lambda page: sign_in().call("DELETE", f"/users/sessions/{sid(page)}"),
            lambda page: service.run("session", "end", sid(page)),
            lambda page: page.sign_in(),
        ):
            page, bobs = sign_in(), sign_in(BOB)
            token = page.access
            assert resource_server.accepts(token)
            end(page)
            soon(lambda: not resource_server.accepts(token))
            assert resource_server.accepts(bobs.access)


def test_a_user_who_is_deactivated_is_refused_everywhere(service, sign_in, resource_server):
    carol = {"username": "carol", "password": "nine lamps + one door"}
    service.add_user(**carol)
    page, anas = sign_in(carol), sign_in()
    with resource_server.following():
        assert resource_server.accepts(page.access)
        service.run("user", "deactivate", "carol")
        soon(lambda: not resource_server.accepts(page.access))
        assert resource_server.accepts(anas.access)
    assert told_why(page) == "user_deactivated"


def test_the_feed_can_be_kept_for_those_who_show_its_token():
    token = "for+resource/servers+and+nobody+else"
    settings = {"COUNTERSIGN_REVOCATIONS__TOKEN": token}
    with Service.on_free_ports("python-feed", origins=[APP], **settings) as service:
        service.create_superuser(**ANA)
        service.must_not_log(token)
        page = Page(service.start())
        page.sign_in()
        feed = f"{service.url}/.well-known/revocations"
        for shown in (None, token[:-1], page.access):
            headers = {"Authorization": f"Bearer {shown}"} if shown else {}
            refused(requests.get(feed, headers=headers, timeout=30), 401, "credentials_missing")
        headers = {"Authorization": f"Bearer {token}"}
        assert requests.get(feed, headers=headers, timeout=30).json()["sessions"] == []
        assert service.stop() == 0
        assert service.leaked() == []


# Signing keys


def listed_keys(service):
    keys = json.loads(service.run("keys", "list", "--json"))
    return {key["kid"]: key["state"] for key in keys}


def test_a_key_that_signs_at_once_is_found_by_whoever_meets_it(service, sign_in, resource_server):
    page = sign_in()
    old, before = kid(page), page.access
    assert resource_server.accepts(before)
    service.run("keys", "rotate", "--now")
    soon(lambda: page.refresh().ok and kid(page) != old)
    assert listed_keys(service)[old] == "retired"
    # The keys that it has were fetched before this one was there.
    soon(lambda: resource_server.accepts(page.access))
    assert resource_server.accepts(before)
    assert still_signed_in(page)


def test_a_key_is_published_before_it_signs(service, sign_in, resource_server):
    page = sign_in()
    current = kid(page)
    service.run("keys", "rotate")
    [coming] = [name for name, state in listed_keys(service).items() if state == "next"]

    def published():
        return {key.key_id for key in resource_server.keys.get_signing_keys(refresh=True)}

    soon(lambda: coming in published())
    page.refresh()
    assert kid(page) == current


def test_a_revoked_key_takes_its_tokens_along_and_signs_nobody_out(
    service, sign_in, resource_server
):
    page = sign_in()
    revoked, before = kid(page), page.access
    assert resource_server.accepts(before)
    with resource_server.following():
        service.run("keys", "revoke", "--", revoked)
        soon(lambda: not resource_server.accepts(before))
    assert listed_keys(service)[revoked] == "revoked"
    refused(page.call("GET", "/users/user"), 401, "token_invalid")
    published = resource_server.keys.get_signing_keys(refresh=True)
    assert revoked not in {key.key_id for key in published}
    assert page.refresh().ok
    assert kid(page) != revoked
    assert resource_server.accepts(page.access)
    assert still_signed_in(page)
