"""The cpu-only data of the Time Series Benchmark Suite: ingestion, disk and six of its questions, beside DuckDB."""

from __future__ import annotations

import argparse
import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench import compare
from bench.data import tsbs
from bench.peers import Data, Peer
from bench.peers.duck import DuckDB
from bench.peers.kymo import Kymograph
from bench.questions import TSBS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hosts", type=int, default=400)
    parser.add_argument("--hours", type=int, default=24, help="hours of data at 10 s (24)")
    compare.arguments(parser)


def run(args: argparse.Namespace) -> None:
    if args.small:
        args.hosts, args.hours, args.ingests = min(args.hosts, 20), min(args.hours, 2), 1
    compare.in_folder(args, measure)


def measure(args: argparse.Namespace, folder: Path) -> None:
    data = write_data(folder, args.hosts, args.hours)
    values = args.hosts * args.hours * 360 * len(tsbs.FIELDS)
    print(f"{args.hosts} hosts, {args.hours} h at 10 s, {len(tsbs.FIELDS)} fields: {values / 1e6:,.1f} million values")
    peers: list[Peer] = [Kymograph(), DuckDB()]
    outcomes = [compare.ingest(peer, folder / "stores", data, args.ingests) for peer in peers]
    params = moments(args.hours)
    compare.ask_all(peers, folder / "stores", outcomes, TSBS, lambda _: params, args.repeats)
    compare.report(outcomes, TSBS)


def write_data(folder: Path, hosts: int, hours: int) -> Data:
    """One Arrow file, in batches of at most 10,000 rows."""
    file = folder / "cpu.arrow"
    with pa.ipc.new_file(file, tsbs.SCHEMA) as writer:
        for batch in tsbs.batches(hosts, hours * 360):
            writer.write_batch(batch)
    return {tsbs.TABLE: [file]}


def moments(hours: int) -> dict[str, Any]:
    """Parameters of the questions; spans are cut to what there is."""
    end = dt.datetime.fromtimestamp(tsbs.START / 1e6, dt.UTC) + dt.timedelta(hours=hours)
    return {"host": "host_7", "end": end} | {
        name: end - dt.timedelta(hours=min(hours, span)) for name, span in (("hour", 1), ("eight", 8), ("twelve", 12))
    }
