"""The newest values of every collector, sent to whoever watches.

Collectors hand their batches to `Hub.take` in their own threads; the hub keeps the newest per source and forgets the
one before. Watchers of the same interval and filter form a group that encodes each frame once. Each watcher has a slot
for one frame: a reader that is slow finds the newest frame there, the ones between are gone.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from kymograph.collect.batch import Batch
from kymograph.model.batch import to_table
from kymograph.model.time import isoformat
from kymograph.server.encoding import json_text, plain, rows
from kymograph.server.telemetry import legacy_row
from kymograph.store.metrics import Sample

GPU_TABLE = "gpu_metrics"
HOST_SOURCE = "host"
# a source that has been silent for so long no longer describes the present, seconds
_FORGET = 600.0


@dataclass(eq=False)
class Slot:
    """One watcher's place for the newest frame.

    Attributes:
        skipped: frames that were replaced before they were sent.
    """

    _frame: str | None = None
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    skipped: int = 0

    def put(self, frame: str) -> None:
        if self._frame is not None:
            self.skipped += 1
        self._frame = frame
        self._filled.set()

    async def take(self) -> str:
        """Wait for a frame and remove it."""
        await self._filled.wait()
        self._filled.clear()
        frame, self._frame = self._frame, None
        assert frame is not None
        return frame


@dataclass
class _Snapshot:
    """The newest batch of one source, and what its GPUs look like as JSON once somebody asked."""

    batch: Batch
    taken: float
    gpus: list[tuple[int | None, str]] | None = None


@dataclass
class _Group:
    slots: set[Slot] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


def _gpu_texts(batch: Batch) -> list[tuple[int | None, str]]:
    data = batch.rows.get(GPU_TABLE)
    if data is None:
        return []
    table = data if isinstance(data, pa.Table) else to_table(data)
    return [(row.get("device_index"), json_text(legacy_row(row))) for row in rows(table)]


def host_values(samples: Iterable[Sample]) -> dict[str, Any]:
    """Host samples as one object: `{"hostname", name: value, name: {device: value}}`."""
    host: dict[str, Any] = {}
    for sample in samples:
        name = sample.labels.get("host")
        if name:
            host.setdefault("hostname", name)
        device = ", ".join(f"{v}" for k, v in sorted(sample.labels.items()) if k != "host")
        value = plain(float(sample.value))
        if not device:
            host[sample.name] = value
            continue
        devices = host.setdefault(sample.name, {})
        if isinstance(devices, dict):
            devices[device] = value
    return host


class Hub:
    """Newest snapshots in, frames out. `take` may be called from any thread, the rest from the event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshots: dict[str, dict[str, _Snapshot]] = {}
        self._groups: dict[tuple[float, int | None], _Group] = {}
        self.watchers = 0
        self.frames = 0
        self.skipped = 0

    def take(self, batch: Batch) -> None:
        """Keep a batch as its source's newest; one of samples alone does not hide the GPUs and vice versa."""
        parts = [name for name, there in (("gpus", GPU_TABLE in batch.rows), ("samples", bool(batch.samples))) if there]
        snapshot = _Snapshot(batch, time.monotonic())
        with self._lock:
            for part in parts:
                self._snapshots.setdefault(batch.source, {})[part] = snapshot

    def _newest(self, part: str) -> list[tuple[str, _Snapshot]]:
        oldest = time.monotonic() - _FORGET
        with self._lock:
            found = [(source, parts[part]) for source, parts in self._snapshots.items() if part in parts]
        return [(source, snapshot) for source, snapshot in sorted(found) if snapshot.taken >= oldest]

    def frame(self, gpu_index: int | None = None) -> str:
        """One message as JSON text: `{"timestamp", "gpus", "host"}`."""
        gpus: list[str] = []
        for _, snapshot in self._newest("gpus"):
            if snapshot.gpus is None:
                snapshot.gpus = _gpu_texts(snapshot.batch)
            gpus += [text for index, text in snapshot.gpus if gpu_index is None or index == gpu_index]
        host: dict[str, Any] = {}
        for source, snapshot in self._newest("samples"):
            if source == HOST_SOURCE:
                host = {"timestamp": isoformat(snapshot.batch.time), **host_values(snapshot.batch.samples)}
        now = isoformat(time.time_ns() // 1000)
        return f'{{"timestamp":"{now}","gpus":[{",".join(gpus)}],"host":{json_text(host)}}}'

    def join(self, interval: float, gpu_index: int | None) -> Slot:
        """A watcher's slot; the first frame is in it already. `leave` ends it."""
        slot = Slot()
        slot.put(self.frame(gpu_index))
        key = (round(interval, 1), gpu_index)
        group = self._groups.setdefault(key, _Group())
        group.slots.add(slot)
        if group.task is None:
            group.task = asyncio.get_running_loop().create_task(self._beat(key, group))
        self.watchers += 1
        return slot

    def leave(self, slot: Slot) -> None:
        for key, group in list(self._groups.items()):
            if slot not in group.slots:
                continue
            group.slots.discard(slot)
            self.watchers -= 1
            self.skipped += slot.skipped
            if not group.slots and group.task is not None:
                group.task.cancel()
                del self._groups[key]

    async def _beat(self, key: tuple[float, int | None], group: _Group) -> None:
        interval, gpu_index = key
        loop = asyncio.get_running_loop()
        due = loop.time() + interval
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += interval
            if due <= (now := loop.time()):  # a beat that comes too late is not made up for
                due = now + interval
            frame = self.frame(gpu_index)
            self.frames += 1
            for slot in group.slots:
                slot.put(frame)
