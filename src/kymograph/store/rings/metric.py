"""One scalar series as the ring face names it: metric_id, name and tags, and the ring it is kept in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kymograph.engine.interface import Engine
from kymograph.engine.rings import Ring
from kymograph.errors import InvalidInput, NotFound
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.time import SECOND
from kymograph.promql.ast import LabelMatcher
from kymograph.promql.labels import NAME
from kymograph.promql.source import Source
from kymograph.store.metadata import Metadata
from kymograph.store.naming import check_name, identity


@dataclass(frozen=True)
class RingMetric:
    """A metric.

    Attributes:
        id: of its series; `series_id` in SQL, `metric_id` in the ring face.
        name, labels: what identifies it.
        kind, unit, help: what is known of it; "" where nothing is.
        ring: how it is kept; None for a metric that keeps every sample.
    """

    id: int
    name: str
    labels: Mapping[str, str]
    kind: str
    unit: str
    help: str
    ring: Ring | None

    def as_json(self) -> dict[str, Any]:
        """As the ring face shows it; `step` in seconds, null as `slots` is where it is no ring."""
        step = None if self.ring is None else seconds(self.ring.step)
        return {
            "metric_id": self.id,
            "name": self.name,
            "kind": self.kind,
            "tags": dict(self.labels),
            "step": step,
            "slots": None if self.ring is None else self.ring.slots,
            "unit": self.unit,
            "help": self.help,
        }


def seconds(micros: int) -> int | float:
    """µs as seconds: a whole number where it is one."""
    return micros // SECOND if micros % SECOND == 0 else micros / SECOND


class RingMetrics:
    """The metrics of one engine that are there: rings, and series with samples. A dropped ring is not."""

    def __init__(self, engine: Engine, source: Source, metadata: Metadata) -> None:
        self._engine = engine
        self._source = source
        self._metadata = metadata

    def all(self) -> list[RingMetric]:
        """Every metric, by id."""
        rings = self._engine.rings.all()
        there = set(rings)
        if SAMPLES in self._engine.tables():
            there.update(self._engine.latest(SAMPLES)[SERIES_ID].to_pylist())
        series = self._engine.series()
        return [self._metric(number, rings, *series[number]) for number in sorted(there) if number in series]

    def get(self, number: int) -> RingMetric:
        """One by its id. Raises NotFound."""
        found = self._engine.series().get(number)
        if found is None or not self._there([number]):
            raise NotFound(f"there is no metric {number}", hint="GET /api/metrics lists them")
        return self._metric(number, self._engine.rings.all(), *found)

    def resolve(self, name: str, labels: Mapping[str, str]) -> RingMetric:
        """The one metric of this name that has these labels: exactly these, or else it alone has them and others.

        Raises:
            NotFound: none. InvalidInput: several, or a name or label that is none.
        """
        wanted = identity(name, labels)
        matchers = [LabelMatcher(NAME, "=", name), *(LabelMatcher(label, "=", value) for label, value in wanted)]
        selection = self._source.select(matchers)
        ids = selection.ids.tolist()
        # fields of tables come after the scalar series, and are no metrics here
        lengths = dict(zip(ids, map(len, selection.labels), strict=False))
        there = self._there(ids)
        exact = [number for number in ids if number in there and lengths[number] == len(wanted) + 1]
        chosen = exact or sorted(there)
        if not chosen:
            raise NotFound(f"there is no metric {shown(name, labels)}", hint="GET /api/metrics lists them")
        if len(chosen) > 1:
            raise InvalidInput(f"{shown(name, labels)} is {len(chosen)} metrics", hint="give more tags")
        return self.get(chosen[0])

    def others_named(self, name: str, but: Sequence[int]) -> bool:
        """Whether there are metrics of this name beside some."""
        check_name("metric", name)
        ids = self._source.select([LabelMatcher(NAME, "=", name)]).ids.tolist()
        return bool(self._there([number for number in ids if number not in but]))

    def sampled(self, ids: Sequence[int]) -> set[int]:
        """Those of some series that have samples."""
        if not ids or SAMPLES not in self._engine.tables():
            return set()
        found = self._engine.latest(SAMPLES, [Matcher(SERIES_ID, "in", frozenset(ids))])
        return set(found[SERIES_ID].to_pylist())

    def _there(self, ids: Sequence[int]) -> set[int]:
        rings = self._engine.rings.all()
        ringed = {number for number in ids if number in rings}
        return ringed | self.sampled([number for number in ids if number not in ringed])

    def _metric(self, number: int, rings: Mapping[int, Ring], name: str, labels: Mapping[str, str]) -> RingMetric:
        about = self._metadata.known().get(name, {})
        ring = rings.get(number)
        kind = about.get("kind", "untyped") if ring is None else ring.kind
        return RingMetric(number, name, labels, kind, about.get("unit", ""), about.get("help", ""), ring)


def shown(name: str, labels: Mapping[str, str]) -> str:
    """A metric in a message: `name{label="value"}`."""
    inner = ", ".join(f'{label}="{value[:60]}"' for label, value in sorted(labels.items())[:8])
    return f"{name[:80]}{{{inner}}}" if inner else name[:80]
