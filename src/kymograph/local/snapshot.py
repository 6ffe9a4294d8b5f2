"""A copy of an open folder that is a folder of its own: the catalog as of one moment, and hard links to its blocks.

Blocks are never changed once they are published, so that a link is a copy. Catalogs of namespaces are copied one after
the other, each as of a moment of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from kymograph.errors import AlreadyExists, StorageError
from kymograph.local import settings
from kymograph.local.database import CATALOG
from kymograph.local.files import storage_errors

_ATTEMPTS = 20
_NAMESPACES = "namespaces"
_UNFINISHED = ".kymo.tmp"
# tables of the catalog that name files, and the folder these are in
_FOLDERS = {"blocks": "blocks", "stream_blocks": "streams"}


class Copying:
    """What an engine over a folder needs to be `Copyable`."""

    path: Path

    def copy_to(self, target: Path) -> None:
        """A copy of everything committed by now; the engine goes on meanwhile."""
        copy_folder(self.path, target)


def copy_folder(source: Path, target: Path) -> None:
    """Copy the store in `source`, open or not, to the new folder `target`; it is there completely or not at all.

    A block that goes while this works is one that the next attempt's catalog does not name. Where the file system
    cannot link, blocks are copied. What a crash has left of earlier copies beside it is removed.

    Raises:
        AlreadyExists: there is something at `target`.
        DiskFull, StorageError: nothing is left behind.
    """
    if target.exists():
        raise AlreadyExists(f"there is a {target} already")
    with storage_errors(target):
        missing = [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(target.parent)
        try:
            for last in (*[False] * (_ATTEMPTS - 1), True):
                try:
                    _copy_once(source, target)
                    break
                except FileNotFoundError:
                    if last:
                        raise
        except BaseException:
            for folder in missing:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
        _sync(target.parent)


def remove_unfinished(folder: Path) -> None:
    """Remove what a crash has left of copies into a folder. One that somebody works on is locked by him."""
    for each in folder.glob("*" + _UNFINISHED):
        if re.fullmatch(r"\..+-[0-9a-f]{8}" + re.escape(_UNFINISHED), each.name) and not each.is_symlink():
            with contextlib.suppress(OSError), _locked(each):
                shutil.rmtree(each)


def _copy_once(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name[:200]}-{secrets.token_hex(4)}{_UNFINISHED}")
    temporary.mkdir()
    try:
        with _locked(temporary):
            _copy(source, temporary)
            os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder that nobody else holds; whoever dies lets go of it. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _copy(source: Path, target: Path) -> None:
    # its hashes of tokens are for the eyes of those who may read the store's own
    mode = stat.S_IMODE((source / CATALOG).stat().st_mode) if (source / CATALOG).exists() else 0o600
    os.close(os.open(target / CATALOG, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{(source / CATALOG).absolute().as_uri()}?mode=ro", uri=True)) as old,
            contextlib.closing(sqlite3.connect(target / CATALOG)) as new,
        ):
            old.execute("PRAGMA busy_timeout = 30000")
            old.backup(new)
            there = {row[0] for row in new.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            paths = [
                f"{folder}/{row[0]}"
                for table, folder in _FOLDERS.items()
                if table in there
                for row in new.execute(f"SELECT path FROM {table}")  # noqa: S608  a name from above
            ]
    except sqlite3.Error as problem:
        raise StorageError(f"{source / CATALOG}: {problem}") from problem
    folders = {target}
    for path in paths:
        block = target / path
        block.parent.mkdir(parents=True, exist_ok=True)
        folders |= {folder for folder in block.parents if folder.is_relative_to(target)}
        try:
            os.link(source / path, block)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without hard links
            shutil.copy2(source / path, block)
    for folder in folders:
        _sync(folder)
    _sync(target / CATALOG)
    if (source / settings.NAME).exists():
        shutil.copy2(source / settings.NAME, target / settings.NAME)
        _sync(target / settings.NAME)
    for inner in sorted((source / _NAMESPACES).glob(f"*/{CATALOG}")):
        copy = target / _NAMESPACES / inner.parent.name
        copy.mkdir(parents=True)
        _copy(inner.parent, copy)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
