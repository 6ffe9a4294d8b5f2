"""The verbs of rollups: create, list, refresh, drop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from kymograph.engine.interface import Engine
from kymograph.errors import ReadOnly
from kymograph.model.time import to_micros
from kymograph.options import Retention, StoreOptions
from kymograph.store.base import StoreBase
from kymograph.store.jobs import Job
from kymograph.store.namespaces import Place
from kymograph.store.rollups.rollups import Rollups
from kymograph.store.rollups.watched import Watched

if TYPE_CHECKING:
    from datetime import timedelta

JOB = "rollups"
_PAUSE = 30 * 10**6


class RollupVerbs(StoreBase):
    """Rollups of a store; see `Store`."""

    def __init__(
        self,
        engine: Engine,
        options: StoreOptions | None = None,
        path: str = "memory:",
        place: Place | None = None,
    ) -> None:
        """See `StoreBase`."""
        reading = options is not None and options.read_only
        # whoever writes, by whatever verb, has to pass by those who have summarised
        super().__init__(engine if reading else cast(Engine, Watched(engine)), options, path, place)
        if not reading:
            self._jobs.add(Job(JOB, _PAUSE, self._refresh_all))

    def create_rollup(
        self,
        name: str,
        source: str = "samples",
        every: str | timedelta | int = "1m",
        by: Iterable[str] | None = None,
        fields: Iterable[str] | None = None,
        keep: Retention | None = None,
        start_offset: str | timedelta | int | None = None,
        end_offset: str | timedelta | int | None = "1m",
        *,
        refresh: bool = True,
    ) -> dict[str, Any]:
        """Keep summaries of a source per bucket, fresh from now on; an equal rollup may be there already.

        The rows are in the table `name`, a row per bucket [time, time + every) and series: of scalar samples with the
        columns count, sum, min, max, first, last, first_time, last_time (µs), m2, positive, negative, increase,
        integral_positive and integral_negative; of a table `rows`, and these columns for each field as `FIELD_count`
        and so on.

        Args:
            source: `samples`, a table, or a rollup whose interval divides this one.
            every: width of a bucket, aligned to 1970; 1 s to a year.
            by: labels that tell rows apart; None: every series of the source keeps its own. Scalar series with `by`
                are told apart by their metric, too, in the column `name`.
            fields: which numbers of a table; None is all that it has now.
            keep: what bounds the rollup's own table.
            start_offset: late data further back than this is not looked at; None: it always is.
            end_offset: how long after its end a bucket is made, for what arrives a little late.
            refresh: make what is there already before this returns; otherwise the background does.

        Returns:
            As one of `rollups()`.

        Raises:
            InvalidInput, SchemaError: what cannot be summarised so. NotFound: the source.
            AlreadyExists: there is another table of that name.
        """
        rooms = self._rollups()
        self._written(lambda: rooms.create(name, source, every, by, fields, keep, (start_offset, end_offset)))
        if refresh:
            self._written(lambda: rooms.refresh(name, None, None))
        return next(told for told in rooms.listing() if told["name"] == name)

    def rollups(self) -> list[dict[str, Any]]:
        """Every rollup by name.

        Keys: name, source, query, every, by, fields, keep, start_offset, end_offset (durations in µs), fresh_until (µs:
        buckets before it are made), waiting (stretches that late data or deletions touched and that will be made anew),
        rows, oldest, newest.
        """
        self._check()
        return self._rollups().listing()

    def refresh_rollup(self, name: str, start: Any = None, end: Any = None) -> int:
        """Bring a rollup and those below it up to date; with a range, make the buckets that meet it anew too.

        Summaries of rows that retention has removed stay. Returns rows written.
        """
        low, high = (None if time is None else to_micros(time) for time in (start, end))
        return self._written(lambda: self._rollups().refresh(name, low, high))

    def drop_rollup(self, name: str) -> None:
        """Forget a rollup with its table. Raises NotFound, InvalidInput where another is built on it."""
        self._written(lambda: self._rollups().drop(name))

    def _rollups(self) -> Rollups:
        engine = self.engine
        if not isinstance(engine, Watched):
            raise ReadOnly("rollups belong to the writing process", hint="their tables can be read here")
        watched = engine
        return self._kept("rollups", lambda: Rollups(cast(Engine, watched), watched.touched))

    def _refresh_all(self) -> str:
        return self._written(self._rollups().run)
