"""What may name a series, describe a metric or be a value: checked here before anything is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from kymograph.errors import InvalidInput

Kind = Literal["gauge", "counter", "histogram", "summary", "untyped"]
KINDS = ("gauge", "counter", "histogram", "summary", "untyped")
MAX_NAME = 255
MAX_VALUE = 65_535
Labels = tuple[tuple[str, str], ...]


def identity(name: str, labels: Mapping[str, str] | None) -> Labels:
    """Labels sorted by name, empty ones left out, as Prometheus identifies series; checks everything."""
    check_name("metric", name)
    if not labels:
        return ()
    if not isinstance(labels, Mapping):
        raise InvalidInput(f"metric {name}: labels must be a mapping of names to text, not {labels!r}")
    for label, value in labels.items():
        check_name(f"metric {name}: label", label)
        if type(value) is not str or len(value) > MAX_VALUE or not _is_utf8(value):
            raise InvalidInput(
                f"metric {name}: label {label} cannot be {_short(value)}",
                hint=f"a label value is text of at most {MAX_VALUE:,} characters",
            )
    return tuple(sorted([pair for pair in labels.items() if pair[1]]))


def check_name(what: str, name: Any) -> None:
    if type(name) is not str or not 0 < len(name) <= MAX_NAME or "\0" in name or not _is_utf8(name):
        raise InvalidInput(
            f"{what} {_short(name)} is not a name", hint=f"a name is text of 1 to {MAX_NAME} characters, without NUL"
        )
    if name == "__name__":
        raise InvalidInput(f"{what} __name__ is reserved", hint="the metric's name is an argument of its own")


def check_kind(kind: Any) -> None:
    if kind not in KINDS:
        raise InvalidInput(f"{_short(kind)} is not a kind of metric", hint="one of " + ", ".join(KINDS))


def check_text(what: str, text: Any) -> None:
    if not isinstance(text, str) or len(text) > MAX_VALUE or not _is_utf8(text):
        raise InvalidInput(f"{what} cannot be {_short(text)}", hint=f"text of at most {MAX_VALUE:,} characters")


def _is_utf8(text: str) -> bool:
    """False for lone surrogates, which no file and no wire can carry."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def number_of(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidInput(f"metric {name}: {_short(value)} is not a number")
    try:
        number = float(value)
        exact = number == value or value != value
    except OverflowError:
        exact = False
    if not exact:
        raise InvalidInput(
            f"metric {name}: float64 cannot hold {_short(value)} exactly",
            hint="round it with float(value), or write it to an integer field of a table",
        )
    return number
