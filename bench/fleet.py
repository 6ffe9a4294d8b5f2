"""A fleet of GPUs: how fast rows go in, what they take on disk, how long seven questions take, beside peers."""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import statistics
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench import compare
from bench.data import fleet
from bench.peers import Data, Peer
from bench.peers.duck import DuckDB
from bench.peers.kymo import Kymograph
from bench.peers.rows import SQLite
from bench.peers.victoria import VictoriaMetrics
from bench.questions import FLEET
from bench.table import number, show

# SQLite gets this share of the hours; it is an order of magnitude slower than the others
_SQLITE_SHARE = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpus", type=int, default=1000)
    parser.add_argument("--hours", type=int, default=6, help="hours of data at 10 s (6)")
    parser.add_argument("--scale", type=int, default=1, help="also ingest this many times the hours, for flatness")
    parser.add_argument("--peers", default="", help="more systems, separated by commas: victoria, timescale")
    parser.add_argument("--only", default="", help="only these of: kymograph, duckdb, sqlite")
    compare.arguments(parser)


def run(args: argparse.Namespace) -> None:
    if args.small:
        args.gpus, args.hours, args.ingests = min(args.gpus, 100), min(args.hours, 2), 1
    compare.in_folder(args, measure)


def measure(args: argparse.Namespace, folder: Path) -> None:
    data = write_data(folder / "data", args.hours, args.gpus)
    values = args.hours * fleet.STEPS_PER_PIECE * args.gpus * len(fleet.FIELDS)
    print(f"{args.gpus} GPUs, {args.hours} h at 10 s, {len(fleet.FIELDS)} fields: {values / 1e6:,.1f} million values")
    peers, outcomes = systems(args), []
    for peer in peers:
        slow = isinstance(peer, (SQLite, VictoriaMetrics))
        hours = max(1, args.hours // _SQLITE_SHARE) if isinstance(peer, SQLite) else args.hours
        part = {**data, fleet.TABLE: data[fleet.TABLE][:hours]}
        outcomes.append(compare.ingest(peer, folder / "stores", part, 1 if slow else args.ingests))
    compare.ask_all(peers, folder / "stores", outcomes, FLEET, lambda hours: moments(hours, args.gpus), args.repeats)
    compare.report(outcomes, FLEET)
    if args.scale > 1:
        flatness(args, folder, outcomes[0])


def write_data(folder: Path, hours: int, gpus: int) -> Data:
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
    return {fleet.TABLE: files, fleet.SCORES: [folder / "scores.arrow"]}


def systems(args: argparse.Namespace) -> list[Peer]:
    """The systems to run; says why one that was asked for is not among them."""
    every: dict[str, Peer] = {"kymograph": Kymograph(), "duckdb": DuckDB(), "sqlite": SQLite()}
    found = [every[name] for name in filter(None, args.only.split(","))] or list(every.values())
    for name in filter(None, args.peers.split(",")):
        missing = "not a peer this benchmark knows"
        if name == "victoria":
            missing = VictoriaMetrics.missing()
        elif name == "timescale":
            missing = timescale_missing()
        if missing:
            print(f"{name}: not measured: {missing}")
        else:
            found.append(VictoriaMetrics())
    return found


def timescale_missing() -> str:
    """Why TimescaleDB cannot be measured here."""
    if not list(Path("/usr/share/postgresql").glob("*/extension/timescaledb.control")):
        return "not present (no PostgreSQL here has the extension timescaledb)"
    return "present, but this benchmark cannot drive it before the PostgreSQL engine exists"


def moments(hours: int, gpus: int) -> dict[str, Any]:
    """Parameters of the questions; `end` is one step after the last row."""
    start = dt.datetime.fromtimestamp(fleet.START / 1e6, dt.UTC)
    end = start + dt.timedelta(hours=hours)
    back = {"day": dt.timedelta(hours=24), "hour": dt.timedelta(hours=1), "moment": dt.timedelta(minutes=5)}
    uuids = fleet.Fleet(gpus).uuids
    return {"gpu": uuids[len(uuids) // 3], "start": start, "end": end} | {name: end - b for name, b in back.items()}


def flatness(args: argparse.Namespace, folder: Path, base: compare.Outcome) -> None:
    """Kymograph again with `scale` times the hours: is the rate the same, and does memory stay where it was?"""
    data = write_data(folder / "data", args.hours * args.scale, args.gpus)
    large = compare.ingest(Kymograph(), folder / "large", data, 1)
    per_file = large.ingested.values / large.hours / 1e6
    rates = [per_file / (b - a) for a, b in itertools.pairwise([0.0, *large.ingested.marks])]
    tenth = max(1, len(rates) // 10)
    rows = [
        [f"{one.hours} h", number(one.rate), number(one.per_value), number(one.peak / 2**20)] for one in (base, large)
    ]
    rows.append(["ratio", number(large.rate / base.rate), "", ""])
    show(f"{args.scale} times the data", ["data", "million values/s", "bytes/value", "peak MiB"], rows)
    print(f"first tenth {number(statistics.mean(rates[:tenth]))}, last {number(statistics.mean(rates[-tenth:]))}")
