"""One-row writes from eight threads, each acknowledged before the next: how many per second."""

from __future__ import annotations

import argparse
import itertools
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

import kymograph
from bench.table import number, show

THREADS = 8
Write = Callable[[int, int], object]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one repetition (3)")
    parser.add_argument("--repeats", type=int, default=7)


def run(args: argparse.Namespace) -> None:
    seconds, repeats = (0.5, 1) if args.small else (args.seconds, args.repeats)
    rows = []
    with tempfile.TemporaryDirectory(prefix="kymograph-bench-") as folder:
        place = Path(folder)
        for sync in ("normal", "full"):
            rows.append(
                [f"Kymograph write, sync={sync}", *_kymograph(place / f"write-{sync}", sync, False, seconds, repeats)]
            )
            rows.append(
                [f"Kymograph gauge, sync={sync}", *_kymograph(place / f"gauge-{sync}", sync, True, seconds, repeats)]
            )
            rows.append([f"SQLite, synchronous={sync}", *_sqlite(place / f"{sync}.sqlite", sync, seconds, repeats)])
        rows.append(["DuckDB (always synced)", *_duckdb(place / "one.duckdb", seconds, repeats)])
    show(f"One-row writes from {THREADS} threads", ["system", "acknowledged/s", "slowest of 100, ms"], rows)


def _kymograph(folder: Path, sync: kymograph.options.Sync, gauge: bool, seconds: float, repeats: int) -> list[str]:
    with kymograph.connect(folder, sync=sync) as store:
        store.create_table("meter", labels=["device"], fields={"watts": "float64", "volts": "float64"})

        def write(thread: int, i: int) -> object:
            if gauge:
                store.gauge("watts", float(i), labels={"device": f"d{thread}"}, time=1_000_000 * i)
                return 1
            row = {"time": [1_000_000 * i], "device": [f"d{thread}"], "watts": [float(i)], "volts": [230.0]}
            return store.write("meter", row)

        return _race(write, seconds, repeats)


def _sqlite(file: Path, sync: str, seconds: float, repeats: int) -> list[str]:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {sync}")
    connection.execute("CREATE TABLE meter (device, time, watts, volts, PRIMARY KEY (device, time)) WITHOUT ROWID")
    one = threading.Lock()

    def write(thread: int, i: int) -> object:
        with one:
            return connection.execute(
                "INSERT INTO meter VALUES (?, ?, ?, ?)", (f"d{thread}", 1_000_000 * i, float(i), 230.0)
            )

    try:
        return _race(write, seconds, repeats)
    finally:
        connection.close()


def _duckdb(file: Path, seconds: float, repeats: int) -> list[str]:
    connection = duckdb.connect(str(file))
    connection.execute("CREATE TABLE meter (time TIMESTAMP, device VARCHAR, watts DOUBLE, volts DOUBLE)")
    cursors = [connection.cursor() for _ in range(THREADS)]

    def write(thread: int, i: int) -> object:
        values = [1_000_000 * i, f"d{thread}", float(i), 230.0]
        return cursors[thread].execute("INSERT INTO meter VALUES (make_timestamp(?), ?, ?, ?)", values)

    try:
        return _race(write, seconds, repeats)
    finally:
        connection.close()


def _race(write: Write, seconds: float, repeats: int) -> list[str]:
    """Median writes per second over the repetitions, and the 99th percentile of one write, in ms."""
    rates, latencies, first = [], [], 0
    problems: list[BaseException] = []
    for _ in range(repeats):
        took: list[list[float]] = [[] for _ in range(THREADS)]
        until = time.perf_counter() + seconds

        def work(thread: int, took: list[list[float]] = took, until: float = until, first: int = first) -> None:
            try:
                for i in itertools.count(first):
                    start = time.perf_counter()
                    if start >= until:
                        return
                    write(thread, i)
                    took[thread].append(time.perf_counter() - start)
            except Exception as problem:
                problems.append(problem)

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]
        rates.append(sum(map(len, took)) / seconds)
        latencies += list(itertools.chain.from_iterable(took))
        first += max(map(len, took))
    return [number(statistics.median(rates)), number(1000 * statistics.quantiles(latencies, n=100)[98])]
