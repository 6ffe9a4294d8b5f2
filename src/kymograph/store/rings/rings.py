"""Making, changing and dropping rings, and writing many samples to metrics that are made on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.engine.rings import Floats, Ints, Ring
from kymograph.errors import AlreadyExists, InvalidInput
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA, SERIES_ID
from kymograph.model.time import SECOND
from kymograph.store.exemplars.book import delete_beside
from kymograph.store.metadata import Metadata
from kymograph.store.metrics import Metrics
from kymograph.store.naming import Labels, check_kind, identity
from kymograph.store.registration import SeriesIds
from kymograph.store.rings.metric import RingMetric, RingMetrics, seconds, shown

DEFAULT_STEP, DEFAULT_SLOTS = SECOND, 3600


@dataclass(frozen=True)
class Target:
    """What a sample is for: a metric by id, or by name and labels; with the ring it wants, as far as it says.

    Attributes:
        id: of a metric that is there; None finds or makes it by `name` and `labels`.
        step: µs; None is that of the ring there is, or `DEFAULT_STEP` of a new one. `slots` likewise.
    """

    id: int | None = None
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    step: int | None = None
    slots: int | None = None


class RingBook:
    """The rings of one store."""

    def __init__(
        self, engine: Engine, ids: SeriesIds, metadata: Metadata, samples: Metrics, metrics: RingMetrics
    ) -> None:
        self._engine = engine
        self._ids = ids
        self._metadata = metadata
        self._samples = samples
        self._metrics = metrics

    def define(
        self, name: str, labels: Mapping[str, str], ring: Ring, unit: str | None, help: str | None
    ) -> RingMetric:
        """See `Store.ring`."""
        check_kind(ring.kind)
        number = self._ids.find((name, identity(name, labels)))
        self._make({number: ring}, {number: shown(name, labels)})
        self._describe({number: name}, ring.kind)
        if unit is not None or help is not None:
            self._metadata.describe({name: {"unit": unit, "help": help}})
        return self._metrics.get(number)

    def write(self, kind: str, targets: Sequence[Target], of: Ints, times: Ints, values: Floats) -> list[int]:
        """Store samples of gauges or counters; metrics that are not there become rings.

        Args:
            targets: what they are for; `of`: int64, which of the targets each sample is for.
            times: int64 µs. values: float64.

        Returns:
            Ids of the targets.

        Raises:
            NotFound: an id that no metric has. InvalidInput: a name, label, step or number of slots that is none.
            AlreadyExists: a metric of another kind, step or slots. Nothing is stored then.
        """
        check_kind(kind)
        wishes = [
            Ring(
                DEFAULT_STEP if one.step is None else one.step, DEFAULT_SLOTS if one.slots is None else one.slots, kind
            )
            for one in targets
        ]
        numbers = [-1 if one.id is None else self._by_id(one) for one in targets]
        named = [place for place, one in enumerate(targets) if one.id is None]
        keys = [_key(targets[place]) for place in named]
        for place, number in zip(named, self._ids.all(keys), strict=True):
            numbers[place] = number
        self._settle(kind, targets, numbers, wishes)
        self._samples.append(np.array(numbers, np.int64)[of], times, values)
        return numbers

    def _by_id(self, target: Target) -> int:
        assert target.id is not None
        found = self._metrics.get(target.id)
        labels = identity(found.name, target.labels) if target.labels else ()
        if target.name not in (None, found.name) or (labels and dict(labels) != dict(found.labels)):
            raise InvalidInput(f"metric {found.id} is {shown(found.name, found.labels)}, not what is named beside it")
        return found.id

    def _settle(self, kind: str, targets: Sequence[Target], numbers: Sequence[int], wishes: Sequence[Ring]) -> None:
        """Make the rings that are not there, once all wishes agree with what is there and with each other."""
        present = self._engine.rings.all()
        names = {
            number: shown(one.name or self._engine.series()[number][0], one.labels)
            for number, one in zip(numbers, targets, strict=True)
        }
        plain = self._metrics.sampled([number for number in set(numbers) if number not in present])
        if plain:  # or made a ring by another writer, and written to, since
            present = self._engine.rings.all()
            plain = {number for number in plain if number not in present}
        new: dict[int, Ring] = {}
        for number, one, wish in zip(numbers, targets, wishes, strict=True):
            there = present.get(number) or new.get(number)
            if number in plain:
                self._check_plain(number, one, kind, names[number])
            elif there is None:
                new[number] = wish
            elif there.kind != kind or one.step not in (None, there.step) or one.slots not in (None, there.slots):
                raise _conflict(names[number], there, wish)
        if new:
            self._make(new, names)
            series = self._engine.series()
            self._describe({number: series[number][0] for number in new}, kind)

    def _check_plain(self, number: int, target: Target, kind: str, name: str) -> None:
        """A metric that keeps every sample takes more of them, and becomes no ring."""
        about = self._metadata.known().get(self._engine.series()[number][0], {}).get("kind", "untyped")
        if about not in (kind, "untyped"):
            raise AlreadyExists(f"metric {name} is a {about} already", hint="use another name, or delete it first")
        if target.step is not None or target.slots is not None:
            raise AlreadyExists(f"metric {name} keeps every sample and is no ring", hint="leave out step and slots")

    def _make(self, rings: Mapping[int, Ring], names: Mapping[int, str]) -> None:
        if SAMPLES not in self._engine.tables():
            with contextlib.suppress(AlreadyExists):  # made by another thread, and given a retention since
                self._engine.create_table(SAMPLES_SCHEMA)
        try:
            self._engine.rings.define(rings)
        except AlreadyExists as problem:
            present = self._engine.rings.all()
            for number, ring in rings.items():
                if present.get(number, ring) != ring:
                    raise _conflict(names[number], present[number], ring) from None
            some = next((names[n] for n in self._metrics.sampled(list(rings)) if n not in present), None)
            if some is None:
                raise
            raise AlreadyExists(
                f"metric {some} has samples that are in no ring", hint="delete it first, or use another name"
            ) from problem

    def _describe(self, names: Mapping[int, str], kind: str) -> None:
        """Note the kind of new metrics by name, unless others of that name say otherwise."""
        known = self._metadata.known()
        wrong = {}
        for number, name in names.items():
            about = known.get(name, {}).get("kind", "untyped")
            if about == "untyped" or (about != kind and not self._metrics.others_named(name, [number])):
                wrong[name] = {"kind": kind}
        if wrong:
            self._metadata.describe(wrong)

    def resize(self, number: int, step: int | None, slots: int | None) -> RingMetric:
        """Another step or number of slots, at once; see `Rings.resize`."""
        found = self._metrics.get(number)
        if found.ring is None:
            raise AlreadyExists(f"metric {shown(found.name, found.labels)} keeps every sample and is no ring")
        old = found.ring
        ring = Ring(old.step if step is None else step, old.slots if slots is None else slots, old.kind)
        self._engine.rings.resize(number, ring.step, ring.slots)
        return self._metrics.get(number)

    def remove(self, number: int) -> None:
        """Forget a metric: its ring, its samples and its exemplars."""
        found = self._metrics.get(number)
        if found.ring is None:
            self._engine.delete(SAMPLES, [Matcher(SERIES_ID, "=", number)])
        else:
            self._engine.rings.drop([number])
        delete_beside(self._engine, [Matcher(SERIES_ID, "=", number)], None, None)


def _key(target: Target) -> tuple[str, Labels]:
    if target.name is None:
        raise InvalidInput("a sample needs metric_id or name")
    return target.name, identity(target.name, target.labels)


def _conflict(name: str, there: Ring, wish: Ring) -> AlreadyExists:
    return AlreadyExists(
        f"metric {name} is a {there.kind} of {there.slots} slots of {seconds(there.step)} s already,"
        f" not a {wish.kind} of {wish.slots} of {seconds(wish.step)} s",
        hint="use another name or tags, change it with POST /metrics/{id}/retention, or delete it first",
    )
