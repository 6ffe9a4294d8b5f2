"""The ring face: /ingest, /query, /metrics/… and /dashboards, with what clients may send by mistake."""

from __future__ import annotations

import gzip
import json
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from kymograph.server.ring_bodies import from_json
from kymograph.server.routes.rings import wants_json
from kymograph.store import tokens
from tests.server.running import Running, running

ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
NOW = 1_790_000_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture
def http(served: Running) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def stream(**columns: Any) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def ingest(http: httpx.Client, kind: str, body: Any, status: int = 200) -> Any:
    answer = http.post(f"/ingest/{kind}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def ask(http: httpx.Client, sql: str, status: int = 200, **given: Any) -> Any:
    answer = http.post("/query", json={"sql": sql, **given})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_metric_becomes_a_ring(http: httpx.Client) -> None:
    tags = {"host": "a", "größe": "🜚"}
    found = ingest(http, "gauge", {"name": "one", "tags": tags, "ts": NOW, "value": 1})
    number = found["metric_id"]
    assert found == {"metric_id": number, "accepted": 1}
    assert ingest(http, "gauge", {"metric_id": number, "ts": NOW + 1, "value": 2.5})["metric_id"] == number
    expected = {
        "metric_id": number, "name": "one", "kind": "gauge", "tags": tags, "step": 1, "slots": 3600, "unit": "", "help": "",
    }  # fmt: skip
    assert http.post("/metrics/lookup", json={"name": "one", "tags": tags}).json() == expected
    assert http.post("/metrics/lookup", json={"name": "one", "tags": {"host": "a"}}).json() == expected
    assert http.post("/metrics/lookup", json={"name": "one"}).json() == expected
    assert expected in http.get("/api/metrics").json()
    assert expected in http.get("/metrics", headers={"Accept": "application/json"}).json()
    series = http.get(f"/metrics/{number}/series").json()
    assert series["rows"] == [{"ts": NOW, "value": 1.0}, {"ts": NOW + 1, "value": 2.5}]
    assert (series["count"], series["metric_id"], series["name"]) == (2, number, "one")
    # and it is a metric like any other
    promql = http.get("/api/v1/query", params={"query": "sum_over_time(one[10s])", "time": NOW + 1}).json()
    assert float(promql["data"]["result"][0]["value"][1]) == 3.5
    assert http.post("/api/sql", json={"sql": "SELECT count(*) AS n FROM metric.one"}).json()["rows"] == [{"n": 2}]


@pytest.mark.parametrize(
    "other",
    [
        ("gauge", {"step": 2, "value": 1}), ("gauge", {"slots": 10, "value": 1}), ("counter", {"raw_value": 1}),
        ("counter", {"raw_value": 1, "step": 1, "slots": 3600}),
    ],
)  # fmt: skip
def test_another_kind_step_or_slots(http: httpx.Client, other: tuple[str, Any]) -> None:
    ingest(http, "gauge", {"name": "settled", "ts": 5, "value": 7, "step": 1, "slots": 3600})
    ingest(http, "gauge", {"name": "settled", "ts": 6, "value": 8})
    kind, fields = other
    error = ingest(http, kind, {"name": "settled", "ts": 7, **fields}, 409)["error"]
    assert error["code"] == "already_exists"
    assert "3600 slots of 1 s" in error["message"]
    # other tags are another metric
    ingest(http, kind, {"name": "settled", "tags": {"case": json.dumps(fields)}, "ts": 7, **fields})
    found = http.post("/metrics/lookup", json={"name": "settled"}).json()["metric_id"]
    assert [row["ts"] for row in http.get(f"/metrics/{found}/series").json()["rows"]] == [5, 6]


def test_a_conflict_within_a_body_stores_nothing(http: httpx.Client) -> None:
    body = [{"name": "twice", "ts": 1, "value": 1, "step": step} for step in (1, 2)]
    ingest(http, "gauge", body, 409)
    assert http.post("/metrics/lookup", json={"name": "twice"}).status_code == 404


def test_metrics_that_keep_every_sample(http: httpx.Client, served: Running) -> None:
    served.state.slot.get().gauge("plain", 1.0, {"host": "a"}, time=10**6)
    body = {"name": "plain", "tags": {"host": "a"}, "ts": 2, "value": 2}
    ingest(http, "gauge", {**body, "step": 1}, 409)
    ingest(http, "counter", {"name": "plain", "tags": {"host": "a"}, "ts": 2, "raw_value": 2}, 409)
    number = ingest(http, "gauge", body)["metric_id"]
    assert len(http.get(f"/metrics/{number}/series").json()["rows"]) == 2
    assert http.post(f"/metrics/{number}/retention", json={"slots": 5}).status_code == 409
    listed = next(one for one in http.get("/api/metrics").json() if one["metric_id"] == number)
    assert (listed["step"], listed["slots"]) == (None, None)
    assert http.delete(f"/metrics/{number}").status_code == 204
    assert http.get(f"/metrics/{number}/series").status_code == 404


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


GOOD = {"name": "garbage", "ts": 1, "value": 1}


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


def test_time_travel(http: httpx.Client) -> None:
    """The late never take what the newer have, whatever the order."""
    body = {"name": "late", "step": 10, "slots": 3}
    number = ingest(http, "gauge", {**body, "ts": 100, "value": 1})["metric_id"]
    for ts, value in ((130, 2), (100, 3), (129.999, 4), (-40, 5), (160, 6), (135, 7)):
        ingest(http, "gauge", {"metric_id": number, "ts": ts, "value": value})
    rows = http.get(f"/metrics/{number}/series").json()["rows"]
    assert [(row["ts"], row["value"]) for row in rows] == [(-40, 5), (129.999, 4), (160, 6)]


def test_ranges_are_closed(http: httpx.Client) -> None:
    number = ingest(http, "gauge", [{"name": "closed", "ts": t / 2, "value": t, "step": 0.5} for t in range(20)])
    ids = number["metric_ids"]
    rows = ask(http, "SELECT ts, value FROM samples ORDER BY value", metric_ids=ids, start_ts=2, end_ts=3)["rows"]
    assert [(row["ts"], row["value"]) for row in rows] == [(2, 4), (2, 5), (3, 6), (3, 7)]
    for given, expected in (
        ({"start_ts": 2.1, "end_ts": 3.9}, 2), ({"start_ts": 9}, 2), ({"end_ts": 0}, 2), ({"start_ts": 5, "end_ts": 5}, 2),
        ({"start_ts": 9.5}, 0), ({}, 20),
    ):  # fmt: skip
        assert ask(http, "SELECT * FROM samples", metric_ids=ids, **given)["count"] == expected
        if given:
            series = http.get(f"/metrics/{ids[0]}/series", params=given).json()
            assert series["count"] == expected
    ask(http, "SELECT 1", 400, start_ts=5, end_ts=4)
    ask(http, "SELECT 1", 400, start_ts=1e300)
    assert http.get(f"/metrics/{ids[0]}/series?start_ts=nan").status_code == 400


def test_buckets(http: httpx.Client) -> None:
    ids = {}
    for kind, field in (("gauge", "value"), ("counter", "raw_value")):
        body = [{"name": f"b_{kind}", "ts": t, field: v} for t, v in [(-1, 5), (0, 1), (1, 3), (59, 2), (120, 9)]]
        ids[kind] = ingest(http, kind, body)["metric_ids"][0]
    for kind, value in (("gauge", 2.0), ("counter", 2.0)):
        series = http.get(f"/metrics/{ids[kind]}/series?bucket=60").json()
        assert [row["ts"] for row in series["rows"]] == [-60, 0, 120]
        assert series["rows"][1] == {"ts": 0, "value": value, "min": 1.0, "max": 3.0, "count": 3}
        assert series["bucket"] == 60
    by_two = [http.get(f"/metrics/{ids[kind]}/series?bucket=2&start_ts=0&end_ts=1").json() for kind in ids]
    assert [series["rows"][0]["value"] for series in by_two] == [2.0, 3.0]
    for bucket in ("0", "-1", "nan", "inf", "x", "1e300"):
        assert http.get(f"/metrics/{ids['gauge']}/series?bucket={bucket}").status_code == 400


def test_queries(http: httpx.Client) -> None:
    for name, factor in (("sent", 3.0), ("received", 1.0)):
        body = [{"name": name, "tags": {"if": nic}, "ts": t, "value": t * factor} for t in range(10) for nic in "ab"]
        ingest(http, "gauge", body)
    selectors = [
        {"metric": m, "tags": {"if": "a"}, "alias": alias} for m, alias in (("sent", "tx"), ("received", "rx 1"))
    ]
    found = ask(
        http,
        """SELECT ts, series_sub(max(CASE WHEN metric_id = {{tx}} THEN value END),
                                 max(CASE WHEN metric_id = {{ rx 1 }} THEN value END)) AS net
           FROM samples GROUP BY ts ORDER BY ts""",
        selectors=selectors, start_ts=1, end_ts=3,
    )  # fmt: skip
    assert found == {"rows": [{"ts": t, "net": 2.0 * t} for t in (1, 2, 3)], "count": 3}
    joined = ask(
        http,
        """SELECT m.name, t.value AS nic, count(*) AS n FROM samples s JOIN metrics m ON m.metric_id = s.metric_id
           JOIN metric_tags t ON t.metric_id = s.metric_id AND t.key = 'if' GROUP BY 1, 2 ORDER BY 1, 2""",
        selectors=selectors,
    )
    assert joined["rows"] == [{"name": "received", "nic": "a", "n": 10}, {"name": "sent", "nic": "a", "n": 10}]
    ids = [http.post("/metrics/lookup", json={"name": "sent", "tags": {"if": nic}}).json()["metric_id"] for nic in "ab"]
    assert ask(http, "SELECT count(*) AS n FROM samples", metric_ids=ids)["rows"] == [{"n": 20}]
    assert ask(http, "SELECT count(*) AS n FROM samples", metric_ids=ids[:1], selectors=selectors)["rows"] == [
        {"n": 20}
    ]
    assert ask(http, "SELECT name FROM metrics WHERE name = 'sent'")["count"] == 2


def test_queries_that_cannot_be(http: httpx.Client) -> None:
    ingest(http, "gauge", [{"name": "ambiguous", "tags": {"n": n}, "ts": 1, "value": 1} for n in "ab"])
    one = {"metric": "ambiguous", "tags": {"n": "a"}, "alias": "x"}
    assert "2 metrics" in ask(http, "SELECT 1", 400, selectors=[{"metric": "ambiguous"}])["error"]["message"]
    ask(http, "SELECT 1", 404, selectors=[{"metric": "nowhere", "alias": "x"}])
    ask(http, "SELECT 1", 404, selectors=[{**one, "tags": {"n": "c"}}])
    ask(http, "SELECT 1", 400, selectors=[one, {**one, "tags": {"n": "b"}}])
    ask(http, "SELECT {{y}}", 400, selectors=[one])
    ask(http, "SELECT {{}}", 400)
    ask(http, "SELECT 1", 404, metric_ids=[10**9])
    assert http.post("/metrics/lookup", json={"name": "ambiguous"}).status_code == 400
    for sql in ("DROP TABLE samples", "DELETE FROM samples", "SELECT * FROM nothing", "", "SELECT", "\0"):
        assert set(ask(http, sql, 400)["error"]) == {"code", "message", "hint"}
    for body in ({}, {"sql": 5}, {"sql": "SELECT 1", "x": 1}, {"sql": "SELECT 1", "metric_ids": ["1"]}, []):
        assert http.post("/query", json=body).status_code == 400


def test_retention(http: httpx.Client) -> None:
    for kind, field in (("gauge", "value"), ("counter", "raw_value")):
        body = [{"name": f"r_{kind}", "ts": t, field: t, "slots": 100} for t in range(150)]
        number = ingest(http, kind, body)["metric_ids"][0]
        changed = http.post(f"/metrics/{number}/retention", json={"step": 10, "slots": 5})
        assert changed.status_code == 200
        assert (changed.json()["step"], changed.json()["slots"], changed.json()["kind"]) == (10, 5, kind)
        rows = http.get(f"/metrics/{number}/series").json()["rows"]
        assert [row["ts"] for row in rows] == [109, 119, 129, 139, 149]
        ingest(http, kind, {"name": f"r_{kind}", "ts": 150, field: 1, "slots": 100}, 409)
        ingest(http, kind, {"name": f"r_{kind}", "ts": 150, field: 1, "step": 10, "slots": 5})
        for bad in ({}, {"step": 0}, {"slots": 0}, {"slots": -1}, {"step": "1"}, {"slots": 10**9}, {"x": 1}, []):
            assert http.post(f"/metrics/{number}/retention", json=bad).status_code == 400
        assert http.post(f"/metrics/{number}/retention", json={"slots": 6}).json()["step"] == 10


def test_deleting(http: httpx.Client) -> None:
    body = {"name": "gone", "tags": {"a": "b"}, "ts": 1}
    number = ingest(http, "gauge", {**body, "value": 1})["metric_id"]
    assert http.delete(f"/metrics/{number}").status_code == 204
    assert http.delete(f"/metrics/{number}").status_code == 404
    assert http.post("/metrics/lookup", json={"name": "gone", "tags": {"a": "b"}}).status_code == 404
    assert all(one["name"] != "gone" for one in http.get("/api/metrics").json())
    again = ingest(http, "counter", {**body, "ts": 2, "raw_value": 5, "step": 60})
    rows = http.get(f"/metrics/{again['metric_id']}/series").json()
    assert (rows["kind"], rows["step"], rows["rows"]) == ("counter", 60, [{"ts": 2, "value": 5.0}])


def test_first_writers_at_once(http: httpx.Client, served: Running) -> None:
    """However many make a metric at one time, there is one, and nobody's sample is lost."""
    barrier = threading.Barrier(8)

    def write(thread: int) -> list[int]:
        with served.client() as mine:
            barrier.wait()
            answers = [
                ingest(
                    mine, "gauge", {"name": f"race_{n}", "tags": {"b": "2", "a": "1"}, "ts": thread, "value": thread}
                )
                for n in range(5)
            ]
        return [answer["metric_id"] for answer in answers]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(write, range(8)))
    assert all(ids == found[0] for ids in found)
    for number in found[0]:
        assert [row["ts"] for row in http.get(f"/metrics/{number}/series").json()["rows"]] == list(range(8))


def test_first_writers_who_disagree(http: httpx.Client, served: Running) -> None:
    barrier = threading.Barrier(6)

    def write(thread: int) -> int:
        with served.client() as mine:
            barrier.wait()
            body = {"name": "quarrel", "ts": thread, "value": 1, "slots": 10 + thread % 2}
            return mine.post("/ingest/gauge", json=body).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(write, range(6)))
    slots = http.post("/metrics/lookup", json={"name": "quarrel"}).json()["slots"]
    assert statuses == [200 if 10 + thread % 2 == slots else 409 for thread in range(6)]


def test_dashboards(http: httpx.Client) -> None:
    document = {"title": "GPU-Übersicht 2", "panels": [{"sql": "SELECT 1", "größe": 1.5}], "slug": None}
    made = http.post("/dashboards", json={k: v for k, v in document.items() if v})
    assert made.status_code == 201
    assert made.json()["slug"] == "gpu-ubersicht-2"
    assert http.get("/dashboards/gpu-ubersicht-2").json() == made.json()
    assert http.post("/dashboards", json={"slug": "gpu-ubersicht-2", "panels": []}).status_code == 200
    assert http.get("/dashboards/gpu-ubersicht-2").json()["panels"] == []
    http.post("/dashboards", json={"slug": "a", "title": "First"})
    listed = http.get("/dashboards").json()
    assert [(one["slug"], one["title"]) for one in listed] == [("a", "First"), ("gpu-ubersicht-2", "gpu-ubersicht-2")]
    assert listed[0]["updated"].endswith("Z")
    for bad in ([], 5, {}, {"slug": ""}, {"slug": "../x"}, {"slug": "A"}, {"slug": 5}, {"title": "!!"}, {"title": 1},
                {"slug": "big", "x": "y" * 300_000}):  # fmt: skip
        assert http.post("/dashboards", json=bad).status_code == 400
    for body in (b"", b"{", b'{"slug": "n", "x": NaN}', b"[" * 100_000):
        assert http.post("/dashboards", content=body).status_code == 400
    for slug in ("a", "gpu-ubersicht-2"):
        assert http.delete(f"/dashboards/{slug}").status_code == 204
        assert http.get(f"/dashboards/{slug}").status_code == 404
        assert http.delete(f"/dashboards/{slug}").status_code == 404
    assert http.get("/dashboards").json() == []


@pytest.mark.parametrize(
    ("accept", "json_wanted"),
    [
        ("application/json", True), ("application/json, text/plain, */*", True), ("", False), ("*/*", False),
        ("text/plain", False), ("text/html,application/xhtml+xml,*/*;q=0.8", False), ("application/json;q=0", False),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", False),
        ("text/plain;q=0.5, application/json;q=0.9", True), ("text/plain, application/json;q=0.9", False),
        ("APPLICATION/JSON;q=x", False), (";;,,;q=", False),
    ],
)  # fmt: skip
def test_who_gets_json(http: httpx.Client, accept: str, json_wanted: bool) -> None:
    assert wants_json(accept) == json_wanted
    answer = http.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("application/json" if json_wanted else "text/plain")


def test_namespaces_share_nothing(http: httpx.Client) -> None:
    assert http.post("/api/namespaces", json={"name": "solar"}).status_code == 201
    ingest(http, "gauge", {"name": "outer", "ts": 1, "value": 1})
    for prefix, value in (("", 1.0), ("/ns/solar", 2.0)):
        body = {"name": "shared", "ts": 1, "value": value, "slots": 10 + int(value)}
        number = http.post(f"{prefix}/ingest/gauge", json=body).json()["metric_id"]
        assert http.get(f"{prefix}/metrics/{number}/series").json()["rows"] == [{"ts": 1, "value": value}]
    assert [one["name"] for one in http.get("/ns/solar/api/metrics").json()] == ["shared"]
    assert {one["name"] for one in http.get("/api/metrics").json()} >= {"shared", "outer"}
    http.post("/ns/solar/dashboards", json={"slug": "inner"})
    assert http.get("/dashboards/inner").status_code == 404


def test_the_description_shows_what_bodies_are(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    for path in ("/ingest/gauge", "/ingest/counter", "/dashboards", "/query", "/metrics/lookup"):
        assert "application/json" in paths[path]["post"]["requestBody"]["content"], path


def test_roles(tmp_path: Path) -> None:
    with running(tmp_path, auth=True) as server:
        store = server.state.slot.get()
        number = store.ring("m", "1s", 10).id
        requests: list[tuple[str, str, Any, str]] = [
            ("POST", "/ingest/gauge", {"name": "m", "ts": 1, "value": 1}, "write"),
            ("POST", "/ingest/counter", {"name": "c", "ts": 1, "raw_value": 1}, "write"),
            ("POST", "/query", {"sql": "SELECT 1 AS a"}, "read"),
            ("GET", "/api/metrics", None, "read"),
            ("GET", f"/metrics/{number}/series", None, "read"),
            ("POST", "/metrics/lookup", {"name": "m"}, "read"),
            ("POST", f"/metrics/{number}/retention", {"slots": 10}, "admin"),
            ("GET", "/dashboards", None, "read"),
            ("POST", "/dashboards", {"slug": "d"}, "write"),
            ("GET", "/dashboards/d", None, "read"),
            ("DELETE", "/dashboards/d", None, "admin"),
            ("DELETE", f"/metrics/{number}", None, "admin"),
        ]
        made = {role: tokens.create(store.engine, role) for role in tokens.ROLES}
        with server.client() as http:
            for method, path, body, needed in requests:
                assert http.request(method, path, json=body).status_code == 401
                for role in tokens.ROLES:
                    headers = {"Authorization": f"Bearer {made[role]}"}
                    if tokens.ROLES.index(role) < tokens.ROLES.index(needed):
                        assert http.request(method, path, json=body, headers=headers).status_code == 403, (path, role)
                headers = {"Authorization": f"Bearer {made[needed]}"}
                assert http.request(method, path, json=body, headers=headers).status_code < 300, path
