"""`python -m bench NAME [options]`: one benchmark. `--small` for a quick look; `--help` after the name for the rest."""

from __future__ import annotations

import argparse
import importlib
import platform

import duckdb
import numpy as np
import pyarrow as pa

NAMES = {
    "fleet": "a fleet of GPUs: ingestion, disk, seven questions, beside DuckDB and SQLite",
    "tsbs": "the cpu-only data of TSBS: ingestion, disk, six questions, beside DuckDB",
    "writes": "one-row writes per second, acknowledged, from eight threads",
    "opening": "opening a store of many blocks",
    "metrics": "samples over HTTP, disk and PromQL, beside VictoriaMetrics and Prometheus",
    "answers": "short answers of Prometheus' API over HTTP, alone and eight at once, beside VictoriaMetrics",
    "labels": "finding series by their labels among many, beside VictoriaMetrics",
    "streams": "waveforms: insertion, reading, zooming, HTTP, beside HDF5 and NumPy files",
    "scrapes": "what node exporter scrapes take on disk",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    modules = {name: importlib.import_module(f"bench.{name}") for name in NAMES}
    for name, text in NAMES.items():
        options = names.add_parser(name, help=text, description=text)
        options.add_argument("--small", action="store_true", help="little data, one ingestion: is everything wired up?")
        modules[name].arguments(options)
    args = parser.parse_args()
    print(
        f"Python {platform.python_version()}, pyarrow {pa.__version__}, NumPy {np.__version__}, DuckDB {duckdb.__version__}"
    )
    modules[args.name].run(args)


if __name__ == "__main__":
    main()
