"""Everything that is no plain query: errors, series, labels, metadata, formatting, asked of both servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.prometheus import data
from tests.prometheus.compare import asked, difference
from tests.server.running import Running


def lines(name: str) -> list[list[str]]:
    """Path and parameters of every request of a file."""
    texts = (Path(__file__).parent / name).read_text().splitlines()
    return [line.split(" ", 1) for line in texts if line and not line.startswith("#")]


SPAN = {"start": data.START, "end": data.END}


@pytest.fixture(scope="module")
def ours(kymograph: Running) -> Iterator[httpx.Client]:
    with kymograph.client() as client:
        yield client


@pytest.mark.parametrize(("path", "parameters"), lines("errors.txt"), ids=lambda one: one)
def test_errors(path: str, parameters: str, prometheus: httpx.Client, ours: httpx.Client) -> None:
    given = json.loads(parameters)
    assert not difference(path, asked(prometheus, path, given), asked(ours, path, given))


@pytest.mark.parametrize(("path", "parameters"), lines("differences.txt"), ids=lambda one: one)
def test_differences(path: str, parameters: str, prometheus: httpx.Client, ours: httpx.Client) -> None:
    given = json.loads(parameters)
    assert difference(path, asked(prometheus, path, given), asked(ours, path, given)), "no difference any more"


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("series", {"match[]": "up"}),
        ("series", {"match[]": ["up", 'requests_total{code="500"}', "up"]}),
        ("series", {"match[]": '{__name__=~"memory.*"}'}),
        ("series", {"match[]": "nothing"}),
        ("labels", {}),
        ("labels", {"match[]": "up"}),
        ("labels", {"match[]": ["up", "http_request_duration_seconds_bucket"]}),
        ("label/job/values", {}),
        ("label/__name__/values", {}),
        ("label/room/values", {}),
        ("label/instance/values", {"match[]": ['memory_used_bytes{instance=~"[bc].*"}', "build_info"]}),
        ("label/nothing/values", {}),
    ],
)
def test_series(path: str, parameters: dict[str, Any], prometheus: httpx.Client, ours: httpx.Client) -> None:
    given = {**SPAN, **parameters}
    theirs, mine = asked(prometheus, path, given)[1], asked(ours, path, given)[1]
    if path == "series":
        for answer in (theirs, mine):
            answer["data"].sort(key=lambda labels: sorted(labels.items()))
    assert theirs == mine


@pytest.mark.parametrize("span", [{"end": 9223372036854775}, {"start": "-1e300"}, {"start": 1e15, "end": 1e16}])
def test_times_beyond_all_samples(span: dict[str, Any], ours: httpx.Client) -> None:
    found = asked(ours, "labels", {"match[]": "sparse", **span})
    assert found == (200, {"status": "success", "data": [] if span.get("start") == 1e15 else ["__name__", "n"]})
    assert asked(ours, "query_range", {"query": "1", "start": 0, "step": 1, "end": 1e16})[0] == 400


@pytest.mark.parametrize("parameters", [{}, {"metric": "requests"}, {"limit": 0}, {"limit": 2}])
def test_metadata(parameters: dict[str, Any], prometheus: httpx.Client, ours: httpx.Client) -> None:
    theirs, mine = asked(prometheus, "metadata", parameters)[1]["data"], asked(ours, "metadata", parameters)[1]["data"]
    if "limit" in parameters:
        assert len(theirs) == len(mine)  # which ones is up to the order of a map
        return
    assert {name: mine[name] for name in theirs} == theirs


FORMATS = [
    "up",
    "sum(up) by (job)",
    "sum by (job, instance) (rate(requests_total{code=~'5..',job=\"api\"}[5m:10s] offset 3m))",
    "up{instance='a',job!=\"b\",x=~`c`,a!~'d'}[1h30m] @ 1234.5 offset -90s",
    "up @ start() offset 1w",
    "up offset 366d",
    "up offset 26h",
    "up offset 1500ms",
    "a+b*c^-2",
    "(a + b) * (c or d) unless e",
    "a / on(x) group_left(y,z) b",
    "a / ignoring(x) b == bool c",
    "a / ignoring() b",
    "a / on() b",
    "-(a)",
    "- a",
    "+1.50",
    "0x10",
    "Inf",
    "-NaN",
    "'it\\'s \"quoted\" \\n \\x00 \\u00e9'",
    "topk without(x) (5, a)",
    "count_values('v', a)",
    "quantile without () (0.5, a)",
    '{__name__="up"}',
    "{__name__=~'up.*',job='x'}",
    "vector(1) # comment",
    "hour()",
    "sum by (instance, job) (rate(http_request_duration_seconds_bucket{instance='a:9100',job='something long'}[5m]))",
    "sum(rate(first_long_metric_name_total{job='x'}[5m])) / on(instance, job) group_left(version) "
    "sum(rate(second_long_metric_name_total{job='x'}[5m]))",
    "histogram_quantile(0.99, sum by (le, job, instance) (rate(http_request_duration_seconds_bucket{job='x'}[5m])) > 0)",
    "label_replace(sum(some_rather_long_metric_name{label='value'}) by (a), 'destination', '$1', 'source', '(.*)') > 1",
    "-(first_very_long_metric_name_that_takes_room + second_very_long_metric_name_that_takes_room + third_metric_name)",
    "max_over_time((first_very_long_metric_name_that_takes_room + second_very_long_metric_name_that_takes_room)[1h:1m])",
    "topk(10, first_very_long_metric_name_that_takes_room{job='some long job name'} * second_very_long_metric_name)",
]


@pytest.mark.parametrize("query", FORMATS)
def test_format(query: str, prometheus: httpx.Client, ours: httpx.Client) -> None:
    given = {"query": query}
    assert not difference("format_query", asked(prometheus, "format_query", given), asked(ours, "format_query", given))


@pytest.mark.parametrize("query", FORMATS)
def test_format_keeps_the_meaning(query: str, ours: httpx.Client) -> None:
    once = asked(ours, "format_query", {"query": query})[1]["data"]
    assert asked(ours, "format_query", {"query": once})[1]["data"] == once
    trees = [asked(ours, "parse_query", {"query": text})[1]["data"] for text in (query, once)]
    assert _sorted(trees[0]) == _sorted(trees[1])


def _sorted(tree: Any) -> Any:
    """A tree with matchers in one order, as the printed form has them."""
    if isinstance(tree, dict):
        return {key: sorted(value, key=str) if key == "matchers" else _sorted(value) for key, value in tree.items()}
    return [_sorted(one) for one in tree] if isinstance(tree, list) else tree


def test_forms(prometheus: httpx.Client, ours: httpx.Client) -> None:
    for path in ("query", "series", "labels"):
        form = {"query": "up", "time": data.START + 907, "match[]": "up", **SPAN}
        found = [client.post(f"/api/v1/{path}", data=form).json()["data"] for client in (prometheus, ours)]
        if path != "labels":
            found = [sorted(one["result"] if path == "query" else one, key=str) for one in found]
        assert found[0] == found[1]


@pytest.mark.parametrize("path", ["buildinfo", "runtimeinfo", "config", "tsdb"])
def test_status_has_what_prometheus_has(path: str, prometheus: httpx.Client, ours: httpx.Client) -> None:
    theirs, mine = (asked(client, f"status/{path}", {})[1]["data"] for client in (prometheus, ours))
    assert _shape(theirs) <= _shape(mine)


def test_stats_have_what_prometheus_has(prometheus: httpx.Client, ours: httpx.Client) -> None:
    given = {"query": "up[5m]", "time": data.START + 907, "stats": "yes"}
    theirs, mine = (asked(client, "query", given)[1]["data"]["stats"] for client in (prometheus, ours))
    assert _shape(theirs) == _shape(mine)
    assert theirs["samples"]["totalQueryableSamples"] == mine["samples"]["totalQueryableSamples"]


def _shape(value: Any, place: str = "") -> set[str]:
    """Where in an answer there is what, by type."""
    if isinstance(value, dict):
        return {found for key, one in value.items() for found in _shape(one, f"{place}.{key}")}
    if isinstance(value, list):
        return {found for one in value[:1] for found in _shape(one, f"{place}[]")}
    return {f"{place}: {'number' if isinstance(value, (int, float)) else type(value).__name__}"}
