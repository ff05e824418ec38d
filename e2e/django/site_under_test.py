"""The Django site, running, and a browser that goes to it and to Countersign."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

import requests

from databases import wait_until
from service import ROOT, WORK, free_ports

SITE = Path(__file__).resolve().parent / "site"
A_MONTH_FROM_NOW = f"{datetime.now(timezone.utc) + timedelta(days=30):%Y-%m-%d}"
PASSWORD = "correct horse battery staple"
SECRETS = {
    "SHOP_SECRET_KEY": "w3!k9@q2#x7$e6%r8^t1&y4*u5(i0)o-p_a=s+dfg",
    "SHOP_REFRESH_TOKEN_SECRET": "z8+m4=c1_v6-b2)n9(j7*h3&g5^f0%d!s@a#q$wer",
}


class Site:
    """A Django site on a database, migrated by Django, with its own server."""

    def __init__(self, database, countersign_port):
        (self.port,) = free_ports(1)
        self.url = f"http://localhost:{self.port}"
        self.database = database
        self.process = None
        outside = {k: v for k, v in os.environ.items() if not k.startswith("SHOP_")}
        self.environment = {
            **outside,
            **SECRETS,
            "PYTHONPATH": str(ROOT / "examples" / "python"),
            "SHOP_DATABASE": json.dumps(database.for_django),
            "SHOP_COUNTERSIGN_URL": f"http://localhost:{countersign_port}",
        }
        self.log_file = WORK / "logs" / "django.log"
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.run("migrate", "--verbosity=0")

    def run(self, *arguments):
        """Runs a command by `manage.py`."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=SITE,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"manage.py {arguments}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def manage(self, *arguments):
        """The same in the running site, which is quicker."""
        answer = requests.post(f"{self.url}/manage", json=arguments, timeout=60)
        assert answer.ok, f"manage.py {arguments}: {answer.text}"
        return answer.json()["out"]

    def add_user(self, username, hasher="argon2", superuser=False):
        more = ["--superuser"] if superuser else []
        self.manage("adduser", username, PASSWORD, f"--hasher={hasher}", *more)
        return self.user(username)["id"]

    def user(self, username):
        """The user's row, as Django reads it."""
        return self.tables()["users"][username]

    def tables(self):
        return json.loads(self.manage("tables"))

    def __enter__(self):
        with self.log_file.open("ab") as log:
            command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}"]
            self.process = subprocess.Popen(
                command, cwd=SITE, env=self.environment, stdout=log, stderr=log
            )
        wait_until(self.is_ready, "the site starts")
        return self

    def is_ready(self):
        assert self.process.poll() is None, self.log_file.read_text()
        try:
            return requests.get(f"{self.url}/form", timeout=5).ok
        except requests.ConnectionError:
            return False

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(15)


class Browser:
    """One cookie jar for one host, as browsers have it: ports make no difference."""

    def __init__(self, site, service):
        self.site, self.service = site, service
        self.cookies = {}
        self.access = self.csrf = None

    def call(self, method, url, headers=None, **options):
        headers = dict(headers or {})
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        answer = requests.request(
            method, url, headers=headers, timeout=60, allow_redirects=False, **options
        )
        for cookie in answer.cookies:
            self.cookies[cookie.name] = cookie.value
        for text in answer.raw.headers.getlist("Set-Cookie"):
            if re.search("max-age=0(;|$)", text, re.IGNORECASE):
                self.cookies.pop(text.partition("=")[0], None)
        return answer

    def ask_site(self, method, path, **options):
        return self.call(method, self.site.url + path, **options)

    def ask(self, method, path, shown=None, **options):
        """Calls Countersign from a page of its own origin, with what the page has."""
        headers = {"Origin": self.service.url}
        if self.access:
            headers["Authorization"] = f"Bearer {self.access}"
        if shown or self.csrf:
            headers["X-CSRFToken"] = shown or self.csrf
        return self.call(method, self.service.url + path, headers=headers, **options)

    def take(self, answer):
        if answer.ok:
            body = answer.json()
            self.access, self.csrf = body["access_token"], body["csrf_token"]
        return answer

    def sign_in(self, username, password=PASSWORD):
        body = {"username": username, "password": password}
        return self.take(self.ask("POST", "/users/login", json=body))

    def refresh(self, shown=None):
        return self.take(self.ask("POST", "/users/refresh_token", shown=shown))

    def me(self):
        return self.ask("GET", "/users/user")


class Admin(Browser):
    """Someone at Django's admin site."""

    def enter(self, username):
        self.ask_site("GET", "/admin/login/")
        form = {"username": username, "password": PASSWORD, "next": "/admin/"}
        assert self.submit("/admin/login/", form).status_code == 302
        return self

    def change_user(self, number, **changes):
        """Fills in the form as it stands, but for what changes; `False` unticks a box."""
        path = f"/admin/auth/user/{number}/change/"
        form = Form.read(self.ask_site("GET", path).text).fields
        form.update({name: value for name, value in changes.items() if value is not False})
        for name, value in changes.items():
            if value is False:
                form.pop(name, None)
        assert self.submit(path, form).status_code == 302

    def set_password(self, number, password):
        path = f"/admin/auth/user/{number}/password/"
        form = Form.read(self.ask_site("GET", path).text).fields
        form.update(password1=password, password2=password)
        # A button of later versions takes passwords away.
        form.pop("unset-password", None)
        assert self.submit(path, form).status_code == 302

    def submit(self, path, form):
        form = {**form, "csrfmiddlewaretoken": self.cookies["csrftoken"]}
        return self.ask_site("POST", path, data=form, headers={"Origin": self.site.url})


class Form(HTMLParser):
    """The values of a form's inputs, as a browser would send them."""

    def __init__(self):
        super().__init__()
        self.fields = {}

    @classmethod
    def read(cls, page):
        form = cls()
        form.feed(page)
        return form

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        kind, name = attributes.get("type", "text"), attributes.get("name")
        if tag != "input" or not name or kind == "submit":
            return
        if kind in ("checkbox", "radio") and "checked" not in attributes:
            return
        self.fields[name] = attributes.get("value", "on" if kind == "checkbox" else "")
