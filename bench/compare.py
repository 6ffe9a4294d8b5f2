"""Runs several systems on the same data: ingestion, disk, questions, whether they answer alike."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench import child
from bench.peers import Data, Ingested, Peer, Session
from bench.peers.duck import DuckDB
from bench.questions import differ
from bench.table import folder_bytes, median_ms, number, show

Params = Mapping[str, Any]


@dataclass
class Outcome:
    """What one system did: its ingestion (the median one), the disk it takes, milliseconds per question.

    `hours` is how much of the data it got; only systems with the same hours are compared answer by answer.
    """

    name: str
    hours: int
    ingested: Ingested
    peak: int
    disk: int
    times: dict[str, float | None] = field(default_factory=dict)
    differs: dict[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Million values per second."""
        return self.ingested.values / self.ingested.seconds / 1e6

    @property
    def per_value(self) -> float:
        """Bytes on disk per value."""
        return self.disk / self.ingested.values


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every benchmark that compares systems."""
    parser.add_argument("--repeats", type=int, default=7, help="repetitions of each question (7)")
    parser.add_argument("--ingests", type=int, default=3, help="ingestions, of which the median (3)")
    parser.add_argument("--folder", type=Path, default=None, help="where to work (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind")


def in_folder(args: argparse.Namespace, measure: Callable[[argparse.Namespace, Path], None]) -> None:
    """Call `measure` with a folder to work in, and remove it afterwards."""
    folder = args.folder or Path(tempfile.mkdtemp(prefix="kymograph-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        measure(args, folder)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


def ingest(peer: Peer, folder: Path, data: Data, repeats: int) -> Outcome:
    """Ingest `repeats` times, each in a new process and folder; the last folder stays for the questions."""
    results = []
    place = folder / peer.name
    for _ in range(repeats):
        shutil.rmtree(place, ignore_errors=True)
        # what others have written is not to be flushed on this one's clock
        os.sync()
        results.append(child.run(peer.ingest, place, data))
    results.sort(key=lambda result: result[0].seconds)
    ingested, _ = results[len(results) // 2]
    peak = max(result.peak or peak for result, peak in results)
    outcome = Outcome(peer.name, len(next(iter(data.values()))), ingested, peak, folder_bytes(place))
    print(f"  {peer.name}: {number(outcome.rate)} million values/s", flush=True)
    return outcome


def ask_all(
    peers: Sequence[Peer],
    folder: Path,
    outcomes: Sequence[Outcome],
    names: Sequence[str],
    params_of: Callable[[int], Params],
    repeats: int,
) -> None:
    """Time every question on every system and compare each answer with the first system's.

    `params_of(hours)` gives the parameters for a system that holds that many hours.
    """
    sessions = [peer.open(folder / peer.name) for peer in peers]
    try:
        for question in names:
            for session, outcome in zip(sessions, outcomes, strict=True):
                params = params_of(outcome.hours)
                own = answer(session, question, params)
                if own is None:
                    outcome.times[question] = None
                    continue
                if outcome is not outcomes[0] and outcome.hours == outcomes[0].hours:
                    first = answer(sessions[0], question, params)
                    if first is not None:
                        outcome.differs[question] = differ(first, own)
                outcome.times[question] = time_of(session, question, params, repeats)
    finally:
        for session in sessions:
            session.close()


def time_of(session: Session, question: str, params: Params, repeats: int) -> float:
    return median_ms(lambda: session.ask(question, params), repeats)


def answer(session: Session, question: str, params: Params) -> pa.Table | None:
    try:
        return session.ask(question, params)
    except Exception as problem:
        print(f"  {type(session).__name__} cannot answer {question}: {problem}")
        return None


def report(outcomes: Sequence[Outcome], names: Sequence[str]) -> None:
    """Print what was measured, ratios to DuckDB, and which answers differ."""
    rows = [
        [one.name, str(one.hours), number(one.rate), number(one.per_value), number(one.peak / 2**20)]
        for one in outcomes
    ]
    show("Ingestion and disk", ["system", "files", "million values/s", "bytes/value", "peak MiB"], rows)
    rows = [[one.name, *(number(one.times.get(name)) for name in names)] for one in outcomes]
    show("Questions, median ms", ["system", *names], rows)
    duck = next((one for one in outcomes if one.name == DuckDB.name), None)
    if duck:
        ratios = []
        for one in outcomes:
            cells = [one.rate / duck.rate, one.per_value / duck.per_value]
            asked = [_ratio(one.times.get(name), duck.times.get(name)) for name in names]
            ratios.append([one.name, *map(number, cells), *map(number, asked)])
        show("Ratio to DuckDB (rate: more is better; the rest: less)", ["system", "rate", "disk", *names], ratios)
    for one in outcomes[1:]:
        same = sum(not problem for problem in one.differs.values())
        print(f"{one.name}: {same} of {len(one.differs)} compared answers are those of {outcomes[0].name}")
        for question, problem in one.differs.items():
            if problem:
                print(f"  DIFFERENT: {question}: {problem}")


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None
