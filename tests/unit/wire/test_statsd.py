"""StatsD and Graphite lines, whole and broken."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kymograph.wire import graphite, statsd
from kymograph.wire.names import plain_label, plain_name
from kymograph.wire.statsd import Update


@pytest.mark.parametrize(
    ("line", "update"),
    [
        ("hits:1|c", Update("hits", (), "counter", (1,))),
        ("page.views:2|c|@0.1", Update("page_views", (), "counter", (2,), rate=0.1)),
        ("temp:-5.5|g", Update("temp", (), "gauge", (-5.5,), relative=True)),
        ("temp:+5|g", Update("temp", (), "gauge", (5,), relative=True)),
        ("temp:5e2|g", Update("temp", (), "gauge", (500,))),
        ("wait:320|ms|@0.5", Update("wait", (), "timer", (320,), rate=0.5, milliseconds=True)),
        ("wait:1:2:3.5|h", Update("wait", (), "timer", (1, 2, 3.5))),
        ("wait:1|d|#b:2,a:1,bare,empty:", Update("wait", (("a", "1"), ("b", "2"), ("bare", "true")), "timer", (1,))),
        ("users:alice:b|s", Update("users", (), "set", texts=("alice:b",))),
        ("x:1|c|T1656581400|c:abc|e:x", Update("x", (), "counter", (1,), time=1656581400 * 10**6)),
        ("1min.load-avg:1|g|#http.route:/a", Update("_1min_load_avg", (("http_route", "/a"),), "gauge", (1,))),
    ],
)
def test_statsd(line: str, update: Update) -> None:
    assert statsd.read_line(line) == update


@pytest.mark.parametrize(
    "line",
    ["", "x", "x:1", "x|c", ":1|c", "x:|c", "x:a|c", "x:nan|g", "x:1e999|g", "x:1|q", "x:1|c|@0", "x:1|c|@2", "x:1|c|@x",
     "...:1|c", "_e{5,4}:title|text", "_sc|name|0", "x:0x1|c", "x:1:|c"],
)  # fmt: skip
def test_broken_statsd(line: str) -> None:
    with pytest.raises(ValueError, match="i"):
        statsd.read_line(line)


@pytest.mark.parametrize(
    ("line", "reading"),
    [
        ("a.b.c 5 1700000000", ("a_b_c", (), 5.0, 1_700_000_000_000_000)),
        ("a 5.5 1700000000.25", ("a", (), 5.5, 1_700_000_000_250_000)),
        ("a;dc=x;rack.id=1 -5e-1 -1", ("a", (("dc", "x"), ("rack_id", "1")), -0.5, None)),
        ("a 5", ("a", (), 5.0, None)),
        ("a  5\tN", ("a", (), 5.0, None)),
        ("a 5 -86400", ("a", (), 5.0, -86_400 * 10**6)),
    ],
)
def test_graphite(line: str, reading: tuple[object, ...]) -> None:
    assert tuple(graphite.read_line(line)) == reading


@pytest.mark.parametrize(
    "line", ["", "a", "a b 5", "a nan 5", "a inf 5", "a 1 x", "a 1 1e300", "a 1 2 3", "... 1 2", "a;b 1 2", "a;=b 1 2"]
)
def test_broken_graphite(line: str) -> None:
    with pytest.raises(ValueError, match="i"):
        graphite.read_line(line)


@given(st.text(max_size=60))
def test_any_text_is_a_line_or_a_value_error(text: str) -> None:
    for read in (statsd.read_line, graphite.read_line):
        with contextlib.suppress(ValueError):
            read(text)


@given(st.text(max_size=400))
def test_names_are_plain(text: str) -> None:
    for name in (plain_name(text), plain_label(text)):
        assert not name or (name.isascii() and name.replace(":", "_").isidentifier() and len(name) <= 255)
