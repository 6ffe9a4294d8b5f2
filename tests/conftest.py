"""What every test may use."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

# the same examples in every run, however slow or loaded the machine
hypothesis.settings.register_profile(
    "kymograph",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("kymograph")

MEMORY, ROOM = Path("/dev/shm"), 2 * 2**30


def pytest_configure() -> None:
    """Folders of tests lie in memory where it has room for them.

    What a killed process leaves is in the page cache either way, and thousands of small files, synced and removed again,
    keep a disk busy for longer than the tests take.
    """
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker per core for the whole suite, at most four; chosen files run in this process, which is up at once."""
    cores = min(len(os.sched_getaffinity(0)), 4)
    return cores if cores > 1 and config.args_source is not config.ArgsSource.ARGS else 0


@pytest.fixture
def root() -> Path:
    """The project's folder."""
    return Path(__file__).resolve().parent.parent
