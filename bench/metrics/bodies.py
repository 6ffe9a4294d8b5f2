"""Request bodies made before the clock starts: remote write as Prometheus' shards send it, and Influx lines."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import numpy as np

from bench.data import hosts

_Chunks = list[bytes]


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def _series(labels: dict[str, str], sample: bytes) -> bytes:
    pairs = [_field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in labels.items()]
    return _field(1, b"".join([*pairs, _field(2, sample)]))


def remote_write(sets: list[dict[str, str]], values: Any, times: Any) -> Iterator[list[bytes]]:
    """Per scrape one TimeSeries message for each series. As proto3 has it, a value of 0 takes no bytes."""
    stamp = b"\x10" + bytes(6)
    full = np.array([_series(labels, b"\x09" + bytes(8) + stamp) for labels in sets], object)
    zero = np.array([_series(labels, stamp) for labels in sets], object)
    for milliseconds, row in zip(times.tolist(), values, strict=True):
        nothing = row == 0
        parts = np.where(nothing, zero, full).tolist()
        lengths = np.array([len(part) for part in parts])
        ends = np.cumsum(lengths)
        data = np.frombuffer(bytearray(b"".join(parts)), np.uint8)
        time = np.frombuffer(varint(milliseconds), np.uint8)
        data[(ends[:, None] - 6) + np.arange(6)] = time
        some = ~nothing
        places = (ends[some] - 15)[:, None] + np.arange(8)
        data[places] = np.ascontiguousarray(row[some]).view(np.uint8).reshape(-1, 8)
        whole = data.tobytes()
        yield [whole[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def lines(sets: list[dict[str, str]], values: Any, times: Any) -> Iterator[list[bytes]]:
    """Per scrape one line for each series: the metric is the measurement, its field is `value`."""
    heads = []
    for labels in sets:
        tags = "".join(f",{name}={value}" for name, value in labels.items() if name != "__name__")
        heads.append(f"{labels['__name__']}{tags} value=")
    for milliseconds, row in zip(times.tolist(), values, strict=True):
        tail = f" {milliseconds}\n"
        yield [f"{head}{value!r}{tail}".encode() for head, value in zip(heads, row.tolist(), strict=True)]


def write_file(
    path: Path, scrapes: Iterator[list[bytes]], count: int, batch: int, connections: int, packed: bool
) -> None:
    """The bodies of several connections, each for its own series, in batches that may end within a scrape.

    The file holds (shard, samples, bytes) as three int32 and then the body, in the order in which they queue up.
    """
    bounds = np.linspace(0, count, connections + 1).astype(int).tolist()
    queues: list[_Chunks] = [[] for _ in range(connections)]
    with path.open("wb") as out:

        def put(shard: int, size: int) -> None:
            body = b"".join(queues[shard][:size])
            del queues[shard][:size]
            if packed:
                body = bytes(cramjam.snappy.compress_raw(body))
            out.write(struct.pack("<iii", shard, size, len(body)))
            out.write(body)

        for scrape in scrapes:
            for shard in range(connections):
                queues[shard] += scrape[bounds[shard] : bounds[shard + 1]]
            while max(map(len, queues)) >= batch:
                for shard in range(connections):
                    if len(queues[shard]) >= batch:
                        put(shard, batch)
        for shard in range(connections):
            if queues[shard]:
                put(shard, len(queues[shard]))


def read_file(path: Path) -> list[list[tuple[int, bytes]]]:
    """Per shard its bodies with their samples."""
    shards: dict[int, list[tuple[int, bytes]]] = {}
    with path.open("rb") as file:
        while head := file.read(12):
            shard, samples, size = struct.unpack("<iii", head)
            shards.setdefault(shard, []).append((samples, file.read(size)))
    return list(shards.values())


def make(folder: Path, count: int, scrapes: int, batch: int, connections: int) -> dict[str, Path]:
    """The files of one set of series: `remote` and `lines`."""
    folder.mkdir(parents=True, exist_ok=True)
    sets, values, times = hosts.label_sets(count), hosts.values(count, scrapes), hosts.times(scrapes)
    found = {"remote": folder / f"remote-{count}", "lines": folder / f"lines-{count}"}
    write_file(found["remote"], remote_write(sets, values, times), count, batch, connections, packed=True)
    write_file(found["lines"], lines(sets, values, times), count, batch, connections, packed=False)
    return found
