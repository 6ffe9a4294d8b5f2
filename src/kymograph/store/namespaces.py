"""Namespaces: stores of their own inside a store, so that several applications share a folder and nothing else."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from kymograph.errors import AlreadyExists, InvalidInput, NotFound, StoreClosed

if TYPE_CHECKING:
    from kymograph.engine.interface import Engine
    from kymograph.store.store import Store

DOCUMENT = "namespace"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
Bounds = Mapping[str, int | None]


def check_namespace(name: Any) -> str:
    """The name, when it may be one. Raises InvalidInput."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{str(name)[:80]!r} is not a namespace",
            hint="small letters, digits, _ and -, starting with a letter or digit, at most 63",
        )
    return name


class Place(Protocol):
    """Where the namespaces of a store are; made by `kymograph.connect`, which knows the engines."""

    def open(self, name: str, bounds: Bounds) -> Store:
        """The store of a namespace, made when it is not there yet; the cap of the store it is in counts it too."""

    def names(self) -> list[str]:
        """The namespaces there are, sorted."""


class Namespaces:
    """The open namespaces of one store. Each is opened once and closed with the store."""

    def __init__(self, place: Place, engine: Engine) -> None:
        self._place = place
        self._engine = engine
        self._open: dict[str, Store] = {}
        self._lock = threading.Lock()
        self._closed = False

    def names(self) -> list[str]:
        return sorted({*self._place.names(), *self._open})

    def get(self, name: str) -> Store:
        """The open store of a namespace that is there. Raises NotFound."""
        found = self._open.get(name)
        if found is not None:
            return found
        with self._lock:
            if name not in self._open and name not in self._place.names():
                raise NotFound(
                    f"there is no namespace {check_namespace(name)}",
                    hint="make it with create_namespace(), POST /api/namespaces or kymo namespace create",
                )
            return self._opened(name)

    def create(self, name: str, bounds: Bounds) -> Store:
        """Make a namespace. Raises AlreadyExists when it is there with other bounds."""
        check_namespace(name)
        with self._lock:
            known = self._engine.get_document(DOCUMENT, name)
            if known is not None and known != dict(bounds):
                raise AlreadyExists(f"there is a namespace {name} already, with other bounds")
            if known is None:
                self._engine.put_document(DOCUMENT, name, dict(bounds))
            return self._opened(name)

    def bounds(self, name: str) -> Bounds:
        """cap (bytes) and age (µs) of a namespace; None is unbounded."""
        return {"cap": None, "age": None, **(self._engine.get_document(DOCUMENT, name) or {})}

    def _opened(self, name: str) -> Store:
        if self._closed:
            raise StoreClosed("the store is closed", hint="connect again")
        if name not in self._open:
            self._open[name] = self._place.open(name, self.bounds(name))
        return self._open[name]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for store in self._open.values():
                store.close()
            self._open.clear()
