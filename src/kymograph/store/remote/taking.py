"""Takes remote write messages into a store: decoded, series registered where new, samples stored in one step."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np

from kymograph.errors import InvalidInput, KymographError
from kymograph.model.exemplar import Exemplar
from kymograph.store.naming import check_name, check_text
from kymograph.wire import snappy
from kymograph.wire.remote.decoder import V1, Decoder, Written
from kymograph.wire.remote.layout import PAD
from kymograph.wire.remote.metadata import About

Ints = np.ndarray[Any, np.dtype[np.int64]]
# what the memory of series may take; when it is more, it begins anew
_MEMORY = 256 * 2**20


class Target(Protocol):
    """What of a store is needed."""

    def series_ids(self, series: Any) -> Ints: ...
    def append_samples(self, ids: Any, times: Any, values: Any) -> int: ...
    def describe_many(self, metrics: Any) -> None: ...
    def exemplars_beside(self, exemplars: Sequence[Exemplar]) -> list[bool]: ...


@dataclass(frozen=True)
class Taken:
    """What was stored of one message.

    Attributes:
        samples, exemplars: how many.
    """

    samples: int
    exemplars: int = 0


@dataclass
class _Memory:
    """A decoder and the ids of its series by slot, -1 where the store has not been asked yet."""

    decoder: Decoder = field(default_factory=Decoder)
    ids: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class _Part:
    """A message that is ready to be stored: `ids` of its samples' series, metadata that is new, and exemplars."""

    written: Written
    fresh: dict[str, dict[str, str | None]]
    ids: Ints
    exemplars: list[Exemplar]


class Taker:
    """Keeps what was learned from earlier messages to one store. Safe for many threads."""

    def __init__(self) -> None:
        self._memory = _Memory()
        self._told: dict[str, About] = {}

    def take(self, target: Target, message: bytes, version: str = V1) -> Taken:
        """All samples of a message in one step, or none; see `Store.take_remote_write`."""
        (answer,) = self._store(target, [self._prepared(target, message + bytes(PAD), version)])
        if isinstance(answer, KymographError):
            raise answer
        return answer

    def take_packed(self, target: Target, bodies: Sequence[tuple[bytes, str]]) -> list[Taken | KymographError]:
        """Several messages, each compressed, with its version; see `Store.take_remote_writes`."""
        parts: list[_Part | KymographError] = []
        for body, version in bodies:
            try:
                parts.append(self._prepared(target, snappy.unpack(body, PAD), version))
            except KymographError as problem:
                parts.append(problem)
        return self._store(target, parts)

    def _prepared(self, target: Target, message: bytes, version: str) -> _Part:
        """Everything that can be wrong with a message comes out here, before anything of it is stored."""
        memory = self._memory
        written = memory.decoder.read(message, version)
        if written.histograms:
            raise InvalidInput(
                f"the message has {written.histograms} native histograms, which cannot be stored; nothing was taken",
                hint="send them as classic histograms, and leave send_native_histograms off",
            )
        part = _Part(written, self._fresh(written.about), _ids(target, memory, written), _exemplars(memory, written))
        if memory.decoder.nbytes > _MEMORY:
            self._memory = _Memory()
        return part

    def _store(self, target: Target, parts: Sequence[_Part | KymographError]) -> list[Taken | KymographError]:
        """In one step where that goes. What the store refuses to the whole may be the fault of one of them."""
        good = [part for part in parts if isinstance(part, _Part) and len(part.ids)]
        problem = _appended(target, good)
        answers: list[Taken | KymographError] = []
        for part in parts:
            if isinstance(part, KymographError):
                answers.append(part)
                continue
            failed = problem
            if failed is not None and len(good) > 1 and failed.status < 500:
                failed = _appended(target, [part])
            try:
                if failed is None and part.fresh:
                    target.describe_many(part.fresh)
                    self._told.update(part.written.about)
            except KymographError as other:
                failed = other
            answers.append(failed or Taken(len(part.ids)))
        return _with_exemplars(target, parts, answers)

    def _fresh(self, about: dict[str, About]) -> dict[str, dict[str, str | None]]:
        """What was not told before, checked, in the form of `Store.describe_many`."""
        found: dict[str, dict[str, str | None]] = {}
        for name, said in about.items():
            if self._told.get(name) == said:
                continue
            check_name("metric", name)
            check_text(f"unit of metric {name}", said.unit)
            check_text(f"help of metric {name}", said.help)
            # a sender that does not know something must not take it away
            kind = said.kind if said.kind != "untyped" else None
            found[name] = {"kind": kind, "unit": said.unit or None, "help": said.help or None}
        return found


def _exemplars(memory: _Memory, written: Written) -> list[Exemplar]:
    series = memory.decoder.series
    found = []
    for slot, (labels, value, milliseconds) in written.exemplars:
        name, own = series[slot]
        found.append(Exemplar(name, labels, value, dict(own), milliseconds * 1000))
    return found


def _with_exemplars(
    target: Target, parts: Sequence[_Part | KymographError], answers: list[Taken | KymographError]
) -> list[Taken | KymographError]:
    """Store the exemplars of the messages that were taken, and count them."""
    given = [
        part.exemplars if isinstance(part, _Part) and isinstance(answer, Taken) else []
        for part, answer in zip(parts, answers, strict=True)
    ]
    if not any(given):
        return answers
    stored = iter(target.exemplars_beside([one for several in given for one in several]))
    return [
        replace(answer, exemplars=sum(islice(stored, len(several)))) if isinstance(answer, Taken) else answer
        for several, answer in zip(given, answers, strict=True)
    ]


def _appended(target: Target, parts: Sequence[_Part]) -> KymographError | None:
    """Store the samples of all parts, or tell why not."""
    if not parts:
        return None
    try:
        if len(parts) == 1:
            target.append_samples(parts[0].ids, parts[0].written.times, parts[0].written.values)
        else:
            target.append_samples(
                np.concatenate([part.ids for part in parts]),
                np.concatenate([part.written.times for part in parts]),
                np.concatenate([part.written.values for part in parts]),
            )
    except KymographError as problem:
        return problem
    return None


def _ids(target: Target, memory: _Memory, written: Written) -> Ints:
    ids = memory.ids
    slots = written.slots
    if not len(slots):
        return slots
    if int(slots.max()) < len(ids):
        found: Ints = ids[slots]
        if found.min() >= 0:
            return found
    with memory.lock:
        series = memory.decoder.series
        known = np.full(len(series), -1, np.int64)
        known[: len(memory.ids)] = memory.ids
        missing = np.unique(slots[known[slots] < 0])
        if len(missing):
            wanted = [series[slot] for slot in missing.tolist()]
            known[missing] = target.series_ids([(name, dict(labels)) for name, labels in wanted])
        memory.ids = known
    return known[slots]
