"""Streams by name: what a script that works with waveforms imports."""

from kymograph.model.interval import Intervals
from kymograph.model.stream import Layout, StreamRetention
from kymograph.store.streams.bounding import Cleanup
from kymograph.store.streams.stream import Stream, Zoomed
from kymograph.store.streams.writer import StreamWriter

__all__ = ["Cleanup", "Intervals", "Layout", "Stream", "StreamRetention", "StreamWriter", "Zoomed"]
