"""The verbs of rules: load files, see what became of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kymograph.errors import ReadOnly
from kymograph.options import parse_duration
from kymograph.store.base import StoreBase

if TYPE_CHECKING:
    from datetime import timedelta

    from kymograph.store.rules.evaluation import GroupState, Notify
    from kymograph.store.rules.schedule import RuleSchedule
    from kymograph.store.store import Store


class RuleVerbs(StoreBase):
    """Recording and alerting rules of a store; see `Store`."""

    def load_rules(
        self,
        files: Iterable[Path | str],
        *,
        interval: str | timedelta | int = "1m",
        notify: Notify | None = None,
        url: str = "",
        start: bool = True,
    ) -> RuleSchedule:
        """Evaluate the rules of rule files in Prometheus' format, in place of those loaded before.

        Groups that are as before go on, in others the rules of the same name and labels, with their alerts; series of
        rules that are gone end.

        Args:
            interval: between evaluations of groups that do not say their own.
            notify: called with every list of `Notice` there is: alerts that fire or have ended; it must not block.
            url: where this store is reached, for templates and notices.
            start: evaluate on schedule until the store closes; otherwise whenever `evaluate` of what is returned is
                called.

        Raises:
            InvalidInput: a file that cannot be read or is wrong; names file, group and rule. The rules before stay.
            ReadOnly: the store was opened for reading only.
        """
        from kymograph.store.rules.files import read_rules
        from kymograph.store.rules.schedule import RuleSchedule

        self._check()
        if self.options.read_only:
            raise ReadOnly(f"{self.path} is open for reading only", hint="rules store what they give")
        groups = read_rules(files, parse_duration(interval))
        with self._kept("loading rules", threading.Lock):
            former = self._rooms.get("rules")
            if former is not None:
                former.stop()
            made = RuleSchedule(cast("Store", self), groups, notify, url, former.groups if former is not None else ())
            self._rooms["rules"] = made
            if start:
                made.start()
        return made

    def rule_groups(self) -> list[GroupState]:
        """The groups loaded, with the state of every rule and alert."""
        self._check()
        found = self._rooms.get("rules")
        return [] if found is None else list(found.groups)

    def close(self) -> None:
        """Stop evaluating, then close the rest."""
        found = self._rooms.get("rules")
        if found is not None:
            found.stop()
        super().close()
