"""`python -m bench labels`: finding series by their labels among many, in process and over HTTP, beside VictoriaMetrics.

Nothing but the index is asked: answers are label sets in process, and the values of one label over HTTP.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import urllib.parse
from functools import partial
from pathlib import Path

import kymograph
from bench.metrics.servers import Kymograph, Server, VictoriaMetrics
from bench.table import median_ms, number, show

SELECTORS = (
    'm1{host="host0101"}',
    'm1{dc!="dc1"}',
    'm1{inst=~"i.*5.*"}',
    'm1{inst!~".*7"}',
    '{inst=~"i5.*3"}',
    '{inst=~"i[0-9]*11"}',
    '{host=~"host00.*",dc!~"dc[1-5]"}',
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)


def run(args: argparse.Namespace) -> None:
    series, repeats = (2_000, 1) if args.small else (args.series, args.repeats)
    names = [
        (f"m{i % 100}", {"host": f"host{i % 1000:04d}", "inst": f"i{i}", "dc": f"dc{i % 7}"}) for i in range(series)
    ]
    rows = {selector: [selector] for selector in SELECTORS}
    with tempfile.TemporaryDirectory(prefix="kymograph-bench-") as folder:
        with kymograph.connect(Path(folder, "inside"), sync="off") as store:
            ids = store.series_ids(names)
            store.append_samples(ids, [time.time_ns() // 1000] * series, [1.0] * series)
            for selector, row in rows.items():
                row += [
                    f"{len(store.series(selector)):,}",
                    number(median_ms(partial(store.series, selector), repeats)),
                ]
        header = ["selector", "series", "in process ms"]
        answers: dict[str, list[list[str]]] = {}
        for system in (Kymograph, VictoriaMetrics):
            if missing := system.missing():
                print(missing)
                continue
            header.append(f"{system.name} HTTP ms")
            server = system(Path(folder, system.__name__))
            try:
                answers[system.name] = _asked(server, names, rows, repeats)
            finally:
                server.stop()
    show(f"Labels of {series:,} series", header, [*rows.values()])
    same = len({json.dumps(found) for found in answers.values()}) == 1
    print("| Kymograph and the peer give " + ("the same values |" if same else "DIFFERENT values |"))


def _asked(
    server: Server, names: list[tuple[str, dict[str, str]]], rows: dict[str, list[str]], repeats: int
) -> list[list[str]]:
    """Load the series, add a column of times to `rows`, and return what was answered."""
    lines = [f"{name}{{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "} 1" for name, labels in names]
    for first in range(0, len(lines), 10_000):
        server.call("/api/v1/import/prometheus", ("\n".join(lines[first : first + 10_000]) + "\n").encode())
    server.settle()
    found = []
    for selector, row in rows.items():
        path = "/api/v1/label/dc/values?" + urllib.parse.urlencode({"match[]": selector})
        found.append(json.loads(server.call(path))["data"])
        row.append(number(median_ms(partial(server.call, path), repeats)))
    return found
