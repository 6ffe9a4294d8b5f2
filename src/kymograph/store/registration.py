"""Ids of scalar series: kept by identity, registered where new, within the limits on how many there may be."""

from __future__ import annotations

import threading
import time as clock
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.errors import InvalidInput, LimitExceeded
from kymograph.options import StoreOptions
from kymograph.store.naming import Labels, identity

Ints = np.ndarray[Any, np.dtype[np.int64]]
Key = tuple[str, Labels]
_HOUR = 3600.0


class SeriesIds:
    """The series of one engine by name and labels. Safe for many threads."""

    def __init__(self, engine: Engine, options: StoreOptions) -> None:
        self._engine = engine
        self._options = options
        self._ids: dict[Key, int] = {}
        self._registering = threading.Lock()
        self._recent: deque[tuple[float, int]] = deque()  # (when, how many were new) of the last hour
        self._valid = np.zeros(0, np.bool_)
        self._looked = 0  # series of the engine that `known` has seen

    def find(self, key: Key) -> int:
        """The id of one series."""
        known = self._ids.get(key)
        return self.all([key])[0] if known is None else known

    def all(self, keys: Sequence[Key]) -> list[int]:
        """The ids of many series, in order; all that are new are registered in one durable step, or none.

        Raises:
            LimitExceeded: the new ones are too many; names the metric that has most of them.
        """
        missing = [key for key in dict.fromkeys(keys) if key not in self._ids]
        if missing:
            with self._registering:
                self._check_room(missing)
                before = len(self._engine.series())
                ids = self._engine.register_series([(name, dict(labels)) for name, labels in missing])
                self._ids.update(zip(missing, ids, strict=True))
                self._recent.append((clock.monotonic(), len(self._engine.series()) - before))
        return [self._ids[key] for key in keys]

    def known(self, keys: Sequence[Key]) -> list[int | None]:
        """The ids of those series that are registered already, None for others, which stay unregistered."""
        if any(key not in self._ids for key in keys):
            with self._registering:
                series = self._engine.series()
                for number, (name, labels) in islice(series.items(), self._looked, None):
                    self._ids.setdefault((name, tuple(sorted(labels.items()))), number)
                self._looked = len(series)
        return [self._ids.get(key) for key in keys]

    def of(self, series: Iterable[tuple[str, Mapping[str, str]]]) -> Ints:
        """See `Store.series_ids`."""
        return np.array(self.all([(name, identity(name, labels)) for name, labels in series]), np.int64)

    def check(self, ids: Ints) -> None:
        """Fail where an id belongs to no series."""
        if not len(ids):
            return
        low, high = int(ids.min()), int(ids.max())
        if low >= 0 and high < len(self._valid) and self._valid[ids].all():
            return
        known = np.fromiter(self._engine.series(), np.int64)
        strange = np.setdiff1d(ids, known)
        if len(strange):
            raise InvalidInput(f"there is no series {strange[0]}", hint="series_ids() registers them")
        valid = np.zeros(int(known.max()) + 1, np.bool_)
        valid[known] = True
        self._valid = valid

    def _check_room(self, missing: Sequence[Key]) -> None:
        most, hourly = self._options.max_series, self._options.max_new_series
        if most is None and hourly is None:
            return
        series = self._engine.series()
        if most is not None and len(series) + len(missing) > most:
            missing = self._really_new(missing)
            if len(series) + len(missing) > most:
                raise _refusal(missing, f"there are {len(series):,} series, the limit is {most:,}", "max_series")
        if hourly is not None:
            now = clock.monotonic()
            while self._recent and self._recent[0][0] < now - _HOUR:
                self._recent.popleft()
            recent = sum(count for _, count in self._recent)
            if recent + len(missing) > hourly:
                missing = self._really_new(missing)
                if missing and recent + len(missing) > hourly:
                    message = f"{recent:,} series are new in the last hour, the limit is {hourly:,}"
                    raise _refusal(missing, message, "max_new_series")

    def _really_new(self, keys: Sequence[Key]) -> list[Key]:
        """Less those that the engine has and this has not met yet: it starts empty when a store is opened."""
        known = {(name, identity(name, labels)) for name, labels in self._engine.series().values()}
        return [key for key in keys if key not in known]


def _refusal(missing: Sequence[Key], message: str, option: str) -> LimitExceeded:
    name, count = Counter(name for name, _ in missing).most_common(1)[0]
    return LimitExceeded(
        f"metric {name} would add {count:,} series: {message}",
        hint=f"give its labels fewer values, or raise {option}",
    )
