"""Kind, unit and help of metrics by name, kept as documents of the engine."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from kymograph.engine.interface import Engine
from kymograph.store.naming import check_kind, check_name, check_text

DOCUMENT = "metric"
_BLANK = {"kind": "untyped", "unit": "", "help": ""}


class Metadata:
    """What is known of the metrics of one engine. Safe for many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, dict[str, str]] | None = None
        self._changing = threading.Lock()

    def known(self) -> Mapping[str, Mapping[str, str]]:
        """kind, unit and help by name, of the metrics that were described; not to be changed."""
        if self._known is None:
            self._known = {name: dict(about) for name, about in self._engine.documents(DOCUMENT).items()}
        return self._known

    def describe(self, given: Mapping[str, Mapping[str, str | None]]) -> None:
        """Set metadata by name in one durable step; what is None or left out stays. See `Store.describe_many`."""
        for name, about in given.items():
            _check(name, about)
        with self._changing:
            changed = {}
            for name, about in given.items():
                old = self.known().get(name)
                new = {**_BLANK, **(old or {}), **{key: text for key, text in about.items() if text is not None}}
                if new != old:
                    changed[name] = new
            if changed:
                self._engine.put_documents(DOCUMENT, changed)
                self._known = {**self.known(), **changed}  # type: ignore[dict-item]

    def listing(self) -> list[dict[str, Any]]:
        """See `Store.metrics`."""
        count = Counter(name for name, _ in self._engine.series().values())
        about = self._engine.documents(DOCUMENT)
        return [
            {"name": name, **_BLANK, **about.get(name, {}), "series": count[name]}
            for name in sorted(count.keys() | about.keys())
        ]


def _check(name: str, about: Mapping[str, str | None]) -> None:
    check_name("metric", name)
    for what, text in about.items():
        if text is None:
            continue
        if what == "kind":
            check_kind(text)
        elif what in ("unit", "help"):
            check_text(f"{what} of metric {name}", text)
        else:
            raise TypeError(f"a metric has kind, unit and help, no {what}")
