"""Series and documents of a folder: held in memory, durable in the catalog."""

from __future__ import annotations

import copy
import threading
from collections.abc import Container, Mapping, Sequence
from typing import Any

from kymograph.engine.registry import Identity, Registry, identity
from kymograph.local.catalog import Catalog


class LocalRegistry:
    """What a catalog knows beside tables. Safe for many threads; changes are durable when a method returns."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._changing = threading.Lock()
        self._series = Registry()
        self._documents: dict[str, dict[str, Any]] = {}

    def load(self) -> None:
        """Read everything that the catalog has and this does not."""
        with self._changing:
            for number, name, labels in self._catalog.load_series(after=self._series.last):
                self._series.add(number, name, labels)
            documents: dict[str, dict[str, Any]] = {}
            for (kind, key), value in self._catalog.load_documents().items():
                documents.setdefault(kind, {})[key] = value
            self._documents = documents

    def register(self, series: Sequence[tuple[str, Mapping[str, str]]]) -> list[int]:
        """See `Engine.register_series`."""
        found = [self._series.find(name, labels) for name, labels in series]
        if None not in found:
            return [number for number in found if number is not None]
        with self._changing:
            new: dict[Identity, tuple[int, str, Mapping[str, str]]] = {}
            for name, labels in series:
                key = identity(name, labels)
                if key not in new and self._series.find(name, labels) is None:
                    new[key] = (self._series.last + 1 + len(new), name, labels)
            with self._catalog.transaction():
                self._catalog.add_series(list(new.values()))
            for given in new.values():
                self._series.add(*given)
        return [number for name, labels in series if (number := self._series.find(name, labels)) is not None]

    def series(self) -> Mapping[int, tuple[str, Mapping[str, str]]]:
        """See `Engine.series`."""
        return self._series.snapshot()

    def put(self, kind: str, values: Mapping[str, Any]) -> None:
        """See `Engine.put_documents`."""
        with self._changing:
            with self._catalog.transaction():
                for key, value in values.items():
                    self._catalog.put_document(kind, key, value)
            # a new dict, because others may be walking over the old one
            mine = {**self._documents.get(kind, {}), **copy.deepcopy(dict(values))}
            self._documents[kind] = {key: value for key, value in mine.items() if value is not None}

    def listed(self, without: Container[str], only: Container[str] | None = None) -> list[tuple[str, str, Any]]:
        """Kind, key and value of every document of some kinds, in order; the caller must not change the values."""
        with self._changing:  # what is durable already is also here
            documents = self._documents
            kinds = sorted(kind for kind in documents if kind not in without and (only is None or kind in only))
            return [(kind, *each) for kind in kinds for each in sorted(documents[kind].items())]

    def get(self, kind: str, key: str) -> Any:
        """See `Engine.get_document`."""
        return copy.deepcopy(self._documents.get(kind, {}).get(key))

    def all(self, kind: str) -> Mapping[str, Any]:
        """See `Engine.documents`."""
        return copy.deepcopy(self._documents.get(kind, {}))
