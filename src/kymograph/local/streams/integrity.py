"""`kymo check` for streams: every byte and rule of every block; repair keeps the chunks whose checksums hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kymograph.engine.interface import Damage
from kymograph.errors import Corrupt, StorageError
from kymograph.local.streams.block import MAGIC, BlockFile, build
from kymograph.local.streams.changing import enter
from kymograph.local.streams.chunk import Chunk, chunk_length
from kymograph.local.streams.folder import StreamFolder
from kymograph.local.streams.pieces import Array, Piece
from kymograph.local.streams.pyramid import Runs
from kymograph.local.streams.room import FOLDER
from kymograph.local.streams.state import StreamState
from kymograph.model.interval import Intervals
from kymograph.model.stream import TIMESTAMP, Layout


def check_streams(
    folder: StreamFolder, *, repair: bool, progress: Callable[[], None] | None = None
) -> tuple[int, int, list[Damage]]:
    """Blocks and bytes looked at, and what is damaged."""
    damages: list[Damage] = []
    blocks = size = 0
    for path, stream in list(folder.states.items()):
        with stream.writing:
            for piece in stream.pieces.all():
                problem = _problem(folder, stream, piece)
                if piece.hot is None:
                    blocks, size = blocks + 1, size + piece.bytes
                if problem:
                    lost = _salvage(folder, stream, piece) if repair and piece.hot is None else None
                    damages.append(Damage(path, f"{FOLDER}/{piece.path}", problem, lost, repair))
                if progress is not None:
                    progress()
            damages += [Damage(path, "catalog.db", words, None, repair) for words, _ in stream.damage]
            if repair and stream.damage:
                gone = [number for _, number in stream.damage]
                folder.room.commit(lambda gone=gone: folder.room.ledger.remove_hot(gone))  # type: ignore[misc]
                stream.damage = []
    return blocks, size, damages


def _problem(folder: StreamFolder, stream: StreamState, piece: Piece) -> str:
    """What is wrong with a piece, or ""."""
    try:
        if piece.hot is not None:
            times = piece.hot[TIMESTAMP]
            rows = len(times)
        else:
            block = BlockFile(folder.room.path / piece.path, stream.schema.layout)
            if block.checksum != piece.checksum or block.path.stat().st_size != piece.bytes:
                return "is not the block that was written"
            times, rows = _verified(block)
    except StorageError as problem:
        return problem.message
    if (rows, int(times[0]), int(times[-1])) != (piece.rows, piece.first, piece.last):
        return f"holds {rows} rows of [{times[0]}, {times[-1]}], the catalog says {piece.rows} of [{piece.first}, {piece.last}]"
    with stream.lock:
        covered = stream.coverage.intervals(piece.first, piece.last + 1)
    if not covered.contains(times).all():
        return "holds rows of time that is not covered"
    return ""


def _verified(block: BlockFile) -> tuple[Array, int]:
    """Decode everything. Returns all times and their number."""
    everything = range(block.layout.count)
    times: list[Array] = []
    for entry in block.index:
        chunk = block.chunk(entry)
        if chunk.level:
            chunk.groups(everything)
            continue
        times.append(chunk.times())
        chunk.columns(everything)
        runs = chunk.runs()
        if len(times[-1]) != entry["rows"] or not len(runs.starts) or runs.starts[0] != 0:
            raise Corrupt(f"chunk at {entry['offset']} does not hold what the footer says")
    whole = np.concatenate(times)
    if (whole[1:] <= whole[:-1]).any():
        raise Corrupt("the rows are not in time order")
    return whole, len(whole)


def _salvage(folder: StreamFolder, stream: StreamState, piece: Piece) -> int:
    """Replace a block by its readable chunks; what is lost is uncovered; the file goes to DIR/damaged. Returns rows lost."""
    room = folder.room
    path = room.path / piece.path
    data = path.read_bytes() if path.exists() else b""
    aside = room.path.parent / "damaged" / FOLDER / piece.path
    aside.parent.mkdir(parents=True, exist_ok=True)
    aside.write_bytes(data)
    parts = salvaged(data, stream.schema.layout)
    written: list[Piece] = []
    kept = Intervals()
    if parts:
        # nothing continues across what is lost, and what goes on in the next chunk was not told apart
        parts[0][1].first[0] = not piece.joined or parts[0][1].places[0] != piece.place
        kept = Intervals.of([(int(rows[TIMESTAMP][0]), int(rows[TIMESTAMP][-1]) + 1) for rows, _ in parts])
        hull = (int(parts[0][0][TIMESTAMP][0]), int(parts[-1][0][TIMESTAMP][-1]) + 1)
        encoded = build(stream.schema, stream.id, parts, kept, stream.orders, [piece.path])
        written = [room.write(stream, encoded, *hull)]
    rows = sum(len(rows) for rows, _ in parts)
    with stream.lock:
        covered = stream.coverage.intervals(piece.first, piece.last + 1)
        lost = covered.difference(kept) if rows < piece.rows else Intervals()
        before = stream.coverage.intervals()
        following = stream.pieces.around(piece)[1]
    following = following if following is not None and following.joined else None
    enter(room, stream, [piece], written, _changed(before, lost), following)
    room.remove_files([piece])
    return piece.rows - rows


def _changed(before: Intervals, lost: Intervals) -> tuple[Intervals, Intervals]:
    """The intervals from the first to the last that lose something, and what they leave."""
    extent = lost.extent
    if extent is None:
        return Intervals(), Intervals()
    places = before.slice(*extent)
    gone = Intervals.sorted(before.starts[places], before.ends[places])
    return gone, gone.difference(lost)


def salvaged(data: bytes, layout: Layout) -> list[tuple[Array, Runs]]:
    """Rows of every chunk whose checksum holds, wherever it lies, with how they continue one another."""
    view = memoryview(data)
    everything = range(layout.count)
    parts: list[tuple[Array, Runs]] = []
    at, end = len(MAGIC), -1
    while 0 <= at < len(data):
        size = chunk_length(view[at:])
        try:
            chunk = Chunk(view[at : at + size], layout)
            if chunk.level == 0:
                runs = chunk.runs()
                rows = chunk.structured(everything, chunk.times(), 0, chunk.rows)
                if at != end:
                    runs.first[0] = True
                parts.append((rows, runs))
            at = end = at + size
        except Corrupt:
            at = data.find(b"KC", at + 1)
    return parts
