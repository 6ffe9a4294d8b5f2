"""Every durable step of the embedded engine goes through here, so that tests can kill, fail or delay each one."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from kymograph.errors import DiskFull, StorageError

TEMPORARY = ".tmp"
NO_ROOM = "free disk space or lower the cap"  # what to do then


class Files:
    """The file layer. A test subclasses it and overrides `step`, called before each durable operation."""

    def step(self, name: str, path: Path) -> None:
        """Called before each durable operation: write, fsync, rename, unlink, begin, commit, checkpoint."""

    def publish(self, path: Path, data: memoryview, *, sync: bool) -> None:
        """Write a whole file so that it is there completely or not at all.

        With `sync` the bytes and the directory entry survive power loss before this returns.

        Raises:
            DiskFull, StorageError: nothing is left behind under either name.
        """
        temporary = path.with_name(path.name + TEMPORARY)
        with storage_errors(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._write(temporary, data, sync=sync)
                self.step("rename", path)
                os.rename(temporary, path)
                if sync:
                    self.sync_directory(path.parent)
            except OSError:
                for leftover in (temporary, path):
                    with contextlib.suppress(OSError):
                        os.unlink(leftover)
                raise

    def replace(self, path: Path, data: memoryview, *, sync: bool, mode: int) -> None:
        """Put a file in the place of another, or of none: at any time the old one is there or the new one, whole.

        Args:
            sync: it survives power loss before this returns.
            mode: its permissions; nobody else can read it meanwhile either.

        Raises:
            DiskFull, StorageError: the old one is there, or already the new one.
        """
        temporary = path.with_name(path.name + TEMPORARY)
        with storage_errors(path):
            try:
                self._write(temporary, data, sync=sync, mode=mode)
                self.step("rename", path)
                os.replace(temporary, path)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            if sync:
                self.sync_name(path)

    def _write(self, path: Path, data: memoryview, *, sync: bool, mode: int | None = None) -> None:
        self.step("write", path)
        if mode is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # what a crash left may be open to others
        with open(path, "wb", buffering=0, opener=lambda name, flags: os.open(name, flags, mode or 0o666)) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            written = 0
            while written < len(data):
                written += file.write(data[written:])
            if sync:
                self.step("fsync", path)
                os.fsync(file.fileno())

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory, and its own name in its parents, survive power loss."""
        for directory in (path, path.parent, path.parent.parent):
            self._sync(directory)

    def sync_name(self, path: Path) -> None:
        """Make the name of a file survive power loss."""
        self._sync(path.parent)

    def _sync(self, directory: Path) -> None:
        self.step("fsync", directory)
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def unlink(self, path: Path) -> None:
        """Remove a file that no catalog knows any more; a missing one is fine, a failing one is found at the next open."""
        with contextlib.suppress(OSError):
            self.step("unlink", path)
            os.unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(path.parent)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Operating system errors as StorageError, naming the place."""
    try:
        yield
    except StorageError:
        raise
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room left for {path}", hint=NO_ROOM) from problem
        raise StorageError(f"{path}: {problem.strerror or problem}") from problem
