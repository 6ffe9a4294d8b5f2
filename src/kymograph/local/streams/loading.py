"""What the catalog says of streams becomes their state; in a reading process again and again, with what is known kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from kymograph.errors import Corrupt
from kymograph.local.streams.pieces import Piece, Pieces
from kymograph.local.streams.room import Room
from kymograph.local.streams.state import StreamState
from kymograph.model.coverage import Coverage
from kymograph.model.interval import Intervals


def load(room: Room, known: Mapping[int, StreamState]) -> dict[str, StreamState]:
    """Streams by path as the catalog has them now; states that are known are brought up to date.

    Raises:
        Corrupt: a row or count does not hold, but for hot insertions, whose stream remembers it.
    """
    ledger = room.ledger
    with ledger.catalog.reading():
        schemas = ledger.load_streams()
        coverage = ledger.load_coverage()
        blocks: dict[int, list[Piece]] = {number: [] for number in schemas}
        for stream_id, piece in ledger.load_blocks():
            if stream_id not in blocks:
                raise Corrupt(f"block {piece.path} belongs to no stream")
            blocks[stream_id].append(piece)
        here = ledger.hot_ids()
        hot: dict[int, list[Piece]] = {number: [] for number in schemas}
        kept = set()
        for number, state in known.items():
            for piece in state.pieces.all() if number in schemas else ():
                if piece.hot is not None and piece.id in here:
                    kept.add(piece.id)
                    same = piece.joined == here[piece.id]
                    hot[number].append(piece if same else replace(piece, joined=here[piece.id]))
        damage: dict[int, list[tuple[str, int]]] = {number: [] for number in schemas}
        for stream_id, found, number in ledger.load_hot(kept, schemas):
            if isinstance(found, Piece):
                hot[stream_id].append(found)
            else:
                damage.setdefault(stream_id, []).append((found, number))
    states: dict[str, StreamState] = {}
    for number, schema in schemas.items():
        state = known.get(number) or StreamState(number, schema)
        fresh = sorted([*blocks[number], *hot[number]], key=lambda piece: piece.first)
        _update(state, fresh, coverage.get(number, Intervals()))
        state.schema = schema
        state.damage = damage.get(number, [])
        state.hot_since = time.monotonic() if state.pieces.hot_count else None
        states[schema.path] = state
    return states


def _update(state: StreamState, fresh: list[Piece], coverage: Intervals) -> None:
    with state.lock:
        old = [_identity(piece) for piece in state.pieces.all()]
        if old == [_identity(piece) for piece in fresh] and state.coverage.intervals() == coverage:
            return
        pieces = Pieces()
        for piece in fresh:
            pieces.add(piece)
        state.pieces, state.coverage = pieces, Coverage(coverage)
        state.version += 1
        state.merged = -1


def _identity(piece: Piece) -> tuple[int, str, bool]:
    return piece.id, piece.path, piece.joined
