"""Bodies of the ring face: JSON and Arrow, and what clients may send by mistake."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from kymograph.server.ring_bodies import from_json
from tests.server.rings import ARROW, NOW, ask, ingest, stream

GOOD = {"name": "garbage", "ts": 1, "value": 1}


def test_arrays_and_streams(http: httpx.Client) -> None:
    array = [{"name": "many", "tags": {"n": str(n % 3)}, "ts": n + 0.25, "raw_value": n} for n in range(30)]
    found = ingest(http, "counter", array)
    assert (found["accepted"], len(found["metric_ids"])) == (30, 3)
    n = np.arange(30, 60)
    labels = [str(k % 3) for k in n]
    variants: list[dict[str, Any]] = [
        {"tags": pa.array([[("n", text)] for text in labels], pa.map_(pa.string(), pa.string()))},
        {"tags": pa.array([{"n": text, "none": None} for text in labels])},
        {"tags": pa.array([json.dumps({"n": text}) for text in labels]).dictionary_encode()},
        {"metric_id": [found["metric_ids"][k % 3] for k in n]},
    ]
    for variant in variants:
        named = {} if "metric_id" in variant else {"name": ["many"] * 30}
        body = stream(ts=n + 0.25, raw_value=n.astype(np.int32), **named, **variant)
        answer = http.post(
            "/ingest/counter", content=gzip.compress(body), headers={**ARROW, "Content-Encoding": "gzip"}
        )
        assert answer.status_code == 200, answer.text
        assert sorted(answer.json()["metric_ids"]) == sorted(found["metric_ids"])
    rows = ask(http, "SELECT ts, value FROM samples ORDER BY ts", metric_ids=found["metric_ids"])
    assert rows["rows"] == [{"ts": k, "value": float(k)} for k in range(60)]
    assert rows["count"] == 60
    times = pa.array(np.array([NOW * 1000 + 250]), pa.timestamp("ms"))
    body = stream(ts=times, raw_value=[1.0], name=["stamped"], step=[5], slots=[12])
    number = http.post("/ingest/counter", content=body, headers=ARROW).json()["metric_ids"][0]
    series = http.get(f"/metrics/{number}/series").json()
    assert (series["rows"], series["step"], series["slots"]) == ([{"ts": NOW + 0.25, "value": 1.0}], 5, 12)
    empty = stream(ts=pa.array([], pa.int64()), raw_value=pa.array([], pa.float64()), name=pa.array([], pa.string()))
    assert http.post("/ingest/counter", content=empty, headers=ARROW).json() == {"metric_ids": [], "accepted": 0}
    assert ingest(http, "gauge", []) == {"metric_ids": [], "accepted": 0}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"5", b'"text"', b"[[]]", b"[1]", b"\xff\xfe", b"[" * 5000, b'{"name": "garbage"} x',
        *(json.dumps(GOOD | change).encode() for change in [
            {"ts": None}, {"ts": "1"}, {"ts": True}, {"ts": [1]}, {"ts": {}}, {"ts": 10**13}, {"ts": -(10**13)},
            {"ts": 10**30}, {"ts": 1e300}, {"ts": math.nan}, {"ts": math.inf}, {"value": None}, {"value": "1"},
            {"value": False}, {"value": math.nan}, {"value": -math.inf}, {"value": 2**53 + 1}, {"value": 10**400},
            {"name": ""}, {"name": 5}, {"name": "a\0b"}, {"name": "x" * 256}, {"name": None}, {"name": ["a"]},
            {"name": "\ud800"}, {"name": "__name__"}, {"tags": 5}, {"tags": [1]}, {"tags": {"a": 1}},
            {"tags": {"a": None}}, {"tags": {"": "x"}}, {"tags": {"a": {"b": "c"}}}, {"tags": {"a": "\ud800"}},
            {"step": 0}, {"step": -1}, {"step": "1"}, {"step": 1e-9}, {"step": 1e300}, {"step": math.nan},
            {"step": True}, {"step": {}}, {"slots": 0}, {"slots": -3}, {"slots": 1.5}, {"slots": 2**40},
            {"slots": True}, {"slots": "5"}, {"unknown": 1}, {"raw_value": 1}, {"metric_id": "1"},
            {"metric_id": 1.0}, {"metric_id": True}, {"metric_id": []}, {"__proto__": {}},
        ]),
        json.dumps([GOOD, GOOD | {"ts": None}]).encode(), b'{"name": "garbage", "ts": 1, "value": 1e999}',
    ],
)  # fmt: skip
def test_garbage(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/ingest/gauge", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert set(answer.json()["error"]) == {"code", "message", "hint"}
    assert "Traceback" not in answer.text
    assert http.post("/metrics/lookup", json={"name": "garbage"}).status_code == 404


def test_what_is_missing_is_said_to_be(http: httpx.Client) -> None:
    for field in ("ts", "value"):
        body = {key: value for key, value in GOOD.items() if key != field}
        for given in (body, [GOOD, body]):
            answer = http.post("/ingest/gauge", json=given)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"] == f"sample {int(given is not body)} has no {field}"


def test_ids_that_are_none(http: httpx.Client) -> None:
    for number in (0, -1, 10**6, 2**63, 10**30):
        ingest(http, "gauge", {"metric_id": number, "ts": 1, "value": 1}, 404)
    number = ingest(http, "gauge", {"name": "named", "ts": 1, "value": 1})["metric_id"]
    ingest(http, "gauge", {"metric_id": number, "name": "other", "ts": 2, "value": 1}, 400)
    ingest(http, "gauge", {"metric_id": number, "name": "named", "tags": {"a": "b"}, "ts": 2, "value": 1}, 400)
    ingest(http, "gauge", {"metric_id": number, "name": "named", "ts": 2, "value": 1})
    for path in ("/metrics/99999999/series", "/metrics/-1/series", "/metrics/x/series", f"/metrics/{2**70}/series"):
        assert http.get(path).status_code in (400, 404)
    assert http.delete("/metrics/99999999").status_code == 404
    assert http.post("/metrics/99999999/retention", json={"step": 1, "slots": 1}).status_code == 404


@pytest.mark.parametrize(
    "columns",
    [
        {"ts": [1.0], "value": [1.0]}, {"name": ["g"], "value": [1.0]}, {"name": ["g"], "ts": [1.0]},
        {"name": ["g"], "ts": [None], "value": [1.0]}, {"name": ["g"], "ts": [1], "value": [None]},
        {"name": ["g"], "ts": ["1"], "value": [1.0]}, {"name": ["g"], "ts": [1], "value": ["x"]},
        {"name": [5], "ts": [1], "value": [1.0]}, {"name": ["g"], "ts": [math.nan], "value": [1.0]},
        {"name": ["g"], "ts": [math.inf], "value": [1.0]}, {"name": ["g"], "ts": [2**62], "value": [1.0]},
        {"name": ["g"], "ts": [1], "value": [2**60 + 1]}, {"name": [None], "ts": [1], "value": [1.0]},
        {"name": ["g"], "ts": [1], "value": [1.0], "tags": [5]}, {"name": ["g"], "ts": [1], "value": [1.0], "tags": ["x"]},
        {"name": ["g"], "ts": [1], "value": [1.0], "tags": ["[1]"]}, {"name": ["g"], "ts": [1], "value": [1.0], "x": [1]},
        {"name": ["g"], "ts": [1], "value": [1.0], "tags": [{"a": "b\x1fc"}]},
        {"name": ["g"], "ts": [1], "value": [1.0], "tags": [{"a": 5}]},
        {"name": ["g"], "ts": [1], "value": [1.0], "step": [0]}, {"name": ["g"], "ts": [1], "value": [1.0], "slots": [1.5]},
        {"name": ["g"], "ts": [1], "value": [1.0], "metric_id": ["5"]}, {"name": ["g"], "ts": [True], "value": [1.0]},
    ],
    ids=repr,
)  # fmt: skip
def test_streams_that_are_no_samples(http: httpx.Client, columns: Any) -> None:
    answer = http.post("/ingest/gauge", content=stream(**columns), headers=ARROW)
    assert answer.status_code == 400, answer.text
    assert http.post("/metrics/lookup", json={"name": "g"}).status_code == 404


def test_streams_that_are_broken(http: httpx.Client) -> None:
    whole = stream(name=["broken"] * 100, ts=np.arange(100), value=np.arange(100.0))
    dice = np.random.default_rng(5)
    bodies = [b"", b"ARROW1", whole[: len(whole) // 2], whole[:40]]
    for _ in range(40):
        flipped = bytearray(whole)
        flipped[int(dice.integers(0, 400))] ^= 1 << int(dice.integers(0, 8))
        bodies.append(bytes(flipped))
    for body in bodies:
        answer = http.post("/ingest/gauge", content=body, headers=ARROW)
        assert answer.status_code in (200, 400), answer.text
        assert "Traceback" not in answer.text
    assert http.get("/api/health").json()["store"]["ok"]


def test_values_that_only_arrow_can_say(http: httpx.Client) -> None:
    values = np.array([math.nan, math.inf, -math.inf, -0.0])
    body = stream(name=["odd"] * 4, ts=np.arange(-2, 2), value=values)
    number = http.post("/ingest/gauge", content=body, headers=ARROW).json()["metric_ids"][0]
    series = http.get(f"/metrics/{number}/series").json()["rows"]
    assert [(row["ts"], row["value"]) for row in series] == [(-2, None), (-1, None), (0, None), (1, 0.0)]


def test_seconds_become_microseconds() -> None:
    given = {
        -0.5: -500_000,
        1700000000.123456: 1700000000123456,
        -1e-7: 0,
        4_000_000_000_000: 4 * 10**18,
        -7: -7 * 10**6,
    }
    for ts, micros in given.items():
        body = json.dumps({"name": "t", "ts": ts, "value": 1}).encode()
        assert from_json(body, "value").times.tolist() == [micros]
    mixed = json.dumps([{"name": "t", "ts": ts, "value": 1} for ts in given]).encode()
    assert from_json(mixed, "value").times.tolist() == list(given.values())
