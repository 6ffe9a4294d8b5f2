"""What waveforms are written to and read from: Kymograph, HDF5 through h5py and PyTables, files of `np.save`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import tables

import kymograph
from bench.data.waveform import Rows, Waveform

# rows of one insertion, and of one chunk of an HDF5 file
PIECE = 1 << 19
_CHUNK = 1 << 14


class System:
    """One way to keep rows. `insert` is durable when it returns; `close` leaves everything on disk."""

    name = ""

    def __init__(self, folder: Path, source: Waveform) -> None:
        raise NotImplementedError

    def insert(self, rows: Rows) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Bring everything into its final form; on the clock of insertion."""

    def read(self) -> Iterator[Rows]:
        """All rows, structured, in pieces."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Kymograph(System):
    """A stream without a pyramid."""

    name = "Kymograph, no pyramid"
    pyramid = False

    def __init__(self, folder: Path, source: Waveform) -> None:
        self.store = kymograph.connect(folder)
        self.stream = self.store.stream("/bench/raw", source.layout.name, pyramid=self.pyramid)
        self._next: int | None = None

    def insert(self, rows: Rows) -> None:
        self.stream.insert(rows, start=self._next)
        self._next = int(rows["timestamp"][-1]) + 1

    def settle(self) -> None:
        self.store.seal()

    def read(self) -> Iterator[Rows]:
        return self.stream.chunks(rows=PIECE)

    def close(self) -> None:
        self.store.close()


class Pyramid(Kymograph):
    """A stream with its pyramid."""

    name = "Kymograph"
    pyramid = True


class Hdf5(System):
    """Times and values as two chunked datasets, compressed as HDF5 users do: byte shuffle and gzip 1."""

    name = "HDF5 (h5py, shuffle, gzip 1)"
    options: ClassVar[dict[str, Any]] = {"shuffle": True, "compression": "gzip", "compression_opts": 1}

    def __init__(self, folder: Path, source: Waveform) -> None:
        folder.mkdir(parents=True)
        self._file = h5py.File(folder / "waveform.h5", "w")
        count = source.layout.count
        self._times = self._file.create_dataset(
            "timestamp", (0,), "<i8", maxshape=(None,), chunks=(_CHUNK,), **self.options
        )
        self._data = self._file.create_dataset(
            "data", (0, count), source.layout.dtype, maxshape=(None, count), chunks=(_CHUNK, count), **self.options
        )
        self._dtype = source.layout.rows

    def insert(self, rows: Rows) -> None:
        first = self._times.shape[0]
        self._times.resize(first + len(rows), 0)
        self._data.resize(first + len(rows), 0)
        self._times[first:] = rows["timestamp"]
        self._data[first:] = rows["data"]
        self._file.flush()
        os.fsync(self._file.id.get_vfd_handle())

    def read(self) -> Iterator[Rows]:
        for first in range(0, self._times.shape[0], PIECE):
            times = self._times[first : first + PIECE]
            rows = np.empty(len(times), self._dtype)
            rows["timestamp"], rows["data"] = times, self._data[first : first + PIECE]
            yield rows

    def close(self) -> None:
        self._file.close()


class PlainHdf5(Hdf5):
    """The same without compression."""

    name = "HDF5 (h5py, plain)"
    options: ClassVar[dict[str, Any]] = {}


class PyTables(System):
    """A table of PyTables, compressed with blosc, its own default for speed."""

    name = "HDF5 (PyTables, blosc)"

    def __init__(self, folder: Path, source: Waveform) -> None:
        folder.mkdir(parents=True)
        self._path = folder / "waveform.h5"
        self._file = tables.open_file(str(self._path), "w")
        filters = tables.Filters(complevel=5, complib="blosc")
        self._table = self._file.create_table(
            "/", "raw", np.empty(0, source.layout.rows.newbyteorder("=")), filters=filters
        )

    def insert(self, rows: Rows) -> None:
        self._table.append(rows)
        self._table.flush()
        with self._path.open("rb") as file:
            os.fsync(file.fileno())

    def read(self) -> Iterator[Rows]:
        for first in range(0, self._table.nrows, PIECE):
            yield self._table.read(first, first + PIECE)

    def close(self) -> None:
        self._file.close()


class Files(System):
    """A file of `np.save` for each piece: what a script does that needs nothing else."""

    name = "np.save"

    def __init__(self, folder: Path, source: Waveform) -> None:
        folder.mkdir(parents=True)
        self._folder = folder

    def insert(self, rows: Rows) -> None:
        path = self._folder / f"{int(rows['timestamp'][0])}.npy"
        with path.open("wb") as file:
            np.save(file, rows)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> Iterator[Rows]:
        for path in sorted(self._folder.glob("*.npy")):
            yield np.load(path)

    def close(self) -> None:
        """Nothing is open."""


ALL: tuple[type[System], ...] = (Pyramid, Kymograph, Hdf5, PlainHdf5, PyTables, Files)
