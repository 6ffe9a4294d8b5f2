"""Exposition pages: what is read, what is refused and where, and that nothing else ever happens."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.errors import InvalidInput
from kymograph.wire.exposition.page import Family, Sample, parse
from kymograph.wire.exposition.text import render


def one(page: bytes, *, openmetrics: bool = False) -> Sample:
    (family,) = parse(page, openmetrics=openmetrics)
    (sample,) = family.samples
    return sample


def refused(page: bytes, line: int, words: str, *, openmetrics: bool = False) -> None:
    with pytest.raises(InvalidInput, match=rf"^exposition line {line} .*{words}"):
        parse(page, openmetrics=openmetrics)


def test_the_example_of_the_format_description() -> None:
    page = rb"""# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045

# A histogram, which has a pretty complex representation in the text format:
# HELP http_request_duration_seconds A histogram of the request duration.
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
http_request_duration_seconds_count 144320

# TYPE rpc_duration_seconds summary
rpc_duration_seconds{quantile="0.01"} 3102
rpc_duration_seconds_sum 1.7560473e+07
rpc_duration_seconds_count 2693
"""
    families = {family.name: family for family in parse(page)}
    assert list(families) == [
        "http_requests_total",
        "msdos_file_access_time_seconds",
        "metric_without_timestamp_and_labels",
        "something_weird",
        "http_request_duration_seconds",
        "rpc_duration_seconds",
    ]
    requests = families["http_requests_total"]
    assert (requests.kind, requests.help) == ("counter", "The total number of HTTP requests.")
    assert requests.samples[0] == Sample(
        "http_requests_total", {"method": "post", "code": "200"}, 1027.0, 1395066363000_000
    )
    assert families["msdos_file_access_time_seconds"].samples[0].labels == {
        "path": r"C:\DIR\FILE.TXT",
        "error": 'Cannot find file:\n"FILE.TXT"',
    }
    weird = families["something_weird"].samples[0]
    assert (weird.value, weird.time) == (math.inf, -3982045_000)
    assert [sample.name for sample in families["http_request_duration_seconds"].samples][2:] == [
        "http_request_duration_seconds_sum",
        "http_request_duration_seconds_count",
    ]
    assert len(families["rpc_duration_seconds"].samples) == 3
    assert families["metric_without_timestamp_and_labels"].kind == "untyped"


def test_openmetrics() -> None:
    page = rb"""# TYPE acme_http_router_request_seconds summary
# UNIT acme_http_router_request_seconds seconds
# HELP acme_http_router_request_seconds Latency though all of ACME's HTTP request router.
acme_http_router_request_seconds_sum{path="/api/v1",method="GET"} 9036.32
acme_http_router_request_seconds_count{path="/api/v1",method="GET"} 807283.0
acme_http_router_request_seconds_created{path="/api/v1",method="GET"} 1605281325.0
# TYPE go_goroutines gauge
go_goroutines 69 1520879607.789123
# TYPE process_cpu_seconds counter
# UNIT process_cpu_seconds seconds
process_cpu_seconds_total 4.20072246e+06 # {trace_id="KOO5S4vxi0o"} 0.67 1.5e9
# TYPE build info
build_info{version="1.2 # {"} 1
# TYPE fruit unknown
fruit 1
# EOF
"""
    families = {family.name: family for family in parse(page, openmetrics=True)}
    latency = families["acme_http_router_request_seconds"]
    assert (latency.kind, latency.unit, len(latency.samples)) == ("summary", "seconds", 3)
    assert families["go_goroutines"].samples[0].time == 1520879607_789123
    cpu = families["process_cpu_seconds"]
    assert cpu.samples == [Sample("process_cpu_seconds_total", {}, 4200722.46)]
    assert families["build"].samples[0].labels == {"version": "1.2 # {"}
    assert families["fruit"].kind == "untyped"


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1520879607.789", 1520879607_789000),
        ("0.000001", 1),
        ("-1.5", -1_500_000),
        ("-0.25", -250_000),
        ("1.5e3", 1500_000_000),
        ("4000000000.123456", 4000000000_123456),
        ("7", 7_000_000),
    ],
)
def test_openmetrics_times_are_exact(text: str, micros: int) -> None:
    assert one(f"a 1 {text}\n# EOF".encode(), openmetrics=True).time == micros


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x", None),
        ("1_0", None),
        ("\uff11", None),
        ("", None),
        ("1e999", None),
        ("--1", None),
        ("in", None),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1e-3", -0.001),
        ("+Inf", math.inf),
        ("-inf", -math.inf),
        ("infinity", math.inf),
    ],
)
def test_values(text: str, value: float | None) -> None:
    if value is None:
        with pytest.raises(InvalidInput, match="line 1"):
            parse(f"a {text}".encode())
    else:
        assert one(f"a {text}".encode()).value == value


def test_nan_and_minus_zero_are_values() -> None:
    assert math.isnan(one(b"a NaN").value)
    assert math.copysign(1, one(b"a -0").value) == -1


@pytest.mark.parametrize(
    ("page", "name", "labels"),
    [
        (b'{"my.metric", a="b"} 1', "my.metric", {"a": "b"}),
        (b'{"my.metric"} 1', "my.metric", {}),
        ('{"μ \\"x\\"","ключ"="значение"} 1'.encode(), 'μ "x"', {"ключ": "значение"}),
        (b'm{"a.b"="c",d="}"} 1', "m", {"a.b": "c", "d": "}"}),
        (b' \t m { a = "b" , c = "d" , } 1 ', "m", {"a": "b", "c": "d"}),
        (b"m{} 1", "m", {}),
        (b"m{ } 1", "m", {}),
        (b'm{a=""}1', "m", {"a": ""}),
        (rb'm{a="\x\\n"} 1', "m", {"a": r"\x\n"}),
        (b"a:b:c 1", "a:b:c", {}),
    ],
)
def test_series(page: bytes, name: str, labels: dict[str, str]) -> None:
    sample = one(page)
    assert (sample.name, sample.labels) == (name, labels)


def test_quoted_names_in_metadata() -> None:
    (family,) = parse(b'# TYPE "my.metric" gauge\n# HELP "my.metric" two\\nlines \\\\\n{"my.metric"} 1\n')
    assert (family.name, family.kind, family.help, len(family.samples)) == ("my.metric", "gauge", "two\nlines \\", 1)


@pytest.mark.parametrize(
    ("page", "line", "words"),
    [
        (b"a 1\nb\n", 2, "is not a sample"),
        (b"a 1\n\nb{x=1} 2\n", 3, "malformed labels"),
        (b'a{x="1" y="2"} 2', 1, "malformed labels"),
        (b'a{x="1"', 1, "is not a sample"),
        (b'a{x="1} 1', 1, "is not a sample"),
        (b'a{x="1",x="2"} 1', 1, "twice"),
        (b'a{__name__="b"} 1', 1, "cannot be called"),
        (b'a{"b"} 1', 1, "without a value"),
        (b"a{b} 1", 1, "malformed|without a value"),
        (b'{a="b"} 1', 1, "no metric name"),
        (b'{a="b","m"} 1', 1, "without a value"),
        (b"{} 1", 1, "no metric name"),
        (b'{""} 1', 1, "no metric name"),
        (b"a 1 2 3", 1, "is not a sample"),
        (b"a 1 2.5", 1, "milliseconds"),
        (b"a 1 99999999999999999", 1, "out of range"),
        (b"a 1\r\nb 2\r\n", 1, "is not a sample|no number"),
        (b"ok 1\na \xff 1", 2, "UTF-8"),
        (b"# TYPE a thing\n", 1, "type"),
        (b"# TYPE a-b gauge\n", 1, "metadata"),
        (b"a 1 # {} 1\n", 1, "goes on"),
        (b"1a 1", 1, "is not a sample"),
        (b"a one", 1, "no number"),
    ],
)
def test_errors_name_the_line(page: bytes, line: int, words: str) -> None:
    refused(page, line, words)


@pytest.mark.parametrize(
    ("page", "line", "words"),
    [
        (b"a 1\n", 2, "EOF"),
        (b"", 1, "EOF"),
        (b"a 1\n# EOF\nb 1\n", 3, "follows"),
        (b"a 1\n# EOF\n\n", 3, "follows"),
        (b"a 1\n# TYPE a counter\n# EOF", 2, "after its samples"),
        (b"a 1 # oops\n# EOF", 1, "goes on"),
        (b"a 1 1e400\n# EOF", 1, "out of range"),
    ],
)
def test_openmetrics_errors(page: bytes, line: int, words: str) -> None:
    refused(page, line, words, openmetrics=True)


def test_comments_are_passed_over() -> None:
    assert parse(b"# just words\n#nothing\n # TYPO a gauge\n\n \t\n") == []


def test_too_many_samples() -> None:
    assert len(parse(b"a 1\nb 2\n", max_samples=2)) == 2
    with pytest.raises(InvalidInput, match=r"line 3 .*more than allowed"):
        parse(b"a 1\nb 2\nc 3\n", max_samples=2)


def test_the_cache_changes_nothing_but_the_work() -> None:
    page = b'# TYPE a counter\na{x="1"} 1\na{x="2"} 2\n'
    cache: dict[str, tuple[str, dict[str, str]]] = {}
    first, second = parse(page, cache=cache), parse(page, cache=cache)
    assert first == second == parse(page)
    assert first[0].samples[0].labels is second[0].samples[0].labels
    assert len(cache) == 2


def test_hostile_lines_take_linear_time() -> None:
    for line in (
        'a{x="' + "\\" * 200_000,
        "a{" + '"' * 200_001,
        "a " * 100_000,
        "a{" + 'x="1",' * 50_000,
        " " * 300_000 + "#",
    ):
        with pytest.raises(InvalidInput):
            parse(line.encode() + b"\n!")


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
label_names = names.filter(lambda name: name != "__name__")
values = st.floats(allow_nan=False) | st.integers(-(2**53), 2**53).map(float)
times = st.none() | st.integers(-(10**15), 10**15).map(lambda ms: ms * 1000)


@st.composite
def pages(draw: st.DrawFn) -> list[Family]:
    families = []
    for name in draw(st.lists(names, unique=True, max_size=5)):
        samples = [
            Sample(
                name,
                draw(st.dictionaries(label_names, st.text(st.characters(codec="utf-8"), max_size=12), max_size=3)),
                value,
                time,
            )
            for value, time in draw(st.lists(st.tuples(values, times), min_size=1, max_size=4))
        ]
        kind = draw(st.sampled_from(["gauge", "counter", "untyped"]))
        families.append(Family(name, kind, "", draw(st.text(st.characters(codec="utf-8"), max_size=12)), samples))
    return families


@given(pages())
@settings(max_examples=150)
def test_what_is_rendered_is_read_back(families: list[Family]) -> None:
    # a counter "x" owns a sample called "x_total", so such names would move between families
    suffixed = ("_total", "_created")
    if not any(family.name.endswith(suffixed) for family in families):
        assert parse(render(families)) == families


def test_render_spells_the_special_values() -> None:
    samples = [Sample("a", {}, value) for value in (math.nan, math.inf, -math.inf, 5.0, 0.1)]
    assert render([Family("a", "gaugehistogram", "", "", samples)]) == (
        b"# TYPE a untyped\na NaN\na +Inf\na -Inf\na 5\na 0.1\n"
    )


def outcome(data: bytes, *, openmetrics: bool = False) -> str:
    """The names read, or the refusal; any other error fails the test."""
    try:
        return " ".join(family.name for family in parse(data, openmetrics=openmetrics))
    except InvalidInput as problem:
        return str(problem)[:16]


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=300)
def test_garbage_is_read_or_refused(data: bytes, openmetrics: bool) -> None:
    outcome(data, openmetrics=openmetrics)


PIECES = [
    "a",
    "{",
    "}",
    '"',
    "\\",
    ",",
    "=",
    " ",
    "1",
    "-",
    ".",
    "e",
    "#",
    "# TYPE ",
    "# HELP ",
    "# EOF",
    "\n",
    "b",
    "NaN",
    "é",
    "\t",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40), st.booleans())
@settings(max_examples=500)
def test_near_misses_are_read_or_refused(pieces: list[str], openmetrics: bool) -> None:
    outcome("".join(pieces).encode(), openmetrics=openmetrics)


def test_damaged_pages_are_read_or_refused() -> None:
    page = bytearray(
        b'# HELP m Some \\\\ help\n# TYPE m histogram\nm_bucket{le="0.1",x="\\"y\\n"} 5 1700000000000\n'
        b'm_sum{x="z"} +Inf\n{"q.r",s="t"} 1e-3\nplain NaN\n'
    )
    chance = random.Random(3)
    seen = set()
    for _ in range(2000):
        damaged = bytearray(page)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        seen.add(outcome(bytes(damaged)))
    assert "exposition line " in seen
    assert len(seen) > 20
