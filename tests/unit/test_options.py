"""Durations and sizes as people write them, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kymograph.errors import InvalidInput
from kymograph.options import StoreOptions, parse_duration, parse_size

SECOND = 10**6


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("90d", 90 * 86_400 * SECOND), ("1h30m", 5400 * SECOND), ("250ms", 250_000), ("1.5s", 1_500_000), ("7us", 7),
        ("1m1ms1us", 60_001_001), ("2w", 14 * 86_400 * SECOND), ("1y", 365 * 86_400 * SECOND), (" 5s ", 5 * SECOND),
        ("0s", 0), (0, 0), (17, 17), (timedelta(hours=1), 3600 * SECOND), ("0.000001s", 1), ("0.0000001s", 0),
    ],
)  # fmt: skip
def test_durations(text: Any, micros: int) -> None:
    assert parse_duration(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "5", "s", "1x", "-1s", "1 s", "1.s", ".5s", "1e3s", "1,5s", "1s;", "\u0661s", "inf", "nan", "1S", "1d\n1",
        "9" * 18 + "y", "9" * 19 + "s", None, True, 1.5, -1, 2**62, timedelta(-1), b"1s", [], "1s" * 10 + "x",
    ],
    ids=lambda v: repr(v)[:30],
)  # fmt: skip
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(InvalidInput):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500MB", 500 * 10**6), ("512MiB", 512 * 2**20), ("512mib", 512 * 2**20), ("1.5KB", 1500), ("1 GiB", 2**30),
        ("7", 7), ("7B", 7), ("2T", 2 * 10**12), (0, 0), (123, 123),
    ],
)  # fmt: skip
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "1XB", "-1", "-1MB", "0x10", "1e3", "1 2", "\u0661MB", "9" * 18 + "TB", None, True, 1.5, -1, 2**62, b"1"]
)  # fmt: skip
def test_what_is_no_size(text: Any) -> None:
    with pytest.raises(InvalidInput):
        parse_size(text)


@pytest.mark.parametrize(
    "bad", [{"sync": "never"}, {"cap": 5}, {"head_bytes": 0}, {"seal_after": 0}, {"prune_every": -1}, {"cache_bytes": -1}]
)  # fmt: skip
def test_store_options_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        StoreOptions(**bad)
