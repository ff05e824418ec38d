"""Mail as people get it: through a real mail server with TLS and a password, which has its bad days."""

import sqlite3
import time

import pytest

from client import ANA, APP, Page
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
    with service_with(server, authority, name, origins=[APP]) as service:
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
