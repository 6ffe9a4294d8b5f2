"""Queries by chance, asked of a real Prometheus and of Kymograph: the same answer, the same refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.prometheus.chance import Chance
from tests.prometheus.compare import asked, difference
from tests.server.running import Running

# where Prometheus 3 reads what Prometheus 2 refuses: durations as numbers and numbers as durations, 1_000, and
# MetricsQL a function over a window without one
_NEW = re.compile("duration|bad number|offset, expected|range vector in call|[Rr]ange, expected")


@pytest.fixture(scope="module")
def ours(kymograph: Running) -> Iterator[httpx.Client]:
    with kymograph.client() as client:
        yield client


def _told(theirs: tuple[int, Any], mine: tuple[int, Any], path: str) -> str:
    if theirs[0] == mine[0] == 200:
        return difference(path, theirs, mine)
    if mine[1].get("error", "").startswith("multiple matches"):  # Prometheus 3 counts what a comparison leaves out, too
        return ""
    kinds = [(one[0], one[1].get("errorType")) for one in (theirs, mine)]
    return "" if kinds[0] == kinds[1] else f"{theirs} != {mine}"


def _compare(seeds: range, prometheus: httpx.Client, ours: httpx.Client) -> None:
    for seed in seeds:
        chance = Chance(seed)
        query = chance.query()
        for path, when in zip(("query", "query_range"), chance.times(), strict=True):
            given = {"query": query, **when}
            problem = _told(asked(prometheus, path, given), asked(ours, path, given), path)
            assert not problem, f"{seed}: {given}: {problem}"


def test_queries(prometheus: httpx.Client, ours: httpx.Client) -> None:
    _compare(range(120), prometheus, ours)


@pytest.mark.soak
def test_many_queries(prometheus: httpx.Client, ours: httpx.Client) -> None:
    _compare(range(1000, 1500), prometheus, ours)


def test_texts(prometheus: httpx.Client, ours: httpx.Client) -> None:
    for seed in range(300):
        given = {"query": Chance(seed).text()}
        theirs, mine = asked(prometheus, "format_query", given), asked(ours, "format_query", given)
        if theirs[0] != mine[0]:
            assert theirs[0] == 400, f"{seed}: {given}: {theirs} {mine}"
            assert _NEW.search(theirs[1]["error"]), f"{seed}: {given}: {theirs} {mine}"
        elif theirs[0] == 200:
            once = mine[1]["data"]
            assert asked(ours, "format_query", {"query": once})[1]["data"] == once, f"{seed}: {given}"
        else:
            assert mine[1]["errorType"] == "bad_data"
