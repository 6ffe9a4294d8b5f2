"""`python -m bench metrics`: ingestion over HTTP, disk and questions of three systems, each in turn on the same bodies."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from bench import child, compare
from bench.metrics import bodies, questions
from bench.metrics.load import send
from bench.metrics.questions import Answers
from bench.metrics.servers import REMOTE, SYSTEMS, Kymograph, Server
from bench.table import number, show

# series of the two sets; each has as many samples
_SETS = (1_000, 10_000)
_HOURS = 6


@dataclass
class Outcome:
    """What one system did with one set of series.

    Attributes:
        rates: million samples/s by protocol.
        cpu: the server's processor seconds per million samples, by protocol.
        disk: bytes per sample.
        peak: peak RSS of the server, bytes.
        asked: milliseconds and answers over HTTP; `inside` the same in process.
    """

    system: type[Server]
    rates: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    disk: float = 0.0
    peak: int = 0
    asked: Answers = field(default_factory=dict)
    inside: Answers = field(default_factory=dict)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=float, default=8.64, help="millions of samples per set of series (8.64)")
    parser.add_argument("--batch", type=int, default=2000, help="samples per request (2000)")
    parser.add_argument("--connections", type=int, default=8, help="connections that write at one time (8)")
    parser.add_argument("--only", default="", help="only these systems, separated by commas")
    parser.add_argument("--no-questions", action="store_true", help="ingestion and disk only")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions of each question (7)")
    parser.add_argument("--folder", type=Path, default=None, help="where to work (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind")


def run(args: argparse.Namespace) -> None:
    if args.small:
        # as many scrapes in a request as of the larger sets: Prometheus takes nothing an hour older than the newest
        args.samples, args.repeats, args.batch = 0.04, 1, 200
    compare.in_folder(args, measure)


def measure(args: argparse.Namespace, folder: Path) -> None:
    systems = _systems(args)
    for count in _SETS if not args.small else (_SETS[0] // 10,):
        scrapes = max(10, round(args.samples * 1e6 / count))
        print(f"{count:,} series, {scrapes:,} scrapes every 10 s, {args.batch:,} samples per request", flush=True)
        files = bodies.make(folder / "bodies", count, scrapes, args.batch, args.connections)
        outcomes = [_outcome(system, folder / "stores", files, count, scrapes, args) for system in systems]
        _report(count, scrapes, outcomes)
        shutil.rmtree(folder / "bodies")
        shutil.rmtree(folder / "stores", ignore_errors=True)


def _systems(args: argparse.Namespace) -> list[type[Server]]:
    wanted = [name.lower() for name in filter(None, args.only.split(","))]
    found = []
    for system in SYSTEMS:
        if wanted and system.name.partition(",")[0].lower() not in wanted:
            continue
        missing = system.missing()
        if missing:
            print(f"{system.name}: not measured: {missing}")
        else:
            found.append(system)
    return found


def _outcome(
    system: type[Server], folder: Path, files: dict[str, Path], count: int, scrapes: int, args: argparse.Namespace
) -> Outcome:
    outcome = Outcome(system)
    if system.lines:
        place = folder / f"{system.name}-lines"
        server = system(place)
        try:
            _ingest(outcome, "lines", server, server.lines, {}, files["lines"])
        finally:
            server.stop()
        shutil.rmtree(place)
    place = folder / system.name
    server = system(place)
    try:
        _ingest(outcome, "remote", server, "/api/v1/write", REMOTE, files["remote"])
        outcome.peak = server.peak_rss()
        server.settle()
    finally:
        server.stop()
    outcome.disk = server.disk() / (count * scrapes)
    if system.asked and not args.no_questions:
        _ask(outcome, place, count, scrapes, args)
    return outcome


def _ask(outcome: Outcome, place: Path, count: int, scrapes: int, args: argparse.Namespace) -> None:
    hours = None if count > _SETS[0] // (10 if args.small else 1) else min(_HOURS, max(1, scrapes // 360 - 1))
    server = outcome.system(place)
    try:
        if hours is None:
            outcome.asked = questions.instant(server, scrapes, args.repeats)
        else:
            outcome.asked = questions.ranges(server, scrapes, hours, args.repeats)
    finally:
        server.stop()
    if outcome.system is Kymograph:
        outcome.inside, _ = child.run(questions.in_process, place, scrapes, hours, args.repeats)


def _ingest(outcome: Outcome, protocol: str, server: Server, path: str, headers: dict[str, str], file: Path) -> None:
    before = server.cpu_seconds()
    (samples, seconds, problem), _ = child.run(send, server.url, path, headers, file)
    if problem:
        print(f"  {server.name} refused: {problem}")
    outcome.rates[protocol] = samples / seconds / 1e6
    outcome.cpu[protocol] = (server.cpu_seconds() - before) / samples * 1e6
    print(f"  {server.name} {protocol}: {number(outcome.rates[protocol])} million samples/s", flush=True)


def _report(count: int, scrapes: int, outcomes: list[Outcome]) -> None:
    rows = []
    for one in outcomes:
        rates = [number(one.rates.get(kind)) for kind in ("remote", "lines")]
        cpu = [number(one.cpu.get(kind)) for kind in ("remote", "lines")]
        rows.append([one.system.name, *rates, *cpu, number(one.disk), number(one.peak / 2**20)])
    header = ["system", "remote write", "lines", "CPU remote", "CPU lines", "bytes/sample", "peak MiB"]
    title = "million samples/s, the server's CPU seconds per million samples"
    show(f"{count:,} series, {count * scrapes / 1e6:.2f} million samples: {title}", header, rows)
    names = list(outcomes[0].asked)
    if names:
        some = [one for one in outcomes if one.asked]
        rows = [[one.system.name, *(number(one.asked[name][0]) for name in names)] for one in some]
        rows += [
            [f"{one.system.name}, in process", *(number(one.inside[name][0]) for name in names)]
            for one in outcomes
            if one.inside
        ]
        show("Questions, median ms", ["system", *names], rows)
    ours = next((one for one in outcomes if one.system is Kymograph), None)
    if ours is None or len(outcomes) == 1:
        return
    rows = []
    for one in outcomes:
        if one is ours:
            continue
        rates = [
            number(mine[k] / theirs[k]) if k in theirs else "-"
            for mine, theirs in ((ours.rates, one.rates), (ours.cpu, one.cpu))
            for k in ("remote", "lines")
        ]
        ratios = [number(ours.asked[name][0] / one.asked[name][0]) if one.asked else "-" for name in names]
        rows.append([f"to {one.system.name}", *rates, number(ours.disk / one.disk), *ratios])
    show("Ratio of Kymograph (rates: more is better; the rest: less)", [*header[:6], *names], rows)
    for one in outcomes:
        for name in names if one is not ours and one.asked else ():
            problem = questions.differ(ours.asked[name][1], one.asked[name][1])
            if problem and name != "rate":  # each extrapolates rates in its own way
                print(f"  DIFFERENT from {one.system.name}: {name}: {problem}")
