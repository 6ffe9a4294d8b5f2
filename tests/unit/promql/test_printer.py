"""A tree back to text: what was written as a duration stays one."""

from __future__ import annotations

import pytest

from kymograph.promql.parse import parse
from kymograph.promql.printer import text_of


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("1h30m", "1h30m"),
        ("-5m", "-5m"),
        ("90s", "1m30s"),
        ("0s", "0s"),
        ("5400", "5400"),
        ("vector(1d) + 2 * 1ms", "vector(1d) + 2 * 1ms"),
    ],
)
def test_durations(text: str, printed: str) -> None:
    assert text_of(parse(text)) == printed
    assert text_of(parse(printed)) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("m smoothed offset 1m @ 5", "m @ 5.000 smoothed offset 1m"),
        ("m[5m] offset 1m @ end() anchored", "m[5m] anchored @ end() offset 1m"),
        ('rate({a="b"}[5m] Smoothed)', 'rate({a="b"}[5m] smoothed)'),
    ],
)
def test_edges(text: str, printed: str) -> None:
    assert text_of(parse(text)) == printed
    assert parse(printed) == parse(text)
