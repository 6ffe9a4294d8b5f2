"""Rows of streams in files: .npy, Parquet, HDF5 and WAV, in and out in pieces that fit into memory."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kymograph.errors import InvalidInput, MissingDependency
from kymograph.model.stream import DATA, TIMESTAMP, Layout
from kymograph.model.time import TIME_TYPE
from kymograph.store.streams.arrays import as_rows

Array = np.ndarray[Any, Any]
FORMS = {".npy": "npy", ".parquet": "parquet", ".h5": "hdf5", ".hdf5": "hdf5", ".wav": "wav"}
_PIECE = 1 << 18
# of an HDF5 file that is written
_CHUNK = 1 << 14


def read_rows(path: Path, form: str, layout: Layout) -> Iterator[Array]:
    """Rows of the layout in a file, piece by piece.

    Args:
        form: npy (structured, or 2-D with the time in column 0), parquet (the first column is the time), hdf5 (datasets
            `timestamp` and `data`).

    Raises:
        InvalidInput: the file is not of that form, or its columns are not those of the layout.
        MissingDependency: HDF5 without the extra.
    """
    read: dict[str, Callable[[Path, Layout], Iterator[Array]]] = {
        "npy": _npy,
        "parquet": _parquet,
        "hdf5": _hdf5,
    }
    try:
        yield from read[form](path, layout)
    except (ValueError, KeyError, TypeError, OSError, pa.ArrowException) as problem:
        if isinstance(problem, InvalidInput):
            raise
        raise InvalidInput(f"{path} is no {form} file of {layout.name}: {problem}") from problem


def read_wav(path: Path, layout: Layout) -> tuple[int, Iterator[Array]]:
    """Rate in rows per second, and the values of a WAV file, piece by piece: (n, channels), without times.

    16 and 32 bit samples are integers of that size; 8 bit ones are unsigned. A layout of another integer or float type
    takes them when it holds them exactly.

    Raises:
        InvalidInput: no WAV file of whole samples, other channels than the layout, or a type that cannot hold them.
    """
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
    except (wave.Error, EOFError) as problem:
        raise InvalidInput(f"{path} is no WAV file: {problem}") from problem
    kinds: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("<i2"), 4: np.dtype("<i4")}
    kind = kinds.get(width)
    if kind is None:
        raise InvalidInput(f"{path} has samples of {width} bytes", hint="8, 16 and 32 bits are read")
    if channels != layout.count or not np.can_cast(kind, layout.dtype, "safe"):
        raise InvalidInput(f"{path} has {channels} channels of {kind.name}, the stream is {layout.name}")

    def pieces() -> Iterator[Array]:
        with wave.open(str(path), "rb") as file:
            while data := file.readframes(_PIECE):
                whole = len(data) // (channels * width) * channels * width
                yield np.frombuffer(data[:whole], kind).reshape(-1, channels).astype(layout.dtype)

    return rate, pieces()


def write_rows(path: Path, form: str, chunks: Iterable[Array], dtype: np.dtype[Any], columns: Sequence[str]) -> int:
    """Write rows to a new file; nothing is left when it fails. Returns how many.

    Args:
        dtype: of the chunks, also where there are none.
        columns: names of the columns in Parquet; of levels with `_mean`, `_min`, `_max`.
    """
    write: dict[str, Callable[[Path, Iterable[Array], np.dtype[Any], Sequence[str]], int]] = {
        "npy": _to_npy,
        "parquet": _to_parquet,
        "hdf5": _to_hdf5,
    }
    if form not in write:
        raise InvalidInput(f"rows cannot be written as {form}", hint="one of " + ", ".join(write))
    part = path.with_name(path.name + ".part")
    try:
        rows = write[form](part, chunks, dtype, columns)
        part.replace(path)
        return rows
    finally:
        part.unlink(missing_ok=True)


def _npy(path: Path, layout: Layout) -> Iterator[Array]:
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    for first in range(0, len(found), _PIECE):
        yield as_rows(np.asarray(found[first : first + _PIECE]), layout)


def _parquet(path: Path, layout: Layout) -> Iterator[Array]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_PIECE):
            if batch.num_columns != 1 + layout.count:
                raise InvalidInput(f"{path} has {batch.num_columns} columns, {layout.name} takes {1 + layout.count}")
            if any(column.null_count for column in batch.columns):
                raise InvalidInput(f"{path} has nulls, and a stream has none")
            rows = np.empty(batch.num_rows, layout.rows)
            rows[TIMESTAMP] = batch.column(0).cast(TIME_TYPE).view(pa.int64()).to_numpy()
            for place, column in enumerate(batch.columns[1:]):
                if not np.can_cast(column.type.to_pandas_dtype(), layout.dtype, "safe"):
                    raise InvalidInput(f"{path} has a column of {column.type}, which {layout.name} cannot hold exactly")
                rows[DATA][:, place] = column.to_numpy()
            yield rows


def _hdf5(path: Path, layout: Layout) -> Iterator[Array]:
    with _h5py().File(path, "r") as file:
        times, data = file[TIMESTAMP], file[DATA]
        if data.shape != (len(times), layout.count) or data.dtype != layout.dtype:
            raise InvalidInput(f"{path} has data of {data.dtype} {data.shape}, the stream is {layout.name}")
        for first in range(0, len(times), _PIECE):
            part = times[first : first + _PIECE]
            rows = np.empty(len(part), layout.rows)
            rows[TIMESTAMP], rows[DATA] = part, data[first : first + _PIECE]
            yield rows


def _to_npy(path: Path, chunks: Iterable[Array], dtype: np.dtype[Any], columns: Sequence[str]) -> int:
    rows = 0
    with path.open("wb") as file:
        # the header says how many rows there are: room for it now, the truth at the end
        _npy_header(file, dtype, 2**62)
        start = file.tell()
        for chunk in chunks:
            chunk.tofile(file)
            rows += len(chunk)
        file.seek(0)
        _npy_header(file, dtype, rows, start)
    return rows


def _npy_header(file: Any, dtype: np.dtype[Any], rows: int, length: int | None = None) -> None:
    described = f"{{'descr': {np.lib.format.dtype_to_descr(dtype)!r}, 'fortran_order': False, 'shape': ({rows},), }}"
    magic = np.lib.format.magic(2, 0)
    fixed = len(magic) + 4 + 1
    total = -(-(fixed + len(described)) // 64) * 64 if length is None else length
    file.write(magic + (total - fixed + 1).to_bytes(4, "little") + described.encode().ljust(total - fixed) + b"\n")


def _to_parquet(path: Path, chunks: Iterable[Array], dtype: np.dtype[Any], columns: Sequence[str]) -> int:
    rows = 0
    schema = _batch(np.empty(0, dtype), columns).schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for chunk in chunks:
            writer.write_batch(_batch(chunk, columns))
            rows += len(chunk)
    return rows


def _batch(rows: Array, columns: Sequence[str]) -> pa.RecordBatch:
    names, values = ["time"], [pa.array(np.ascontiguousarray(rows[TIMESTAMP])).view(TIME_TYPE)]
    for field in rows.dtype.names or ():
        if field != TIMESTAMP:
            names += [name if field == DATA else f"{name}_{field}" for name in columns]
            values += [pa.array(np.ascontiguousarray(column)) for column in rows[field].T]
    return pa.RecordBatch.from_arrays(values, names)


def _to_hdf5(path: Path, chunks: Iterable[Array], dtype: np.dtype[Any], columns: Sequence[str]) -> int:
    rows = 0
    with _h5py().File(path, "w") as file:
        sets = {}
        for name in dtype.names or ():
            kind, shape = dtype[name].base, dtype[name].shape
            sets[name] = file.create_dataset(
                name,
                (0, *shape),
                kind,
                maxshape=(None, *shape),
                chunks=(_CHUNK, *shape),
                shuffle=True,
                compression="gzip",
            )
        for chunk in chunks:
            for name, found in sets.items():
                found.resize(rows + len(chunk), 0)
                found[rows:] = chunk[name]
            rows += len(chunk)
        file.attrs["columns"] = list(columns)
    return rows


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError:
        raise MissingDependency("HDF5 needs h5py", hint="pip install 'kymograph[hdf5]'") from None
    module: ModuleType = h5py
    return module
