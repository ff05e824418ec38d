"""Runs the real program for a test: fresh directory, loopback ports, its whole log kept.

Only the standard library is used here, so that the tour runs without anything installed.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "e2e" / ".work"
BINARY = Path(os.environ.get("COUNTERSIGN_BIN", ROOT / "target" / "release" / "countersign"))

SECONDS_TO_START = 20
SECONDS_TO_STOP = 15

# Whatever proxy this machine has, it does not stand between the tests and loopback.
os.environ.update(no_proxy="localhost,127.0.0.1", NO_PROXY="localhost,127.0.0.1")


class Service:
    """A running service, and everything it must never write into its log.

    As it is made here it has no settings, as the README runs it; `on_free_ports` is for all else.
    """

    def __init__(self, name, port=8000, operations_port=8001, **settings):
        self.directory = Path(tempfile.mkdtemp(prefix="countersign-"))
        self.port = port
        self.operations_port = operations_port
        self.url = f"http://localhost:{port}"
        self.settings = settings
        self.log_file = WORK / "logs" / f"{name}.log"
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.log_file.write_text("")
        self.canaries = set()
        self.process = None

    @classmethod
    def on_free_ports(cls, name, origins=(), **settings):
        """A service of its own that tells its log everything, unless the settings say otherwise."""
        port, operations_port = free_ports(2)
        ours = {
            "COUNTERSIGN_SERVER__LISTEN": f"127.0.0.1:{port}",
            "COUNTERSIGN_SERVER__PUBLIC_URL": f"http://localhost:{port}",
            "COUNTERSIGN_SERVER__OPERATIONS_LISTEN": f"127.0.0.1:{operations_port}",
            "COUNTERSIGN_CORS__ORIGINS": ",".join(origins),
            "COUNTERSIGN_LOG__LEVEL": "trace",
        }
        return cls(name, port, operations_port, **(ours | settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def environment(self, **more):
        """What the program sees: our settings, and none that happen to be set out there."""
        outside = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSIGN_")}
        return {**outside, **self.settings, **more}

    def run(self, *arguments, stdin="", **environment):
        """Runs one command of the program to its end; what it printed."""
        done = subprocess.run(
            [BINARY, *arguments],
            cwd=self.directory,
            env=self.environment(**environment),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        with self.log_file.open("a") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode != 0:
            raise RuntimeError(f"countersign {' '.join(arguments)} failed:\n{done.stderr}")
        return done.stdout

    def create_superuser(self, username, password):
        self.must_not_log(password)
        self.run(
            *("createsuperuser", "--username", username),
            *("--email", f"{username}@example.org", "--no-input"),
            COUNTERSIGN_SUPERUSER_PASSWORD=password,
        )

    def add_user(self, username, password):
        self.must_not_log(password)
        self.run(
            *("user", "add", username, "--email", f"{username}@example.org", "--password-stdin"),
            stdin=password + "\n",
        )

    def start(self):
        if not BINARY.is_file():
            raise RuntimeError(f"{BINARY} is missing; build it: cargo build --release --locked")
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "serve"],
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + SECONDS_TO_START
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the service does not get ready:\n{self.log()}")
            time.sleep(0.05)
        return self

    def is_ready(self):
        ready = f"http://127.0.0.1:{self.operations_port}/readyz"
        try:
            with urllib.request.urlopen(ready, timeout=5) as answer:
                # Another program on our port would answer too, while ours has ended.
                return answer.status == 200 and self.process.poll() is None
        except (urllib.error.URLError, OSError):
            return False

    def stop(self):
        """Ends this one process, and says how it ended."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        process.terminate()
        try:
            return process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def log(self):
        return self.log_file.read_text(errors="replace")

    def must_not_log(self, secret):
        """Remembers a password or token; its log may hold it in no spelling."""
        self.canaries |= {secret, urllib.parse.quote(secret), urllib.parse.quote_plus(secret)}
        if secret.count(".") == 2:
            # A token's signature alone is as telling as the whole.
            self.canaries.add(secret.rpartition(".")[2])

    def leaked(self):
        """The lines of the log that hold something they must not."""
        canaries = {canary for canary in self.canaries if canary}
        return [line for line in self.log().splitlines() if any(c in line for c in canaries)]


def free_ports(count):
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def is_taken(port):
    with socket.socket() as probe:
        # Connections of an earlier run that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
