"""What the forked children do. Each reports over its pipe what has been acknowledged."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # noqa: F401  pyarrow imports it on first use, which would cost every child half a second
import pyarrow.compute
import pyarrow.parquet  # noqa: F401

from kymograph.local import snapshot as copying
from kymograph.local.engine import LocalEngine
from kymograph.local.files import Files
from kymograph.model.schema import table_schema
from kymograph.options import StoreOptions
from kymograph.store.store import Store
from tests.crash import store_script, stream_script
from tests.crash.script import SHORT, apply, random_script
from tests.rows import batch_of

Report = Callable[[str], Any]

PREFIX = table_schema("log", ["host"], {"number": "int64", "text": "string"}, partition="1m")
BATCH = 20


class KillAt(Files):
    """Dies without a word before the k-th durable step."""

    def __init__(self, k: int) -> None:
        self.left = k

    def step(self, name: str, path: Path) -> None:
        if self.left == 0:
            os._exit(137)
        self.left -= 1


def short(report: Report, folder: str, k: int, sync: str) -> None:
    """The short script, killed at its k-th step."""
    engine = LocalEngine(Path(folder), StoreOptions(sync=sync), files=KillAt(k))  # type: ignore[arg-type]
    for number, operation in enumerate(SHORT):
        apply(engine, operation)
        report(f"done {number + 1}")
    engine.close()
    report("end")


def streams(report: Report, folder: str, k: int) -> None:
    """The short life of streams, killed at its k-th step."""
    with stream_script.small_sizes():
        engine = LocalEngine(Path(folder), StoreOptions(sync="full"), files=KillAt(k))
        for number, operation in enumerate(stream_script.SCRIPT):
            stream_script.apply(engine, operation)
            report(f"done {number + 1}")
        engine.close()
    report("end")


def store(report: Report, folder: str, k: int) -> None:
    """A store is set up and told to do things, killed at its k-th step."""
    options = StoreOptions(sync="full")
    with Store(LocalEngine(Path(folder), options, files=KillAt(k)), options, folder) as opened:
        for number, (_, work) in enumerate(store_script.SCRIPT):
            work(opened)
            report(f"done {number + 1}")
    report("end")


def opening(report: Report, folder: str, k: int) -> None:
    """Opens a folder and closes it, killed at the k-th step."""
    LocalEngine(Path(folder), StoreOptions(sync="full"), files=KillAt(k)).close()
    report("end")


def snapshot(report: Report, folder: str, target: str) -> None:
    """A copy, killed once it has its catalog and before it has its place."""

    def die(*_: object) -> None:
        os._exit(137)

    copying.os.rename = die  # type: ignore[assignment]
    copying.copy_folder(Path(folder), Path(target))


def busy(report: Report, folder: str, seed: int, length: int) -> None:
    """A random script, to be killed by somebody else at any time."""
    engine = LocalEngine(Path(folder), StoreOptions(sync="normal"))
    report("open")
    for number, operation in enumerate(random_script(seed, length)):
        apply(engine, operation)
        report(f"done {number + 1}")
    engine.close()
    report("end")


def writer(report: Report, folder: str, counter: str, seconds: float) -> None:
    """Writes numbered rows, seals and compacts; tells how many are committed through the shared counter."""
    engine = LocalEngine(Path(folder), StoreOptions(sync="normal"))
    shared = _shared(counter)
    end = time.monotonic() + seconds
    done = batches = 0
    while time.monotonic() < end or batches < 50 or (_looks(shared) < 3 and time.monotonic() < end + 100):
        numbers = np.arange(done, done + BATCH)
        columns = {"time": numbers * 1_000_000, "host": (numbers % 3).astype(str), "number": numbers, "text": "x" * 50}
        engine.append("log", batch_of(PREFIX, columns))
        done += BATCH
        batches += 1
        struct.pack_into("<q", shared, 0, done)
        if batches % 7 == 0:
            engine.seal()
        if batches % 31 == 0:
            engine.compact()
    engine.close()
    struct.pack_into("<q", shared, 8, 1)
    report(f"wrote {done}")


def reader(report: Report, folder: str, counter: str, reopen: bool) -> None:
    """Sees a prefix of whole batches that holds all that was committed before it looked, and never shrinks."""
    shared = _shared(counter)
    options = StoreOptions(read_only=True)
    engine = LocalEngine(Path(folder), options)
    scans = last = 0
    while True:
        finished = struct.unpack_from("<q", shared, 8)[0]
        committed = struct.unpack_from("<q", shared, 0)[0]
        if reopen:
            engine.close()
            engine = LocalEngine(Path(folder), options)
        found = np.sort(engine.scan("log", columns=["number"]).table()["number"].to_numpy())
        assert np.array_equal(found, np.arange(len(found))), f"scan {scans}: not a prefix: {_gap(found)}"
        assert len(found) % BATCH == 0, f"scan {scans}: half a batch: {len(found)}"
        assert len(found) >= committed, f"scan {scans}: {len(found)} rows, {committed} were committed"
        assert len(found) >= last, f"scan {scans}: {len(found)} rows after {last}"
        newest = engine.latest("log")["number"].to_pylist()
        assert max(newest, default=-1) >= committed - 1, f"scan {scans}: latest {newest}, {committed} were committed"
        last = len(found)
        scans += 1
        struct.pack_into("<q", shared, 24 if reopen else 16, scans)
        if finished:
            break
    engine.close()
    report(f"scans {scans} rows {last}")


def _shared(counter: str) -> mmap.mmap:
    with open(counter, "r+b") as file:
        return mmap.mmap(file.fileno(), 32)


def _looks(shared: mmap.mmap) -> int:
    """How often the reader that has looked least often has looked."""
    return min(struct.unpack_from("<qq", shared, 16))


def _gap(numbers: np.ndarray[Any, Any]) -> str:
    wrong = np.flatnonzero(numbers != np.arange(len(numbers)))[:1]
    return (
        f"{len(numbers)} rows, first wrong {numbers[wrong]} at {wrong}, twice {len(numbers) - len(np.unique(numbers))}"
    )
