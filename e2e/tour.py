"""Takes the README's five-minute tour, word for word, against a service of its own.

Blocks marked `sh tour` run one after the other in one shell; the block marked `text tour` that follows
one says what it prints: these lines, in this order, where `…` stands for anything.
"""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import uuid

from service import BINARY, ROOT, Service, is_taken

README = ROOT / "README.md"
PORTS = 8000, 8001
SECONDS_FOR_ALL = 120
CONTINUED = "\\\n"

# `cargo run` would have to be in the checkout, and would leave the tour's files there. This stands in
# for it: the same program, already built, in the tour's own directory.
CARGO = f"""#!/bin/sh
if [ "$1 $2 $3" != "run --release --" ]; then
  echo "the tour knows no 'cargo $*'" >&2
  exit 2
fi
shift 3
exec '{BINARY.resolve()}' "$@"
"""


def steps(text):
    """The tour's commands, each with the lines it is expected to print."""
    found = []
    for kind, body in re.findall(r"^```(sh|text) tour\n(.*?)^```$", text, re.M | re.S):
        if kind == "sh":
            found.append((body, []))
        elif not found or found[-1][1]:
            sys.exit(f"README.md: no command prints this:\n{body}")
        else:
            found[-1][1].extend(line for line in body.splitlines() if line)
    return found


def matches(expected, line):
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), line) is not None


def difference(expected, printed):
    """What was expected and not printed, beside what was; nothing if all was printed in order."""
    rest = iter(printed)
    report, complete = [], True
    for line in expected:
        if complete and any(matches(line, candidate) for candidate in rest):
            report.append(f"    found     {line}")
        else:
            mark = "  - expected" if complete else "    then"
            report.append(f"{mark}  {line}")
            complete = False
    if complete:
        return None
    return "\n".join(report + [f"  + printed   {line}" for line in printed])


class Shell:
    """One bash session; `-e` so that a command that fails ends it."""

    def __init__(self, directory, environment):
        self.directory = directory
        self.count = 0
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.watch = threading.Timer(SECONDS_FOR_ALL, self.kill)
        self.watch.start()

    def run(self, block):
        """Runs a block; its printed lines, and whether it went well."""
        self.count += 1
        step = f"step-{self.count}.sh"
        (self.directory / step).write_text(block)
        end = f"end-{uuid.uuid4()}"
        # Read from a file, so that no command can swallow the commands after it.
        self.process.stdin.write(f". ./{step} < /dev/null\nprintf '\\n%s\\n' {end}\n")
        self.process.stdin.flush()
        printed = []
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line == end:
                # The line break before the mark is ours.
                return (printed[:-1] if printed and not printed[-1] else printed), True
            printed.append(line)
        return printed, False

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self):
        self.watch.cancel()
        self.kill()
        self.process.wait()


def take(tour, service):
    commands = service.directory / "bin"
    commands.mkdir()
    (commands / "cargo").write_text(CARGO)
    (commands / "cargo").chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    shell = Shell(service.directory, service.environment(PATH=path))
    try:
        for number, (block, expected) in enumerate(tour, 1):
            print(f"{number}. {textwrap.shorten(block.replace(CONTINUED, ' '), 90, placeholder=' …')}")
            printed, went_well = shell.run(block)
            if not went_well:
                said = "\n".join(f"  + printed   {line}" for line in printed)
                sys.exit(f"   a command of this step failed, or took too long:\n{block}{said}")
            mismatch = difference(expected, printed)
            if mismatch:
                sys.exit(f"   README.md says something else:\n{mismatch}")
            print("   ok")
    finally:
        shell.close()


def main():
    for port in PORTS:
        if is_taken(port):
            sys.exit(f"The tour needs port {port} of 127.0.0.1, where something else listens: stop it.")
    tour = steps(README.read_text())
    if not tour:
        sys.exit("README.md has no tour.")
    with Service("tour") as service:
        service.start()
        take(tour, service)
        ended = service.stop()
        if ended != 0:
            sys.exit(f"the service ended with {ended}:\n{service.log()}")
    print(f"{len(tour)} steps, as README.md says")


if __name__ == "__main__":
    main()
