"""Kymograph: the telemetry store you can pip install. Public names, no logic."""

from kymograph._version import __version__
from kymograph.connect import connect
from kymograph.errors import KymographError
from kymograph.model.exemplar import Exemplar
from kymograph.model.matcher import Matcher
from kymograph.options import QueryLimits, Retention, StoreOptions

__all__ = [
    "Exemplar",
    "KymographError",
    "Matcher",
    "QueryLimits",
    "Retention",
    "StoreOptions",
    "__version__",
    "connect",
]
