"""Streams by name: what a script that works with waveforms imports."""

from kymograph.model.interval import Intervals
from kymograph.model.stream import Layout, StreamRetention
from kymograph.store.streams.bounding import Cleanup
from kymograph.store.streams.filters import copy, decimate, mean_filter, median_filter, resample
from kymograph.store.streams.process import Stretch, process
from kymograph.store.streams.stream import Stream, Zoomed
from kymograph.store.streams.writer import StreamWriter

__all__ = [
    "Cleanup",
    "Intervals",
    "Layout",
    "Stream",
    "StreamRetention",
    "StreamWriter",
    "Stretch",
    "Zoomed",
    "copy",
    "decimate",
    "mean_filter",
    "median_filter",
    "process",
    "resample",
]
