"""The verbs of retention: of a table, and of some series of `samples`."""

from __future__ import annotations

import dataclasses
from typing import Any

from kymograph.engine.interface import PruneReport
from kymograph.errors import InvalidInput
from kymograph.model.schema import SAMPLES
from kymograph.options import Retention
from kymograph.store.exemplars.book import EXEMPLARS
from kymograph.store.jobs import now_micros
from kymograph.store.retention.line import age_of
from kymograph.store.rollups.verbs import RollupVerbs
from kymograph.store.table_verbs import TableVerbs


class RetentionVerbs(TableVerbs, RollupVerbs):
    """Bounds of tables and of series; see `Store`."""

    def set_retention(self, name: str, retention: Retention | None, *, series: str | None = None) -> None:
        """Replace what bounds a table; None leaves only the store-wide bounds. The next prune applies it.

        Args:
            series: a series selector in PromQL such as `{team="juniors"}` or `debug{job=~"a|b"}`. Samples of the series
                that it finds, of `samples` alone, go after `retention.age`, the summaries in place of them and their
                exemplars with them; rollups keep what they have seen of them. It replaces the age of an equal selector;
                None, or a retention without an age, takes that away, and what has gone stays gone. Where several
                selectors find a series the shortest age counts. The bounds of the table hold all the same, so that a
                longer age than theirs is without effect. Rings are bounded by their slots alone.

        Raises:
            NotFound: the table, or a selector to take away that has no age.
            InvalidInput: bytes for some series, or series of another table. QueryError: no selector.
        """
        if series is None:
            super().set_retention(name, retention)
            return
        if name != SAMPLES:
            raise InvalidInput(f"retention by series is there for samples, not for {name}", hint="split the table")
        age = age_of(retention)
        self._written(lambda: self._series_retention().set(series, age))

    def series_retention(self) -> list[dict[str, Any]]:
        """The ages of series: series (the selector), age (µs), boundary (µs: samples older than this have gone; None:
        none yet), matched (how many series it finds now, without those in rings).
        """
        self._check()
        return self._series_retention().listing()

    def _pruned(self, *, dry_run: bool = False, force: bool = False) -> PruneReport:
        """See `Store.prune`."""
        report = super()._pruned(dry_run=dry_run, force=force)
        aged = self._written(lambda: self._series_retention().prune(now_micros(), dry_run=dry_run, force=force))
        if not dry_run and any(victim.table == EXEMPLARS for victim in aged):
            self._dropped(EXEMPLARS)
        return dataclasses.replace(report, victims=(*report.victims, *aged))
