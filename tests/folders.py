"""Folders of stores as they lie on the disk."""

from __future__ import annotations

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
