"""A catalog that could not be read is rebuilt: streams, coverage and blocks from the blocks' footers, the log from what is left."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kymograph.errors import KymographError, StorageError
from kymograph.local.catalog import Catalog
from kymograph.local.database import good_rows
from kymograph.local.streams.block import SUFFIX, SUMMARY_GROUPS, BlockFile
from kymograph.local.streams.hot import decode_hot, encode_hot
from kymograph.local.streams.lanes import Orders
from kymograph.local.streams.ledger import Ledger, hot_piece
from kymograph.local.streams.pieces import Piece
from kymograph.local.streams.pyramid import pack
from kymograph.local.streams.room import FOLDER
from kymograph.model.interval import Intervals
from kymograph.model.stream import StreamSchema

log = logging.getLogger("kymograph.local")


def has_blocks(folder: Path) -> bool:
    """Whether there is something to rebuild from."""
    return any((folder / FOLDER).glob(f"*/*{SUFFIX}"))


def restore(
    folder: Path, catalog: Catalog, damaged: Path | None, known: Mapping[int, StreamSchema], notes: list[str]
) -> None:
    """Enter the streams of a folder into its new catalog; `known` are those that the settings tell of, by id."""
    ledger = Ledger(catalog, read_only=False)
    old = _Old(damaged)
    schemas, blocks = _blocks(folder, notes)
    schemas |= {**known, **old.schemas}
    if not schemas:
        return
    taken: set[str] = set()
    rows = 0
    with catalog.transaction():
        for number, schema in sorted(schemas.items()):
            path = schema.path if schema.path not in taken else f"{schema.path}-{number}"
            taken.add(path)
            schema = schema.renamed(path)
            ledger.restore_stream(schema, number)
            pieces, coverage = _fitting(blocks.get(number, []), old.hot(number, schema))
            for piece, summary in pieces:
                rows += piece.rows
                if piece.hot is None:
                    ledger.add_block(number, piece, summary)
                else:
                    data = encode_hot(piece.hot, schema.layout, Orders())
                    ledger.add_hot(number, piece.start, piece.end, piece.place, piece.joined, data)
            ledger.change_coverage(number, Intervals(), coverage.union(old.coverage(number)))
    notes.append(f"rebuilt {len(schemas)} streams with {rows} rows")


def _blocks(folder: Path, notes: list[str]) -> tuple[dict[int, StreamSchema], dict[int, list[_Found]]]:
    found: dict[int, list[_Found]] = {}
    schemas: dict[int, StreamSchema] = {}
    replaced: set[str] = set()
    for file in sorted((folder / FOLDER).glob(f"*/*{SUFFIX}"), key=lambda file: file.stat().st_mtime_ns):
        name = str(file.relative_to(folder / FOLDER))
        try:
            block = BlockFile(file)
            number = int(block.about["stream_id"])
            found.setdefault(number, []).append(_found(name, block))
            schemas[number] = StreamSchema.from_json(block.about["stream"])
            replaced.update(block.about["replaces"])
        except (KymographError, ValueError, KeyError, IndexError) as problem:
            aside = folder / "damaged" / FOLDER / name
            aside.parent.mkdir(parents=True, exist_ok=True)
            file.rename(aside)
            notes.append(f"block {FOLDER}/{name} is no readable block and was moved aside: {problem}")
    kept = {number: [one for one in several if one[0].path not in replaced] for number, several in found.items()}
    return schemas, kept


_Found = tuple[Piece, bytes, Intervals]


def _found(name: str, block: BlockFile) -> _Found:
    rows = block.level(0)
    first, last = block.chunk(rows[0]), block.chunk(rows[-1])
    opening = first.runs()
    level, summary = 0, b""
    for candidate in sorted(set(block.index["level"].tolist()) - {0}):
        chunks = block.level(candidate)
        if len(chunks) == 1 and chunks["rows"][0] <= SUMMARY_GROUPS:
            groups = block.chunk(chunks[0]).groups(range(block.layout.count))
            level, summary = candidate, pack(groups, block.layout)
            break
    size = block.path.stat().st_size
    start, end = block.coverage.extent or (int(rows["first"][0]), int(rows["last"][-1]) + 1)
    pyramid = int(block.index["bytes"][block.index["level"] > 0].sum())
    piece = Piece(
        0, int(rows["first"][0]), int(rows["last"][-1]), start, end, int(rows["rows"].sum()), int(opening.places[0]),
        last.runs().end(last.rows), not opening.first[0], size, pyramid, name, block.checksum, level,
    )  # fmt: skip
    return piece, summary, block.coverage


def _fitting(blocks: Iterable[_Found], hot: Iterable[Piece]) -> tuple[list[tuple[Piece, bytes]], Intervals]:
    """Pieces that do not overlap, in time order, and what they cover; blocks first, because hot rows may be in one."""
    given = [*blocks, *((piece, b"", Intervals.of([(piece.start, piece.end)])) for piece in hot)]
    taken: list[_Found] = []
    covered = Intervals()
    for one in given:
        piece = one[0]
        if any(other[0].first <= piece.last and piece.first <= other[0].last for other in taken):
            continue
        taken.append(one)
        covered = covered.union(one[2])
    taken.sort(key=lambda one: one[0].first)
    pieces: list[tuple[Piece, bytes]] = []
    for piece, summary, _ in taken:
        before = pieces[-1][0] if pieces else None
        joined = (
            piece.joined
            and before is not None
            and before.place_end == piece.place
            and covered.covers(before.last, piece.first + 1)
        )
        pieces.append((replace(piece, joined=joined), summary))
    return pieces, covered


class _Old:
    """Whatever rows of the damaged catalog's streams still carry a good checksum."""

    def __init__(self, path: Path | None) -> None:
        self.schemas: dict[int, StreamSchema] = {}
        self._hot: dict[int, list[tuple[Any, ...]]] = {}
        self._coverage: dict[int, list[tuple[int, int]]] = {}
        if path is None:
            return
        with contextlib.closing(sqlite3.connect(path)) as db:
            for number, text, _ in good_rows(db, "SELECT id, schema, crc FROM streams"):
                with contextlib.suppress(KymographError, ValueError, KeyError):
                    self.schemas[number] = StreamSchema.from_json(json.loads(text))
            for row in good_rows(db, "SELECT stream_id, start, end, crc FROM stream_coverage"):
                self._coverage.setdefault(row[0], []).append((row[1], row[2]))
            for row in good_rows(db, "SELECT stream_id, start, end, place, joined, data, crc FROM stream_hot"):
                self._hot.setdefault(row[0], []).append(row)

    def coverage(self, number: int) -> Intervals:
        return Intervals.of(self._coverage.get(number, []))

    def hot(self, number: int, schema: StreamSchema) -> list[Piece]:
        pieces = []
        for _, start, end, place, joined, data, _ in self._hot.get(number, []):
            with contextlib.suppress(StorageError):
                rows = np.array(decode_hot(data, schema.layout))
                pieces.append(hot_piece(0, rows, start, end, place, bool(joined), len(data)))
        return pieces
