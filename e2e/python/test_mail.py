"""Mail as people get it: through a real mail server with TLS and a password, which has its bad days."""

import re
import sqlite3
import time

import pytest

from client import ANA, APP, Page, refused
from mail_server import Authority, MailServer, html_of, service_with, text_of

NEW = "another horse altogether"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority):
    server = MailServer(authority.context)
    yield server
    server.stop()


@pytest.fixture
def service(server, authority, request):
    name = f"python-mail-{request.node.name}"
    settings = {"COUNTERSIGN_REGISTRATION__ENABLED": "true"}
    with service_with(server, authority, name, origins=[APP], **settings) as service:
        service.create_superuser(**ANA)
        service.must_not_log(NEW)
        service.start()
        yield service
        assert service.stop() == 0
        assert '"mail_delivered"' in service.log()
        assert service.leaked() == []
        assert "ana@example.org" not in service.log()


def change_password(service):
    page = Page(service)
    assert page.sign_in().ok
    body = {"current_password": ANA["password"], "new_password": NEW}
    assert page.call("POST", "/users/password", json=body).status_code == 204


def in_database(service, sql):
    with sqlite3.connect(service.directory / "countersign.db", timeout=30) as database:
        return database.execute(sql).fetchall()


def let_time_pass(service):
    """Mails that wait are due: as if the time had passed."""
    in_database(service, "UPDATE countersign_outbox SET due_at = 0")


def wait_for(service, event):
    for _ in range(600):
        if f'"{event}"' in service.log():
            return
        time.sleep(0.05)
    raise AssertionError(f"{event} is not in the log:\n{service.log()}")


def test_a_changed_password_is_told_over_tls_by_whoever_may_send(server, service):
    change_password(service)
    mail = server.mail()
    assert mail["From"] == "Accounts <no-reply@example.org>"
    assert mail["To"] == "ana@example.org"
    assert mail["Subject"] == "Your password was changed"
    assert mail["Auto-Submitted"] == "auto-generated"
    for text in (text_of(mail), html_of(mail)):
        assert "ana" in text and service.url in text
        assert NEW not in text and ANA["password"] not in text


def test_mail_waits_while_the_server_is_away(server, service):
    server.stop()
    change_password(service)
    wait_for(service, "mail_postponed")
    assert in_database(service, "SELECT count(*) FROM countersign_outbox") == [(1,)]
    server.start()
    let_time_pass(service)
    assert server.mail()["Subject"] == "Your password was changed"


def test_greylisting_costs_only_time(server, service):
    server.to_recipients = ["451 4.7.1 <ana@example.org>: come again in a minute"]
    change_password(service)
    wait_for(service, "mail_postponed")
    assert server.mails == []
    let_time_pass(service)
    server.mail()
    wait_for(service, "mail_delivered")
    assert len(server.mails) == 1


def test_a_mail_that_comes_twice_is_the_same_mail(server, service):
    server.silent = 1
    change_password(service)
    wait_for(service, "mail_postponed")
    let_time_pass(service)
    first, again = server.mail(1), server.mail(2)
    assert first["Message-ID"] == again["Message-ID"]
    assert first.as_bytes() == again.as_bytes()


def token_in(mail, service):
    """The token of the link in a letter, which is the same in text and HTML and leads to our page."""
    link = re.compile(r"(https?://[^\s\"<]+)#token=([\w.-]+)")
    [(page, token)] = {link.search(part(mail)).groups() for part in (text_of, html_of)}
    assert page.startswith(f"{service.url}/account/")
    service.must_not_log(token)
    return token


def test_an_account_is_made_lost_and_found_by_mail(server, service):
    zoe = {"username": "zoe", "password": "violet umbrella in june"}
    service.must_not_log(zoe["password"])
    page = Page(service)
    page.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"

    def post(path, **body):
        return page.call("POST", f"/users{path}", json=body)

    # Registered, and let in when the address is proven.
    assert post("/register", **zoe, email="zoe@example.org").status_code == 201
    refused(page.sign_in(json=zoe), 401, "invalid_credentials")
    letter = server.mail()
    assert letter["To"] == "zoe@example.org"
    assert post("/email/verify", token=token_in(letter, service)).status_code == 204
    assert page.sign_in(json=zoe).ok

    # The password is forgotten, and another is set by whoever reads the mail.
    assert post("/password/reset", email="zoe@example.org").status_code == 202
    token = token_in(server.mail(2), service)
    assert post("/password/reset/confirm", token=token, new_password=NEW).status_code == 204
    again = post("/password/reset/confirm", token=token, new_password=NEW)
    refused(again, 400, "mailed_token_invalid")
    assert server.mail(3)["Subject"] == "Your password was reset"
    refused(page.refresh(), 401, "session_ended")
    refused(page.sign_in(json=zoe), 401, "invalid_credentials")
    assert page.sign_in(json={**zoe, "password": NEW}).ok

    # Somebody who has found it out as well is told of, in no words of theirs.
    stranger = Page(service)
    stranger.headers["User-Agent"] = "Call +1 555 0100! Chrome/141 Windows https://evil.example"
    assert stranger.sign_in(json={**zoe, "password": NEW}).ok
    notice = server.mail(4)
    assert notice["Subject"] == "A new sign-in to your account"
    for text in (text_of(notice), html_of(notice)):
        assert "Chrome on Windows" in text and "127.0.0.1" in text
        assert "555" not in text and "evil" not in text
    assert len(server.mails) == 4
