"""Checks licences, bans and sources of every dependency that is built.

The rules are those of deny.toml; this stands in for cargo-deny where it is not installed.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = tomllib.loads((ROOT / "deny.toml").read_text())
ALLOWED = set(RULES["licenses"]["allow"])
BANNED = {ban["crate"] for ban in RULES["bans"]["deny"]}
# What `cargo tree` knows is what is built; the lock file also names what features leave out.
TREE = "cargo tree --workspace --all-features --target all --locked --prefix none --format".split()


def is_allowed(expression: str) -> bool:
    """Whether a licence expression can be met with the allowed licences alone."""
    names = re.sub(r"\s*/\s*", " OR ", expression)
    alternatives = re.sub(r"[()]", " ", names).split(" OR ")
    # Brackets only ever group alternatives or conjunctions; each conjunction must be met whole in
    # one of the alternatives, or, the strict reading, in all of them.
    met = [all(part.strip() in ALLOWED for part in way.split(" AND ")) for way in alternatives]
    return all(met) if "(" in names and " AND " in names else any(met)


listed = subprocess.run([*TREE, "{p}|{l}"], cwd=ROOT, capture_output=True, text=True, check=True)
packages = sorted(set(line.replace(" (*)", "") for line in listed.stdout.splitlines() if line))
problems = []
for package in packages:
    called, licence = package.split("|")
    if called.split()[0] in BANNED:
        problems.append(f"{called} is banned")
    if not is_allowed(licence):
        problems.append(f"{called} has the licence {licence or 'none'}")
    if "(http" in called or "(git" in called:
        problems.append(f"{called} comes from neither here nor the registry")
for problem in problems:
    print(problem, file=sys.stderr)
if problems:
    sys.exit(1)
print(f"{len(packages)} packages: licences, bans and sources are in order")
