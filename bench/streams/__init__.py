"""Waveforms: insertion, reading, zooming, disk and HTTP, beside HDF5 and plain NumPy files."""

from bench.streams.run import arguments, run

__all__ = ["arguments", "run"]
