"""Real servers from Debian's packages on free loopback ports: a Prometheus, an Alertmanager."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.server.running import TRUST


def needed(program: str) -> str:
    """Where a program is; the test is skipped, and says so, where there is none."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (.ci/run installs it)")
    return found


@contextmanager
def served(command: Sequence[str], url: str, log: Path, seconds: float = 120.0) -> Iterator[str]:
    """A server that answers `url`/-/ready with 200, until the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + seconds
        while not _ready(url):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=10, trust_env=False, verify=TRUST).status_code == 200
    except httpx.HTTPError:
        return False
