"""The tables of `python -m bench streams`."""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from bench import child
from bench.data.waveform import START, Rows, Waveform
from bench.metrics.servers import Kymograph as Server
from bench.streams.systems import ALL, PIECE, Pyramid, System
from bench.table import folder_bytes, median_ms, number, show
from kymograph.client import StreamClient

SETS = {
    "uint16_6 at 8 kHz": ("uint16_6", 8_000),
    "float32_8 at 8 kHz": ("float32_8", 8_000),
    "uint16_2 at 100 kHz": ("uint16_2", 100_000),
}
# published by NilmDB, in lines of RawData per second
PUBLISHED_IN, PUBLISHED_OUT = 180_000, 390_000


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=16_000_000, help="rows of the comparison (16,000,000)")
    parser.add_argument(
        "--long", type=int, default=0, metavar="ROWS", help="also insert so many rows and watch the rate"
    )


def run(args: argparse.Namespace) -> None:
    rows = 60_000 if args.small else args.rows
    with tempfile.TemporaryDirectory(prefix="kymograph-bench-") as folder:
        place = Path(folder)
        for number_of_set, (name, (layout, rate)) in enumerate(list(SETS.items())[: 1 if args.small else None]):
            _compare(place / f"set-{number_of_set}", name, layout, rate, rows if number_of_set == 0 else rows // 4)
        _zoom(place / "zoom", rows)
        _http(place / "http", rows // 4)
        if args.long:
            _long(place / "long", args.long)


def _compare(place: Path, name: str, layout: str, rate: int, rows: int) -> None:
    place.mkdir()
    table: list[list[str]] = []
    digests: list[int] = []
    for at, system in enumerate(ALL):
        folder = place / str(at)
        (took_in, took_out, digest), peak = child.run(_in_and_out, at, str(folder), layout, rate, rows)
        digests.append(digest)
        if digest != digests[0]:
            raise RuntimeError(f"{system.name} gives other rows back")
        size = folder_bytes(folder) / rows
        table.append(
            [
                system.name,
                number(rows / took_in / 1e6),
                number(rows / took_out / 1e6),
                number(size),
                number(peak / 2**20),
            ]
        )
    raw = Waveform(layout, rate).layout.rows.itemsize
    show(
        f"{name}: {rows:,} rows of {raw} bytes, inserted {PIECE:,} at a time, each durable",
        ["system", "in, million rows/s", "out, million rows/s", "bytes/row", "peak MiB"],
        table,
    )


def _in_and_out(system: int, folder: str, layout: str, rate: int, rows: int) -> tuple[float, float, int]:
    """Seconds of insertion and of reading (the second of two), and the CRC-32 of the rows that came back."""
    source = Waveform(layout, rate)
    target: System = ALL[system](Path(folder), source)
    took = 0.0
    for piece in source.pieces(rows, PIECE):
        began = time.perf_counter()
        target.insert(piece)
        took += time.perf_counter() - began
    began = time.perf_counter()
    target.settle()
    took += time.perf_counter() - began
    digest = 0
    for piece in target.read():
        digest = zlib.crc32(piece.tobytes(), digest)
    began = time.perf_counter()
    found = sum(len(piece) for piece in target.read())
    out = time.perf_counter() - began
    target.close()
    if found != rows:
        raise RuntimeError(f"{found} rows came back of {rows}")
    return took, out, digest


def _zoom(place: Path, rows: int) -> None:
    source = Waveform("uint16_6", 8_000)
    target = Pyramid(place, source)
    for piece in source.pieces(rows, PIECE):
        target.insert(piece)
    target.settle()
    whole = rows * 1_000_000 // 8_000
    table = []
    for name, width in (
        ("all of it", whole),
        ("a tenth", whole // 10),
        ("a hundredth", whole // 100),
        ("2,000 rows", 250_000),
    ):
        start = START + (whole - width) // 2
        ask = partial(target.stream.read, start, start + width, max_rows=2000)
        found = target.stream.read(start, start + width, max_rows=2000)
        table.append([name, number(median_ms(ask)), str(len(found)), str(found.factor)])
    target.close()
    show(f"At most 2,000 points of {rows:,} rows", ["span", "ms", "points", "rows per point"], table)


def _http(place: Path, rows: int) -> None:
    server = Server(place)
    try:
        with StreamClient(server.url) as client:
            data = np.concatenate(list(Waveform("uint16_6", 8_000).pieces(rows)))
            client.stream_create("/bench/raw", "uint16_6")
            binary_in = _seconds(lambda: client.stream_insert_numpy("/bench/raw", data))
            binary_out = _seconds(lambda: _count(client.stream_extract_numpy("/bench/raw", maxrows=PIECE), rows))
            with _text(client, data, rows) as (text_in, text_out):
                lines = [
                    ["binary", number(rows / binary_in / 1e6), number(rows / binary_out / 1e6)],
                    ["text", number(rows / text_in / 1e6), number(rows / text_out / 1e6)],
                    ["published by NilmDB, text", number(PUBLISHED_IN / 1e6), number(PUBLISHED_OUT / 1e6)],
                ]
    finally:
        server.stop()
    show(f"Kymograph over HTTP, uint16_6, {rows:,} rows", ["form", "in, million rows/s", "out, million rows/s"], lines)


@contextmanager
def _text(client: StreamClient, data: Rows, rows: int) -> Iterator[tuple[float, float]]:
    """Seconds of text in and out; the lines are made and taken apart off the clock."""
    server = client._server
    lines = b"".join(server.stream("/stream/extract", {"path": "/bench/raw"}))
    client.stream_create("/bench/text", "uint16_6")
    took_in = _seconds(lambda: client.stream_insert("/bench/text", lines))
    took_out = _seconds(lambda: sum(map(len, server.stream("/stream/extract", {"path": "/bench/text"}))))
    if client.stream_count("/bench/text") != rows:
        raise RuntimeError("rows are missing")
    yield took_in, took_out


def _long(place: Path, rows: int) -> None:
    (rates, size), peak = child.run(_insert_long, str(place), rows)
    table = [[f"{at * 10} to {at * 10 + 10} %", number(rate / 1e6)] for at, rate in enumerate(rates)]
    show(f"Kymograph with its pyramid: {rows:,} rows in one go", ["of the rows", "in, million rows/s"], table)
    print(f"{size / rows:.2f} bytes/row; peak {peak / 2**20:.0f} MiB\n")


def _insert_long(folder: str, rows: int) -> tuple[list[float], int]:
    source = Waveform("uint16_6", 8_000)
    target = Pyramid(Path(folder), source)
    rates = []
    for _ in range(10):
        took, done = 0.0, 0
        for piece in source.pieces(rows // 10, PIECE):
            began = time.perf_counter()
            target.insert(piece)
            took += time.perf_counter() - began
            done += len(piece)
        rates.append(done / took)
    target.settle()
    target.close()
    return rates, folder_bytes(Path(folder))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _count(arrays: Iterator[Rows], rows: int) -> None:
    if sum(map(len, arrays)) != rows:
        raise RuntimeError("rows are missing")
