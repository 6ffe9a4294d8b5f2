"""Every query of queries.txt, asked of a real Prometheus and of Kymograph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.prometheus import data
from tests.prometheus.compare import asked, difference
from tests.server.running import Running

QUERIES = [
    line
    for line in (Path(__file__).parent / "queries.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
# no multiple of a minute, so that no step of a subquery falls on the start of its window
AT = data.START + 5000 + 7
RANGES = [(data.START + 1207, data.END + 907, 60), (data.START - 493, data.START + 1007, 15)]
ORDERED = ("sort(", "sort_desc(", "topk(", "bottomk(")


@pytest.fixture(scope="module")
def ours(kymograph: Running) -> Iterator[httpx.Client]:
    with kymograph.client() as client:
        yield client


def test_there_are_enough() -> None:
    assert len(set(QUERIES)) == len(QUERIES) >= 150


@pytest.mark.parametrize("query", QUERIES)
def test_query(query: str, prometheus: httpx.Client, ours: httpx.Client) -> None:
    for at in (AT, data.START + 307):
        parameters = {"query": query, "time": at}
        ordered = query.startswith(ORDERED) and " by " not in query
        theirs, mine = asked(prometheus, "query", parameters), asked(ours, "query", parameters)
        assert not difference("query", theirs, mine, ordered=ordered), f"at {at}"
    for start, end, step in RANGES:
        parameters = {"query": query, "start": start, "end": end, "step": step}
        theirs, mine = asked(prometheus, "query_range", parameters), asked(ours, "query_range", parameters)
        assert not difference("query_range", theirs, mine), f"from {start} to {end} by {step}"
