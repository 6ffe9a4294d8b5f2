"""A fleet of GPUs: how fast rows go in, what they take on disk, how long seven questions take, beside peers."""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench import child
from bench.data import fleet
from bench.peers import Ingested, Peer, Session
from bench.peers.duck import DuckDB
from bench.peers.kymo import Kymograph
from bench.peers.rows import SQLite
from bench.peers.victoria import VictoriaMetrics
from bench.questions import NAMES, differ
from bench.table import folder_bytes, median_ms, number, show

# SQLite gets this share of the hours; it is an order of magnitude slower than the others
_SQLITE_SHARE = 3


@dataclass
class Outcome:
    """What one system did: medians over its ingestions, the disk it takes, milliseconds per question."""

    name: str
    hours: int
    ingested: Ingested
    peak: int
    disk: int
    times: dict[str, float | None] = field(default_factory=dict)
    differs: dict[str, str] = field(default_factory=dict)

    @property
    def values(self) -> int:
        return self.ingested.rows * len(fleet.FIELDS)

    @property
    def rate(self) -> float:
        """Million values per second."""
        return self.values / self.ingested.seconds / 1e6


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--hours", type=int, default=6, help="hours of data at 10 s (6)")
    parser.add_argument("--scale", type=int, default=1, help="also ingest this many times the hours, for flatness")
    parser.add_argument("--peers", default="", help="more systems, separated by commas: victoria, timescale")
    parser.add_argument("--only", default="", help="only these of: kymograph, duckdb, sqlite")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions of each question (7)")
    parser.add_argument(
        "--ingests", type=int, default=3, help="ingestions of Kymograph and DuckDB, of which the median (3)"
    )
    parser.add_argument("--folder", type=Path, default=None, help="where to work (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind")


def run(args: argparse.Namespace) -> None:
    if args.small:
        args.gpus, args.hours, args.ingests = min(args.gpus, 100), min(args.hours, 2), 1
    folder = args.folder or Path(tempfile.mkdtemp(prefix="kymograph-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        measure(args, folder)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


def measure(args: argparse.Namespace, folder: Path) -> None:
    files, scores = write_data(folder / "data", args.hours, args.gpus)
    values = args.hours * fleet.STEPS_PER_PIECE * args.gpus * len(fleet.FIELDS)
    print(f"{args.gpus} GPUs, {args.hours} h at 10 s, {len(fleet.FIELDS)} fields: {values / 1e6:,.1f} million values")
    outcomes, peers = [], systems(args)
    for peer, share in peers:
        hours = max(1, args.hours // share)
        repeats = 1 if share > 1 or isinstance(peer, VictoriaMetrics) else args.ingests
        outcomes.append(ingest(peer, folder / "stores", files[:hours], scores, repeats))
        print(f"  {peer.name}: {number(outcomes[-1].rate)} million values/s", flush=True)
    ask_all(args, folder / "stores", outcomes, {peer.name: peer for peer, _ in peers})
    report(outcomes)
    if args.scale > 1:
        flatness(args, folder, outcomes[0])


def write_data(folder: Path, hours: int, gpus: int) -> tuple[list[Path], Path]:
    """One Arrow file per hour in batches of 10,000 rows, and one of scores."""
    folder.mkdir(parents=True, exist_ok=True)
    files, made = [], fleet.Fleet(gpus)
    for hour in range(hours):
        files.append(folder / f"hour-{hour:04d}.arrow")
        with pa.ipc.new_file(files[-1], fleet.SCHEMA) as writer:
            writer.write_table(pa.Table.from_batches([made.piece()]), max_chunksize=fleet.BATCH)
    table = fleet.scores(hours, gpus)
    with pa.ipc.new_file(folder / "scores.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=fleet.BATCH)
    return files, folder / "scores.arrow"


def systems(args: argparse.Namespace) -> list[tuple[Peer, int]]:
    """The systems to run and the divisor of the hours each gets."""
    every: dict[str, tuple[Peer, int]] = {
        "kymograph": (Kymograph(), 1),
        "duckdb": (DuckDB(), 1),
        "sqlite": (SQLite(), _SQLITE_SHARE),
    }
    wanted = [name for name in args.only.split(",") if name] or list(every)
    found = [every[name] for name in wanted]
    for name in filter(None, args.peers.split(",")):
        if name == "victoria":
            missing = VictoriaMetrics.missing()
            if not missing:
                found.append((VictoriaMetrics(), 1))
        elif name == "timescale":
            missing = timescale_missing()
        else:
            missing = "not a peer this benchmark knows"
        if missing:
            print(f"{name}: not measured: {missing}")
    return found


def timescale_missing() -> str:
    """Why TimescaleDB cannot be measured here."""
    if not list(Path("/usr/share/postgresql").glob("*/extension/timescaledb.control")):
        return "not present (no PostgreSQL here has the extension timescaledb)"
    return "present, but this benchmark cannot drive it before the PostgreSQL engine exists"


def ingest(peer: Peer, folder: Path, files: Sequence[Path], scores: Path, repeats: int) -> Outcome:
    """Ingest `repeats` times, each in a new process and folder; the last folder stays for the questions."""
    results = []
    place = folder / peer.name
    for _ in range(repeats):
        shutil.rmtree(place, ignore_errors=True)
        results.append(child.run(peer.ingest, place, files, scores))
    results.sort(key=lambda result: result[0].seconds)
    ingested, _ = results[len(results) // 2]
    peak = max(result.peak or peak for result, peak in results)
    return Outcome(peer.name, len(files), ingested, peak, folder_bytes(place))


def ask_all(args: argparse.Namespace, folder: Path, outcomes: list[Outcome], peers: dict[str, Peer]) -> None:
    """Time every question on every system and compare each answer with the first system's."""
    sessions = {outcome.name: peers[outcome.name].open(folder / outcome.name) for outcome in outcomes}
    try:
        for question in NAMES:
            for outcome in outcomes:
                session, same_data = sessions[outcome.name], outcome.hours == outcomes[0].hours
                params = moments(outcome.hours, args.gpus)
                first = answer(sessions[outcomes[0].name], question, params)
                own = answer(session, question, params)
                if own is None:
                    outcome.times[question] = None
                    continue
                if outcome is not outcomes[0] and first is not None and same_data:
                    outcome.differs[question] = differ(first, own)
                outcome.times[question] = median_ms(lambda: session.ask(question, params), args.repeats)  # noqa: B023
    finally:
        for session in sessions.values():
            session.close()


def answer(session: Session, question: str, params: dict[str, Any]) -> pa.Table | None:
    try:
        return session.ask(question, params)
    except Exception as problem:
        print(f"  {type(session).__name__} cannot answer {question}: {problem}")
        return None


def moments(hours: int, gpus: int) -> dict[str, Any]:
    """Parameters of the questions; `end` is one step after the last row."""
    start = dt.datetime.fromtimestamp(fleet.START / 1e6, dt.UTC)
    end = start + dt.timedelta(hours=hours)
    back = {"day": dt.timedelta(hours=24), "hour": dt.timedelta(hours=1), "moment": dt.timedelta(minutes=5)}
    uuids = fleet.Fleet(gpus).uuids
    return {"gpu": uuids[len(uuids) // 3], "start": start, "end": end} | {name: end - b for name, b in back.items()}


def report(outcomes: list[Outcome]) -> None:
    rows = [
        [
            outcome.name,
            str(outcome.hours),
            number(outcome.rate),
            number(outcome.disk / outcome.values),
            number(outcome.peak / 2**20),
        ]
        for outcome in outcomes
    ]
    show("Ingestion and disk", ["system", "hours", "million values/s", "bytes/value", "peak MiB"], rows)
    rows = [[outcome.name, *(number(outcome.times.get(name)) for name in NAMES)] for outcome in outcomes]
    show("Questions, median ms", ["system", *NAMES], rows)
    duck = next((outcome for outcome in outcomes if outcome.name == DuckDB.name), None)
    if duck:
        ratios = []
        for outcome in outcomes:
            cells = [outcome.rate / duck.rate, (outcome.disk / outcome.values) / (duck.disk / duck.values)]
            asked = [_ratio(outcome.times.get(name), duck.times.get(name)) for name in NAMES]
            ratios.append([outcome.name, *map(number, cells), *map(number, asked)])
        show("Ratio to DuckDB (rate: more is better; the rest: less)", ["system", "rate", "disk", *NAMES], ratios)
    for outcome in outcomes[1:]:
        same = sum(not problem for problem in outcome.differs.values())
        print(f"{outcome.name}: {same} of {len(outcome.differs)} compared answers are those of {outcomes[0].name}")
        for question, problem in outcome.differs.items():
            if problem:
                print(f"  DIFFERENT: {question}: {problem}")


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def flatness(args: argparse.Namespace, folder: Path, base: Outcome) -> None:
    """Kymograph again with `scale` times the hours: is the rate the same, and does memory stay where it was?"""
    hours = args.hours * args.scale
    files, scores = write_data(folder / "data", hours, args.gpus)
    large = ingest(Kymograph(), folder / "large", files, scores, 1)
    marks = [0.0, *large.ingested.marks]
    rates = [large.values / len(files) / (b - a) / 1e6 for a, b in itertools.pairwise(marks)]
    tenth = max(1, len(rates) // 10)
    rows = [
        [
            f"{outcome.hours} h",
            number(outcome.rate),
            number(outcome.disk / outcome.values),
            number(outcome.peak / 2**20),
        ]
        for outcome in (base, large)
    ]
    rows.append(["ratio", number(large.rate / base.rate), "", ""])
    show(f"{args.scale} times the data", ["data", "million values/s", "bytes/value", "peak MiB"], rows)
    print(f"first tenth {number(statistics.mean(rates[:tenth]))}, last {number(statistics.mean(rates[-tenth:]))}")
