"""A cap and the folders that share it: a store alone, or a store with the namespaces in it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kymograph.local.folder import Folder


class Budget:
    """Bytes that some folders may take together.

    Its lock is taken before the `structure` of any folder, and never by who holds one.

    Attributes:
        cap: bytes; None is unbounded.
        folders: who shares it; the first one is the store itself.
    """

    def __init__(self, cap: int | None, folder: Folder) -> None:
        self.cap = cap
        self.folders: tuple[Folder, ...] = (folder,)
        self.lock = threading.RLock()

    def usage(self) -> int:
        """Bytes of everything in the folders."""
        return sum(folder.usage() for folder in self.folders)

    def add(self, folder: Folder) -> None:
        with self.lock:
            self.folders = (*self.folders, folder)

    def remove(self, folder: Folder) -> None:
        with self.lock:
            self.folders = tuple(one for one in self.folders if one is not folder)
