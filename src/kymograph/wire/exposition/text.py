"""Families to a page in Prometheus' text format 0.0.4."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from kymograph.wire.exposition.page import KINDS, Family

TEXT = "text/plain; version=0.0.4; charset=utf-8"

_PLAIN_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_PLAIN_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


def render(families: Iterable[Family]) -> bytes:
    """The page in text format 0.0.4, content type `TEXT`.

    Names that the classic format does not allow are quoted, which Prometheus 3 reads. Units have no
    place in this format and are left out; kinds it does not know are given as untyped.
    """
    return "".join(line for family in families for line in _lines(family)).encode("utf-8")


def _lines(family: Family) -> Iterator[str]:
    name = family.name if _PLAIN_NAME.fullmatch(family.name) else _quote(family.name)
    if family.help:
        yield f"# HELP {name} {_escape(family.help)}\n"
    yield f"# TYPE {name} {family.kind if family.kind in KINDS else 'untyped'}\n"
    for sample in family.samples:
        labels = [
            f"{key if _PLAIN_LABEL.fullmatch(key) else _quote(key)}={_quote(value)}"
            for key, value in sample.labels.items()
        ]
        series = sample.name
        if not _PLAIN_NAME.fullmatch(series):
            labels.insert(0, _quote(series))
            series = ""
        block = "{" + ",".join(labels) + "}" if labels else ""
        stamp = "" if sample.time is None else f" {sample.time // 1000}"
        yield f"{series}{block} {_written(sample.value)}{stamp}\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quote(text: str) -> str:
    return '"' + _escape(text).replace('"', '\\"') + '"'


def _written(value: float) -> str:
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 and value != 0 else repr(float(value))
