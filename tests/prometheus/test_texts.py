"""Odd label texts and numbers over HTTP: what a client reads is what the store has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from kymograph.errors import InvalidInput
from kymograph.server.state import ServerState
from tests.server.running import Running, running

START = 1_767_225_600
TEXTS = [
    '"},{"',
    "\\",
    "\\u0041",
    "\0\x01\x1f\x7f",
    "\n\r\t",
    "\u2028\u2029",
    "😀\u0301",
    "é" * 8000,
    "</script>",
    "%{}",
]
NUMBERS = [0.0, -0.0, 1e10, 123_456_789_012.0, 2.0**53, 1e15 + 0.5, 1e21, 1e-7, 5e-324, float("inf"), float("nan")]
SHOWN = ["0", "-0", "10000000000", "123456789012", "9007199254740992", "1000000000000000.5", "1e+21", "1e-07", "5e-324"]
SHOWN += ["+Inf", "NaN"]


def fill(state: ServerState) -> None:
    store = state.slot.get()
    for place, text in enumerate(TEXTS):
        store.gauge("odd", float(place), {"text": text, f"label {place}": "x"}, time=START * 10**6)
    number = store.series_ids([("numbers", {})])[0]
    times = (START + np.arange(len(NUMBERS))) * 10**6 + 1500
    store.append_samples(np.full(len(NUMBERS), number), times, np.array(NUMBERS))


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(prepare=fill) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


def asked(client: httpx.Client, path: str, **given: Any) -> Any:
    answer = client.get(f"/api/v1/{path}", params=given)
    assert answer.status_code == 200
    return answer.json()["data"]


@pytest.mark.parametrize("query", ["odd", "odd[1m]", "-odd", "sum by (text) (odd)", "topk(3, odd)", "odd offset 1d"])
def test_label_texts(query: str, server: Running, client: httpx.Client) -> None:
    found = asked(client, "query", query=query, time=START)["result"]
    result = server.state.slot.get().promql(query, time=START * 10**6)
    assert [one["metric"] for one in found] == result.labels
    assert [one["value"] if "value" in one else one["values"][0] for one in found] == [
        [START, f"{value:g}"] for value in result.values
    ]
    assert len(found) == (3 if "topk" in query else 0 if "offset" in query else len(TEXTS))


def test_numbers(client: httpx.Client) -> None:
    stored = asked(client, "query", query="numbers[1h]", time=START + 3600 - 1)["result"][0]["values"]
    assert [text for _, text in stored] == SHOWN
    assert [time for time, _ in stored] == [START + place + 0.0015 for place in range(len(SHOWN))]
    steps = asked(client, "query_range", query="numbers", start=START + 1, end=START + len(SHOWN), step=1)["result"]
    assert [text for _, text in steps[0]["values"]] == SHOWN
    assert [time for time, _ in steps[0]["values"]] == [START + 1 + place for place in range(len(SHOWN))]


def test_scalars_strings_and_nothing(client: httpx.Client) -> None:
    assert asked(client, "query", query="1e10", time=START)["result"] == [START, "10000000000"]
    assert asked(client, "query", query="'😀\"\\n'", time=START + 0.25)["result"] == [START + 0.25, '😀"\n']
    assert asked(client, "query", query="nothing", time=START) == {"resultType": "vector", "result": []}
    assert asked(client, "query", query="nothing[5m]", time=START) == {"resultType": "matrix", "result": []}


def test_what_comes_beside(client: httpx.Client) -> None:
    given = {"query": "rate(numbers[1m]) or quantile(2, odd) or odd", "time": START + 5, "limit": 2, "stats": "all"}
    body = client.get("/api/v1/query", params=given).json()
    assert list(body) == ["status", "data", "warnings", "infos"]
    assert list(body["data"]) == ["resultType", "result", "stats"]
    assert len(body["data"]["result"]) == 2
    assert "quantile value should be" in body["warnings"][0]
    assert body["warnings"][1] == "results truncated due to limit"
    assert "might not be a counter" in body["infos"][0]


def test_lone_surrogates_are_refused(server: Running, client: httpx.Client) -> None:
    with pytest.raises(InvalidInput):
        server.state.slot.get().gauge("odd", 1.0, {"text": "\ud800"})
    written = client.post("/api/v1/import/prometheus", content=b'odd{text="\xed\xa0\x80"} 1')
    assert written.status_code == 400
    assert sorted(asked(client, "label/text/values")) == sorted(TEXTS)
