"""One writing process per folder: an advisory lock on DIR/LOCK that dies with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from kymograph.errors import StoreLocked
from kymograph.local.files import storage_errors


class WriterLock:
    """Held from construction to `release()`; the file names the holder for whoever is refused.

    Raises:
        StoreLocked: another process, or another store in this one, holds it; names the process.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "LOCK"
        with storage_errors(path):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._handle, 4096, 0).decode(errors="replace").strip()
            os.close(self._handle)
            raise StoreLocked(
                f"{folder} is being written by {holder or 'another process'}",
                hint="open it with read_only=True, or stop that process",
            ) from None
        with storage_errors(path):
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"process {os.getpid()} ({_command()})\n".encode(), 0)

    def release(self) -> None:
        """Give the folder free; may be called twice."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = -1


def _command() -> str:
    with contextlib.suppress(OSError):
        raw = Path("/proc/self/cmdline").read_bytes()
        return raw.replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    return "python"
