"""Folders of stores as they lie on the disk."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any


def copied(folder: Path, to: Path, **how: Any) -> None:
    """What a crash would leave of a folder whose store is open: a file that goes while it is copied was to go.

    Args:
        how: as `shutil.copytree` takes it.
    """

    def copy(source: str, target: str) -> str:
        with suppress(FileNotFoundError):
            shutil.copy2(source, target)
        return target

    shutil.copytree(folder, to, copy_function=copy, **how)


def size_of(folder: Path) -> int:
    """Bytes of every file there is; files that vanish meanwhile count as gone."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
