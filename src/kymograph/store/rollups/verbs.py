"""The verbs of rollups: create, list, refresh, drop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.errors import InvalidInput, ReadOnly
from kymograph.model.schema import SAMPLES
from kymograph.model.time import to_micros
from kymograph.options import QueryLimits, Retention, StoreOptions, parse_duration
from kymograph.promql.tiers import Tiers
from kymograph.store.jobs import Job
from kymograph.store.namespaces import Place
from kymograph.store.query_verbs import QueryVerbs
from kymograph.store.retention.series import SeriesRetention
from kymograph.store.rollups.definition import bucket_width
from kymograph.store.rollups.downsampling import Downsampling
from kymograph.store.rollups.gone import Gone
from kymograph.store.rollups.keeper import ReadersKeeper, WritersKeeper
from kymograph.store.rollups.levels import DOCUMENT, State, policies
from kymograph.store.rollups.lines import chosen_of, policy_of
from kymograph.store.rollups.rollups import Rollups
from kymograph.store.rollups.touched import Touched
from kymograph.store.rollups.watched import Watched, unwatched

if TYPE_CHECKING:
    from datetime import timedelta

    from kymograph.promql.source import Source
    from kymograph.sql.session import SqlSession

JOB = "rollups"
_GONE = "some rows are only there as summaries, or not at all, so the result is approximate"
_PAUSE = 30 * 10**6


class RollupVerbs(QueryVerbs):
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
            # what a crash has left half done, or lost, comes before the first write
            self._rollups().restore()
            self._downsampling().open()
            self._jobs.add(Job(JOB, _PAUSE, self.run_rollups))

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
        query: str | None = None,
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
            keep: what bounds the rollup's own table, also of one that is there already.
            start_offset: late data further back than this is not looked at; None: it always is.
            end_offset: how long after its end a bucket is made, for what arrives a little late.
            query: SQL in place of source, every, by and fields: any SELECT with one width of `time_bucket`, whose column
                becomes `time`; texts become labels, numbers fields. It is asked again for buckets that change, over
                their rows alone.
            refresh: make what is there already before this returns; otherwise the background does.

        Returns:
            As one of `rollups()`.

        Raises:
            InvalidInput, SchemaError: what cannot be summarised so. NotFound: the source.
            AlreadyExists: there is another table of that name.
        """
        if keep is not None and not isinstance(keep, Retention):
            raise InvalidInput(f"keep must be kymograph.Retention, not {keep!r}")
        rooms, offsets = self._rollups(), (start_offset, end_offset)
        if query is None:
            self._written(lambda: rooms.create(name, source, every, by, fields, keep, offsets))
        else:
            text = query
            self._written(lambda: rooms.create_query(name, text, keep, offsets))
        if refresh:
            self._written(lambda: rooms.refresh(name, None, None))
        return next(told for told in rooms.listing() if told["name"] == name)

    def rollups(self) -> list[dict[str, Any]]:
        """Every rollup by name.

        Keys: name, source, query, every, by, fields, keep, start_offset, end_offset (durations in µs), fresh_until (µs:
        buckets before it are made), waiting (stretches that late data or deletions touched and that will be made anew),
        rows, oldest, newest.
        """
        if isinstance(self.engine, Watched):
            return self._rollups().listing()
        return Rollups(self.engine, Touched(self.engine), self._asked, self._check, self._gone()).listing()

    def refresh_rollup(self, name: str, start: Any = None, end: Any = None) -> int:
        """Bring a rollup and those below it up to date; with a range, make the buckets that meet it anew too.

        Summaries of rows that retention has removed stay. Returns rows written.
        """
        low, high = (None if time is None else to_micros(time) for time in (start, end))
        return self._written(lambda: self._rollups().refresh(name, low, high))

    def drop_rollup(self, name: str) -> None:
        """Forget a rollup with its table. Raises NotFound, InvalidInput where another is built on it."""
        self._written(lambda: self._rollups().drop(name))

    def downsample(
        self,
        older_than: str | timedelta | int,
        interval: str | timedelta | int,
        name: str | None = None,
        labels: Mapping[str, Any] | None = None,
    ) -> dict[str, int]:
        """Replace scalar samples by their summaries now, for good.

        PromQL asks the summaries as it asked the samples: over ranges that begin and end where their buckets do
        (multiples of the interval), functions such as `avg_over_time`, `rate` and `integrate` give what they gave; over
        others they interpolate, and a warning says so. The summaries are in the table `samples_INTERVAL`, of
        buckets (time - interval, time] as PromQL's windows are. A sample that comes later goes into its summary.

        Args:
            older_than: what is older than this before now, down to a whole bucket.
            interval: of the buckets; 1 s to a year, a multiple or divisor of those in use.
            name: only this metric.
            labels: only series with these; a list of values means any of them.

        Returns:
            samples (removed), summaries (written), interval and upto (µs: up to when samples were replaced).
        """
        older, width = parse_duration(older_than), bucket_width(interval)
        chosen = chosen_of(name, labels)
        return self._written(lambda: self._downsampling().once(older, width, chosen))

    def downsample_policy(
        self, policy: Any, name: str | None = None, labels: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Do as `downsample` from now on, in the background: `"1h -> 1m, 1w -> 5m, 30d -> 1h"`.

        It replaces the policy of the same name and labels; "" or None ends it, and what was replaced stays so. To
        rewrite little, samples go when they are an eighth older than they have to be.

        Args:
            policy: ages and intervals as text or as pairs, the older the coarser.

        Returns:
            As `downsample_policies()`.
        """
        pairs = policy_of(policy) if policy else []
        chosen = chosen_of(name, labels)
        self._written(lambda: self._downsampling().set_policy(chosen, pairs))
        return self.downsample_policies()

    def downsample_policies(self) -> list[dict[str, Any]]:
        """What is downsampled: labels (`__name__` is the metric), older_than (µs; None: only by hand), interval (µs),
        table and boundary (µs: up to when; None: nothing yet).
        """
        if isinstance(self.engine, Watched):
            return policies(self._downsampling().state)
        return policies(State.of(self.engine.get_document(*DOCUMENT)))

    @property
    def sent_again(self) -> int:
        """Late samples since this was opened that were left out, because the summary in their place had them already."""
        return self._downsampling().sent_again if isinstance(self.engine, Watched) else 0

    def explain(
        self, query: str, *, time: Any = None, start: Any = None, end: Any = None, step: Any = None
    ) -> dict[str, Any]:
        """What a query reads: it is run, and its result left out.

        Args:
            query: PromQL, evaluated at `time` or over `start`, `end` and `step`; or SQL.

        Returns:
            language (promql or sql), tiers ("raw" for rows as they were written, otherwise tables of summaries), read
            (samples and summaries, None for SQL), warnings.
        """
        words = query.split(None, 2)
        first = words[0].lower() if words else ""
        if first in ("select", "values", "explain") or (first == "with" and not words[1].startswith("(")):
            rows = self.sql(query)
            warnings = [_GONE] if rows.approximate else []
            return {"language": "sql", "tiers": rows.tiers, "read": None, "warnings": warnings}
        if step is None:
            found = self.promql(query, time=time)
        else:
            found = self.promql_range(query, start=start, end=end, step=step)
        return {"language": "promql", "tiers": found.tiers, "read": found.samples, "warnings": found.warnings}

    def _rollups(self) -> Rollups:
        watched = self._watched()
        return self._kept(
            "rollups",
            lambda: Rollups(cast(Engine, watched), watched.touched, self._asked, self._check, self._gone()),
        )

    def _gone(self) -> Gone:
        return Gone(self._engine, self._series_retention())

    def _series_retention(self) -> SeriesRetention:
        return self._kept(
            "series retention",
            lambda: SeriesRetention(
                unwatched(self._engine), lambda matchers: self._series_source().scalars(matchers), self._seen
            ),
        )

    def _seen(self) -> AbstractContextManager[int]:
        return self._rollups().seen(SAMPLES)

    def _asked(self, text: str, params: Mapping[str, Any]) -> pa.Table:
        return self._sql_session().query(text, params, QueryLimits(timeout=None)).arrow()

    def _downsampling(self) -> Downsampling:
        watched, rollups = self._watched(), self._rollups()
        return self._kept("downsampling", lambda: Downsampling(cast(Engine, watched), watched.touched, rollups))

    def _watched(self) -> Watched:
        engine = self.engine
        if not isinstance(engine, Watched):
            raise ReadOnly("rollups belong to the writing process", hint="their tables can be read here")
        return engine

    def _series_source(self) -> Source:
        source = super()._series_source()
        if source.tiers is None:
            source.tiers = Tiers(self.engine, self._keeper())
        return source

    def _sql_session(self) -> SqlSession:
        session = super()._sql_session()
        if session.tiers is None:
            session.tiers = self._keeper()
        return session

    def _keeper(self) -> WritersKeeper | ReadersKeeper:
        if not isinstance(self.engine, Watched):
            return ReadersKeeper(self.engine, self._gone())
        return WritersKeeper(self.engine, self.engine.touched, self._rollups(), self._downsampling(), self._gone())

    def run_rollups(self) -> str:
        """Do now what the background does every half minute: bring rollups up to date, apply downsampling policies.

        Returns what was done, in one line.
        """
        rooms, downsampling = self._rollups(), self._downsampling()
        return f"{self._written(rooms.run)}; {self._written(downsampling.run)}"
