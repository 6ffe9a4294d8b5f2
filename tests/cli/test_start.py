"""What `kymo` loads before it knows what it is asked for: help and mistakes should not have to wait for a store."""

from __future__ import annotations

import subprocess
import sys

_LATE = ("kymograph.store.store", "kymograph.local.engine", "kymograph.sql.session", "datafusion", "fastapi", "pandas")


def test_verbs_are_known_before_a_store_is_loaded() -> None:
    program = f"import sys, kymograph.cli.main; print([name for name in {_LATE} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
