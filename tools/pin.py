"""Writes constraints.txt: every package that setting up and CI install, by name, version and hash.

    .venv/bin/python tools/pin.py            keep the versions that are there, add what is missing
    .venv/bin/python tools/pin.py --upgrade  take the newest versions

The versions are those pip resolves for the oldest supported Python; the hashes are of the wheels that the supported
Pythons take on Linux. The file names no index, so pip's own configuration decides where the wheels come from.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
# An editable install asks the build back end for this one more.
EDITABLE = ["editables>=0.5"]
HEAD = """\
# Every package that `sh tools/setup` installs: name, version, and the hashes of the wheels for CPython {pythons}
# on Linux ({machines}, glibc). Written by tools/pin.py. The first part is what recording and serving need.
"""

Pins = dict[str, tuple[str, set[str]]]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def platforms(machine: str) -> list[str]:
    """Platform tags of glibc 2.36 (Debian 12) and everything older, for pip, which does not infer them."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 4, -1)]
    legacy = ["manylinux2014"] + (["manylinux2010", "manylinux1"] if machine == "x86_64" else [])
    return tags + [f"{name}_{machine}" for name in legacy] + [f"linux_{machine}"]


def resolve(requirements: list[str], fixed: dict[str, str], python: str, machine: str) -> Pins:
    """What pip would install of `requirements` on that platform, downloading metadata only."""
    with tempfile.TemporaryDirectory() as folder:
        report, pins = Path(folder, "report.json"), Path(folder, "pins.txt")
        pins.write_text("".join(f"{name}=={version}\n" for name, version in fixed.items()))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-input"]
        command += ["--disable-pip-version-check", "--report", str(report), "--target", folder, "-c", str(pins)]
        command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
        for tag in platforms(machine):
            command += ["--platform", tag]
        subprocess.run([*command, *requirements], check=True, timeout=600)
        found: list[dict[str, Any]] = json.loads(report.read_text())["install"]
    return {
        normal(item["metadata"]["name"]): (
            item["metadata"]["version"],
            {item["download_info"]["archive_info"]["hashes"]["sha256"]},
        )
        for item in found
    }


def resolve_all(requirements: list[str], fixed: dict[str, str]) -> Pins:
    """One version per package for all platforms, with the hashes of each platform's wheel."""
    merged: Pins = {}
    for python in PYTHONS:
        for machine in MACHINES:
            print(f"resolving for CPython {python} on {machine}", file=sys.stderr)
            known = fixed | {name: version for name, (version, _) in merged.items()}
            for name, (version, hashes) in resolve(requirements, known, python, machine).items():
                merged.setdefault(name, (version, set()))[1].update(hashes)
    return merged


def written() -> dict[str, str]:
    """Versions in the present file."""
    if not FILE.exists():
        return {}
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", FILE.read_text(), re.MULTILINE))


def lines(pins: Pins) -> str:
    text = []
    for name, (version, hashes) in sorted(pins.items()):
        text += [f"{name}=={version} \\", *(f"    --hash=sha256:{h} \\" for h in sorted(hashes))]
        text[-1] = text[-1].removesuffix(" \\")
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write constraints.txt.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    fixed = {} if parser.parse_args().upgrade else written()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = settings["project"]
    run = project["dependencies"] + settings["build-system"]["requires"] + EDITABLE
    extras = [need for extra in ("test", "lint", "bench") for need in project["optional-dependencies"][extra]]
    everything = resolve_all(run + extras, fixed)
    versions = {name: version for name, (version, _) in everything.items()}
    names = set(resolve(run, versions, PYTHONS[0], MACHINES[0]))
    first = {name: pin for name, pin in everything.items() if name in names}
    rest = {name: pin for name, pin in everything.items() if name not in names}
    head = HEAD.format(pythons=", ".join(PYTHONS), machines=" and ".join(MACHINES))
    FILE.write_text(f"{head}\n{lines(first)}\n# test\n{lines(rest)}")
    print(f"{FILE.name}: {len(everything)} packages, {len(first)} of them to record and serve", file=sys.stderr)


if __name__ == "__main__":
    main()
