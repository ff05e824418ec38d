"""The databases that a site and Countersign share: a file, or a throw-away PostgreSQL."""

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from service import free_ports

SECONDS_TO_START = 60


class Database:
    """One database, as Django and as Countersign are told of it."""

    def __init__(self, for_django, url):
        self.for_django = for_django
        self.url = url


@contextmanager
def sqlite():
    with tempfile.TemporaryDirectory(prefix="countersign-django-") as directory:
        file = Path(directory) / "site.db"
        engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)}
        # Django asks again for as long as Countersign writes.
        engine["OPTIONS"] = {"timeout": 20}
        yield Database(engine, f"sqlite://{file}")


@contextmanager
def postgres():
    """A server of its own on a free port. It runs as nobody important: PostgreSQL refuses root."""
    programs = postgres_programs()
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    as_user = as_user if os.getuid() == 0 else []
    directory = Path(tempfile.mkdtemp(prefix="countersign-django-"))
    if as_user:
        shutil.chown(directory, "postgres")
    (port,) = free_ports(1)
    data, log = directory / "data", directory / "log"

    def run(program, *arguments):
        command = [*as_user, programs / program, *arguments]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            told = log.read_text() if log.exists() else ""
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}{told}")

    try:
        run("initdb", "--pgdata", data, "--username=site", "--auth=trust", "--encoding=UTF8")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory}"
        run("pg_ctl", "--pgdata", data, "--log", log, "--options", options, "--wait", "start")
        run("createdb", "--host=127.0.0.1", f"--port={port}", "--username=site", "site")
        engine = {
            "ENGINE": "django.db.backends.postgresql",
            **{"NAME": "site", "USER": "site", "HOST": "127.0.0.1", "PORT": str(port)},
        }
        yield Database(engine, f"postgres://site@127.0.0.1:{port}/site")
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "--pgdata", data, "--mode=immediate", "--wait", "stop")
        shutil.rmtree(directory, ignore_errors=True)


def postgres_programs():
    """Debian keeps them off the path."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda file: int(file.parts[-3]), default=None)
    if newest is None:
        raise RuntimeError("PostgreSQL's server programs are missing")
    return newest.parent


def wait_until(is_so, what, seconds=SECONDS_TO_START):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)
