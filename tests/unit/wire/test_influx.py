"""Line protocol: many lines at a time give what each line gives by itself, and broken ones are named."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.errors import InvalidInput
from kymograph.wire.influx.bodies import MOST_LINE, MOST_LINES, Parsed, parse
from kymograph.wire.influx.faults import MOST_NAMED
from kymograph.wire.influx.line import read_line, read_prefix
from kymograph.wire.influx.prefix import Prefixes

NOW = 1_700_000_000_000_000
Row = tuple[str, Any, tuple[tuple[str, str, Any], ...], int]


def rows_of(parsed: Parsed, prefixes: Prefixes) -> dict[int, Row]:
    """Line number to measurement, tags, (field, type, value) and µs."""
    found: dict[int, Row] = {}
    for points in parsed.points:
        columns = [(name, str(column.type), column.to_pylist()) for name, column in points.fields.items()]
        for at, line in enumerate(points.lines.tolist()):
            number, tags = prefixes.series[points.series[at]]
            fields = tuple((name, {"double": "float64"}.get(kind, kind), values[at]) for name, kind, values in columns)
            assert line not in found
            found[line] = prefixes.measurements[number], tags, fields, int(points.times[at])
    return found


def one_by_one(body: bytes) -> tuple[dict[int, Row], set[int]]:
    """What the careful reader makes of each line, when no text goes over its end."""
    found: dict[int, Row] = {}
    broken = set()
    for number, text in enumerate(body.split(b"\n"), 1):
        text = text.removesuffix(b"\r")
        stripped = text.strip(b" \t\r")
        if not stripped or stripped[:1] == b"#":
            continue
        try:
            line = read_line(text)
            time = NOW if line.time is None else line.time // 1000
            if line.time is not None and not -(2**63) <= line.time < 2**63:
                raise ValueError
            found[number] = *read_prefix(line.prefix), line.fields, time  # type: ignore[assignment]
        except ValueError:
            broken.add(number)
    return found, broken


def read(body: bytes, **how: Any) -> tuple[dict[int, Row], Parsed]:
    prefixes = Prefixes()
    parsed = parse(body, prefixes, now=NOW, **how)
    return rows_of(parsed, prefixes), parsed


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**65), 2**65).map(lambda n: f"{n}i"),
    st.integers(-5, 2**65).map(lambda n: f"{n}u"),
    st.integers(-(2**65), 2**65).map(str),
    st.sampled_from(["t", "F", "true", "False", "TRUE", "tRUE", "nan", "inf", "0x10", "0x1i", "1e400", ".5", "5.", ".",
                     "+1", "+1i", "-", "", "1e", "1e5", "-1.5E-3", "i", "u", "007", "1_0", "\x001", "1=2", "--1", "é"]),
)  # fmt: skip
NAMES = st.sampled_from(["value", "a", "b", "é", "a=b", "", "x\\ y", "x\\,y", "c\\", "__name__", "n" * 256, "q\\=r"])
TEXTS = st.sampled_from(['"x"', '"a b,c=d"', '"\\""', '"\\\\"', '"', '"a"b', '"é"'])
FIELDS = st.lists(st.tuples(NAMES, st.one_of(NUMBERS, TEXTS)).map("=".join), min_size=1, max_size=4).map(",".join)
TAGS = st.lists(st.tuples(NAMES, st.sampled_from(["x", "y", "é", "a\\ b", "", '"q"'])).map("=".join), max_size=3)
PREFIXES = st.tuples(NAMES, TAGS).map(lambda pair: ",".join([pair[0], *pair[1]]))
STAMPS = st.one_of(st.just(""), st.integers(-(2**64), 2**64).map(lambda n: f" {n}"), st.sampled_from([" ", " x", " 1.5",
    " 0x5", " 1 2", "  7", " 1i", "\r", " 5\r", "\t5"]))  # fmt: skip
LINES = st.one_of(
    st.tuples(PREFIXES, FIELDS, STAMPS).map(lambda parts: f"{parts[0]} {parts[1]}{parts[2]}"),
    st.sampled_from(["", "# a comment", "  # another", "m v=1", " m v=1", "m  v=1  5", "m", "m ", "\t", "m,a=b"]),
)
PLAIN = st.tuples(
    st.sampled_from(["m", "n,a=x", "n,a=y,b=z", "bad,=", "m,a", "é,é=é"]),
    st.lists(st.tuples(st.sampled_from("abc"), NUMBERS).map("=".join), min_size=1, max_size=3).map(",".join),
    st.sampled_from(["", " 1", " -1", " 1700000000000000001", " 99999999999999999999"]),
).map(lambda parts: f"{parts[0]} {parts[1]}{parts[2]}")


@settings(max_examples=250)
@given(st.lists(st.one_of(PLAIN, LINES), max_size=30).map("\n".join), st.booleans())
def test_many_lines_are_what_each_is(text: str, ended: bool) -> None:
    body = (text + "\n" * ended).encode()
    found, parsed = read(body)
    if any(line.count(b'"') % 2 for line in body.split(b"\n")):
        return  # a text may go over the end of its line, which single lines cannot show
    expected, broken = one_by_one(body)
    assert {fault.line for fault in parsed.faults} == broken
    assert found.keys() == expected.keys()
    for number, (measurement, tags, fields, time) in expected.items():
        assert found[number][0] == measurement
        assert found[number][1] == tags
        assert repr(found[number][2]) == repr(fields)
        assert found[number][3] == time


TIMES = st.sampled_from(["1700000000000000001", "1700000000000000002", "9223372036854775807", "9223372036854775808",
    "9999999999999999999", "0000000000000000005", "170000000000000000x", "-700000000000000001", "1.0000000000000001",
    "12345678", "1234567", "0x123456", "123456789012345678901234", "1234567890123456789012345"])  # fmt: skip


@settings(max_examples=150)
@given(st.lists(TIMES, min_size=1, max_size=3), st.integers(1, 40), st.booleans())
def test_many_lines_of_one_time(stamps: list[str], size: int, shuffled: bool) -> None:
    """What is read once for all lines that share it is what each line says."""
    several = [stamp for stamp in stamps for _ in range(size)]
    if shuffled:
        several = several[::2] + several[1::2]
    body = "".join(f"m,host={at % 7} value={at} {stamp}\n" for at, stamp in enumerate(several)).encode()
    found, parsed = read(body)
    expected, broken = one_by_one(body)
    assert {fault.line for fault in parsed.faults} == broken
    assert {line: row[3] for line, row in found.items()} == {line: row[3] for line, row in expected.items()}


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_garbage_is_refused_line_by_line(body: bytes) -> None:
    _, parsed = read(body)
    assert all(1 <= fault.line <= body.count(b"\n") + 1 for fault in parsed.faults)


def test_every_type() -> None:
    found, parsed = read(b'm,b=2,a=1 f=1.5,i=-3i,u=18446744073709551615u,t=T,s="x y,\\"z\\"" 1700000000123456789\n')
    assert not parsed.faults
    fields = (
        ("f", "float64", 1.5),
        ("i", "int64", -3),
        ("u", "uint64", 2**64 - 1),
        ("t", "bool", True),
        ("s", "string", 'x y,"z"'),
    )
    assert found == {1: ("m", (("a", "1"), ("b", "2")), fields, 1_700_000_000_123_456)}


def test_escapes() -> None:
    found, parsed = read(rb"my\ cpu\,x,ta\=g=a\ b\,c\=d fi\ eld=1,back\slash=2 1000" + b"\n")
    assert not parsed.faults
    assert found[1] == (
        "my cpu,x",
        (("ta=g", "a b,c=d"),),
        (("fi eld", "float64", 1.0), ("back\\slash", "float64", 2.0)),
        1,
    )


@pytest.mark.parametrize(
    ("precision", "micros"),
    [
        ("ns", 7),
        ("us", 7_777),
        ("u", 7_777),
        ("ms", 7_777_000),
        ("s", 7_777 * 10**6),
        ("m", 7_777 * 60 * 10**6),
        ("h", 7_777 * 3600 * 10**6),
    ],
)
def test_precisions(precision: str, micros: int) -> None:
    for body in (b"m v=1 7777\nm v=2 -7777\n", b'm v=1i,s="" 7777\nm v=2i,s="" -7777\n'):
        found, _ = read(body, precision=precision)
        assert [found[1][3], found[2][3]] == [micros, -micros - (precision == "ns")]


def test_a_time_beyond_the_range_is_a_fault() -> None:
    found, parsed = read(b"m v=1 9223372036854775807\nm v=1 5\n", precision="h")
    assert list(found) == [2]
    assert [fault.line for fault in parsed.faults] == [1]


def test_no_such_precision() -> None:
    with pytest.raises(InvalidInput, match="precision"):
        read(b"m v=1", precision="fortnight")


def test_broken_lines_are_named_and_the_others_taken() -> None:
    found, parsed = read(b"m v=1\nm\nm v=\nm v=2\n,a=b v=1\nm v=1 x\nm,a v=1\n# note\n\nm v=3\n")
    assert sorted(found) == [1, 4, 10]
    assert [(fault.line, fault.text) for fault in parsed.faults] == [
        (2, "m"), (3, "m v="), (5, ",a=b v=1"), (6, "m v=1 x"), (7, "m,a v=1"),
    ]  # fmt: skip
    assert "no fields" in next(iter(parsed.faults)).message


def test_a_text_may_hold_line_feeds() -> None:
    found, parsed = read(b'm s="one\ntwo # three" 1000\nm v=1 2000\nm s="open\nm v=2 3000\n')
    assert found[1][2] == (("s", "string", "one\ntwo # three"),)
    assert sorted(found) == [1, 3, 5]
    assert [fault.line for fault in parsed.faults] == [4]


def test_lines_inside_a_text_are_no_lines() -> None:
    found, parsed = read(
        b'm s="one\nm v=2 3\nm v=3 4\n# five",t=1 1000\nm v=4 2000\n# it"s a note\nm v=5 3000\nm s="\n'
    )
    assert sorted(found) == [1, 5, 7]
    assert found[1][2] == (("s", "string", "one\nm v=2 3\nm v=3 4\n# five"), ("t", "float64", 1.0))
    assert [fault.line for fault in parsed.faults] == [8]


def test_a_line_that_is_too_long_is_one_fault() -> None:
    found, parsed = read(b"m v=1\nm " + b"a=1," * MOST_LINE + b"b=1\nm v=2\n")
    assert sorted(found) == [1, 3]
    assert [(fault.line, "bytes" in fault.message) for fault in parsed.faults] == [(2, True)]


def test_series_are_the_same_whatever_the_order_of_tags() -> None:
    prefixes = Prefixes()
    parsed = parse(b"m,a=1,b=2 v=1\nm,b=2,a=1 v=1\nm,a=1,b=\\2 v=1\n", prefixes, now=NOW)
    assert len({int(code) for points in parsed.points for code in points.series}) == 2


def test_codes_stay() -> None:
    prefixes = Prefixes()
    first = parse(b"".join(b"m,a=%d v=1\n" % n for n in range(5000)), prefixes, now=NOW).points[0].series
    again = parse(b"".join(b"m,a=%d v=2\n" % n for n in reversed(range(5000))), prefixes, now=NOW).points[0].series
    assert first.tolist() == again.tolist()[::-1]
    assert prefixes.measurement_of(first).tolist() == [0] * 5000


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 30), max_size=20), min_size=1, max_size=6))
def test_codes_are_the_same_however_bodies_are_joined(bodies: list[list[int]]) -> None:
    prefixes = Prefixes()
    for _ in range(2):  # the second time from memory
        texts = [b"".join(b"m,a=%d v=1\n" % n for n in body) for body in bodies]
        cuts = [sum(map(len, bodies[: n + 1])) for n in range(len(bodies) - 1)]
        joined = parse(b"".join(texts), prefixes, now=NOW, cuts=cuts).points
        found = joined[0].series if joined else []
        assert [prefixes.series[code][1] for code in found] == [(("a", str(n)),) for body in bodies for n in body]


def test_more_shapes_than_are_looked_for() -> None:
    body = b"".join(b"m f%d=1\n" % n for n in range(600))
    found, parsed = read(body)
    assert len(found) == 600
    assert not parsed.faults


def test_faults_are_counted_beyond_those_that_are_named() -> None:
    body = b"m v=1\n" + b"broken\n" * 5000 + b"m v=2\n"
    found, parsed = read(body)
    assert sorted(found) == [1, 5002]
    assert len(parsed.faults) == 5000
    assert [fault.line for fault in parsed.faults] == list(range(2, MOST_NAMED + 2))
    parts = parsed.faults.divided([1001, 1002, 5002])
    assert [len(part) for part in parts] == [1000, 1, 3999]
    assert [fault.line for fault in parts[0]] == list(range(2, 1002))


def test_too_many_lines_are_refused() -> None:
    with pytest.raises(InvalidInput, match="lines"):
        read(b"\n" * (MOST_LINES + 1))
    assert read(b"\n" * MOST_LINES)[0] == {}


def test_float_bits() -> None:
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3]
    found, _ = read("".join(f"m v={value!r}\n" for value in values).encode())
    assert [math.copysign(1, found[n][2][0][2]) for n in range(1, 6)] == [1, -1, 1, 1, 1]
    assert [found[n][2][0][2] for n in range(1, 6)] == values
