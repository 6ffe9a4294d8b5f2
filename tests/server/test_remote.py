"""Remote write and remote read over HTTP: what is stored, what is refused, and what the answer says about it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kymograph.model.schema import SAMPLES_SCHEMA
from kymograph.options import StoreOptions
from kymograph.server.limits import Limits
from kymograph.store import tokens
from kymograph.wire import snappy
from tests.server.running import Running, running
from tests.unit.wire import messages
from tests.unit.wire.messages import write_v1, write_v2

NOW = 1_772_409_600_000
V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
COUNTS = [f"x-prometheus-remote-write-{kind}-written" for kind in ("samples", "histograms", "exemplars")]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


def post(server: Running, message: bytes, **headers: str) -> httpx.Response:
    sent = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    with server.client() as http:
        return http.post("/api/v1/write", content=snappy.pack(message), headers=sent)


def stored(server: Running, query: str, time: int = NOW) -> dict[str, float]:
    """Value by the label n of what a query gives."""
    found = server.state.slot.get().promql(query, time=time * 1000)
    return {labels.get("n", ""): value for labels, value in zip(found.labels, found.values.tolist(), strict=True)}


def one(name: str, n: str = "1", value: float = 1.0, time: int = NOW) -> tuple[dict[str, str], list[Any]]:
    return {"__name__": name, "n": n}, [(time, value)]


def counts(answer: httpx.Response) -> list[str | None]:
    return [answer.headers.get(name) for name in COUNTS]


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("application/x-protobuf", write_v1),
        ("application/x-protobuf; proto=prometheus.WriteRequest", write_v1),
        ("Application/X-Protobuf", write_v1),
        (V2, write_v2),
        ('application/x-protobuf; charset=x; proto="io.prometheus.write.v2.Request"', write_v2),
    ],
)
def test_samples_are_stored(server: Running, kind: str, write: Any) -> None:
    name = f"stored{abs(hash(kind))}"
    answer = post(server, write([one(name, "a", 1.5), one(name, "b", -2.0)]), content_type=kind)
    assert (answer.status_code, answer.content) == (204, b"")
    assert counts(answer) == ["2", "0", "0"]
    assert stored(server, name) == {"a": 1.5, "b": -2.0}


def test_headers_may_be_left_out(server: Running) -> None:
    body = snappy.pack(write_v1([one("bare")]))
    with server.client() as http:
        assert http.post("/api/v1/write", content=body).status_code == 204
    assert stored(server, "bare") == {"1": 1.0}


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"content_type": "application/json"}, "application/json"),
        ({"content_type": "application/x-protobuf; proto=prometheus.Other"}, "prometheus.Other"),
        ({"content_encoding": "gzip"}, "gzip"),
        ({"content_encoding": "zstd"}, "zstd"),
    ],
)
def test_unknown_types_and_encodings(server: Running, headers: dict[str, str], problem: str) -> None:
    answer = post(server, write_v1([one("refused")]), **headers)
    assert answer.status_code == 415
    assert problem in answer.json()["error"]["message"]
    assert stored(server, "refused") == {}


@pytest.mark.parametrize(
    "message",
    [
        write_v1([one("half"), ({"n": "x"}, [(NOW, 1.0)])]),
        write_v1([one("half")]) + b"\x0a",
        write_v1([one("half"), one("half", "2", time=2**62)]),
        write_v1([one("half"), ({"__name__": "m" * 300}, [(NOW, 1.0)])]),
        write_v1([one("half"), ({"__name__": "half", "l" * 300: "x"}, [(NOW, 1.0)])]),
        write_v1([one("half"), ({"__name__": "half", "n": "x" * 70_000}, [(NOW, 1.0)])]),
        write_v1([one("half")]) + messages.V1["WriteRequest"](metadata=[{"help": "of nothing"}]).SerializeToString()
        + messages.V1["WriteRequest"](metadata=[{"metric_family_name": "half", "help": "h" * 70_000}])
        .SerializeToString(),
    ],
)  # fmt: skip
def test_nothing_is_half_taken(server: Running, message: bytes) -> None:
    before = server.state.slot.get().series()
    answer = post(server, message)
    assert answer.status_code == 400
    assert counts(answer) == ["0", "0", "0"]
    assert "Traceback" not in answer.text
    assert server.state.slot.get().series() == before


@pytest.mark.parametrize("body", [b"", b"\x05abc", b"\xff" * 20, b"\x00\x00", b"garbage" * 30])
def test_what_is_no_snappy(server: Running, body: bytes) -> None:
    with server.client() as http:
        answer = http.post("/api/v1/write", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "malformed_message"


def test_an_empty_message(server: Running) -> None:
    answer = post(server, b"")
    assert (answer.status_code, counts(answer)) == (204, ["0", "0", "0"])


def test_native_histograms_are_refused(server: Running) -> None:
    request = messages.V2["Request"](symbols=["", "__name__", "native"])
    series = request.timeseries.add(labels_refs=[1, 2])
    series.samples.add(timestamp=NOW, value=1.0)
    request.timeseries.add(labels_refs=[1, 2]).histograms.add(count_int=3, timestamp=NOW)
    answer = post(server, request.SerializeToString(), content_type=V2)
    assert answer.status_code == 400
    assert "1 native histograms" in answer.json()["error"]["message"]
    assert counts(answer) == ["0", "0", "0"]
    assert stored(server, "native") == {}


def test_metadata_is_kept(server: Running) -> None:
    request = messages.V1["WriteRequest"]()
    request.metadata.add(type=1, metric_family_name="told_total", help="first", unit="bytes")
    assert post(server, request.SerializeToString()).status_code == 204
    assert post(server, write_v2([one("told_v2")], {"told_v2": (2, "second", "")}), content_type=V2).status_code == 204
    # one that knows no help leaves it
    request.metadata[0].help = ""
    assert post(server, request.SerializeToString()).status_code == 204
    told = {each["name"]: (each["kind"], each["help"], each["unit"]) for each in server.state.slot.get().metrics()}
    assert told["told_total"] == ("counter", "first", "bytes")
    assert told["told_v2"] == ("gauge", "second", "")


def test_late_and_repeated_samples(server: Running) -> None:
    for time, value in ((NOW, 1.0), (NOW - 60_000, 2.0), (NOW, 3.0), (-NOW, 4.0)):
        assert post(server, write_v1([one("late", value=value, time=time)])).status_code == 204
    assert stored(server, "late") == {"1": 3.0}
    assert stored(server, "late", NOW - 60_000) == {"1": 2.0}
    assert stored(server, "late", -NOW) == {"1": 4.0}


def test_bombs_are_refused_before_they_are_unpacked() -> None:
    with running(limits=Limits(write_bytes=100_000)) as server:
        answer = post(server, bytes(200_000))
        assert answer.status_code == 413
        assert "200000 bytes" in answer.json()["error"]["message"]
        with server.client() as http:
            lying = http.post("/api/v1/write", content=b"\xff\xff\xff\xff\x0f" + b"\x00a")
        assert lying.status_code == 400
        assert post(server, write_v1([one("fine")])).status_code == 204


def test_roles() -> None:
    with running(auth=True) as server:
        engine = server.state.slot.get().engine
        made = {role: tokens.create(engine, role, role) for role in ("read", "write", "admin")}
        body = snappy.pack(write_v1([one("role")]))
        query = snappy.pack(b"")
        for role, write, read in (("", 401, 401), ("read", 403, 200), ("write", 204, 200), ("admin", 204, 200)):
            headers = {"Authorization": f"Bearer {made[role]}"} if role else {}
            with server.client(headers=headers) as http:
                assert http.post("/api/v1/write", content=body).status_code == write, role
                assert http.post("/api/v1/read", content=query).status_code == read, role


def test_too_many_series_are_refused_whole() -> None:
    options = StoreOptions(sync="normal", max_series=3)
    with running(options=options) as server:
        assert post(server, write_v1([one("few", "1"), one("few", "2")])).status_code == 204
        answer = post(server, write_v1([one("few", "1", 5.0), one("many", "3"), one("many", "4")]))
        assert answer.status_code == 422
        assert "metric many" in answer.json()["error"]["message"]
        assert stored(server, "few") == {"1": 1.0, "2": 1.0}
        # what is known goes on
        assert post(server, write_v1([one("few", "1", 6.0)])).status_code == 204
        assert stored(server, "few") == {"1": 6.0, "2": 1.0}


def test_duplicates_are_refused_where_the_table_says_so() -> None:
    """Also when the server stores several requests together: only the one with the duplicate fails."""
    with running() as server:
        server.state.slot.get().engine.create_table(dataclasses.replace(SAMPLES_SCHEMA, duplicates="reject"))
        assert post(server, write_v1([one("once", "0")])).status_code == 204
        statuses: dict[int, int] = {}

        def send(number: int) -> None:
            rows = [one("once", "0")] if number % 3 == 0 else []
            statuses[number] = post(server, write_v1([one("once", f"n{number}"), *rows])).status_code

        threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == {number: 409 if number % 3 == 0 else 204 for number in range(1, 25)}
        assert stored(server, "once").keys() == {"0"} | {f"n{number}" for number in range(1, 25) if number % 3}


def test_namespaces_are_written_and_read_alone(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as http:
        assert http.post("/api/namespaces", json={"name": "solar"}).status_code == 201
        body = snappy.pack(write_v1([one("roof", value=3.0)]))
        assert http.post("/ns/solar/api/v1/write", content=body).status_code == 204
        assert http.post("/ns/nobody/api/v1/write", content=body).status_code == 404
        assert stored(server, "roof") == {}
        query = {"start_timestamp_ms": NOW, "end_timestamp_ms": NOW, "matchers": [matcher("__name__", "roof")]}
        request = snappy.pack(messages.V1["ReadRequest"](queries=[query]).SerializeToString())
        assert results(http.post("/ns/solar/api/v1/read", content=request)) == [{"__name__=roof,n=1": [(NOW, 3.0)]}]
        assert results(http.post("/api/v1/read", content=request)) == [{}]
        counted = {route for _, route, _ in server.state.meter.requests()}
        assert "/api/v1/write" in counted


def test_many_senders_at_one_time(server: Running) -> None:
    """Whatever is stored together: each sender's samples are there, under its own series."""

    def send(number: int) -> None:
        for scrape in range(5):
            rows = [one("crowd", f"{number}-{i}", float(number * scrape + i), NOW + scrape) for i in range(50)]
            assert post(server, write_v1(rows)).status_code == 204

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = stored(server, "crowd", NOW + 4)
    assert found == {f"{number}-{i}": float(number * 4 + i) for number in range(6) for i in range(50)}


def read(server: Running, *queries: dict[str, Any], accept: list[int] | None = None) -> httpx.Response:
    request = messages.V1["ReadRequest"](queries=list(queries), accepted_response_types=accept or [])
    with server.client() as http:
        return http.post("/api/v1/read", content=snappy.pack(request.SerializeToString()))


def results(answer: httpx.Response) -> list[dict[str, list[tuple[int, float]]]]:
    """Per query: series as text, and its samples."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert answer.headers["content-encoding"] == "snappy"
    response = messages.V1["ReadResponse"].FromString(snappy.unpack(answer.content))
    return [
        {
            ",".join(f"{label.name}={label.value}" for label in series.labels): [
                (sample.timestamp, sample.value) for sample in series.samples
            ]
            for series in result.timeseries
        }
        for result in response.results
    ]


def matcher(name: str, value: str, kind: int = 0) -> dict[str, Any]:
    return {"type": kind, "name": name, "value": value}


def test_samples_are_read(server: Running) -> None:
    rows = [({"__name__": "back", "n": n}, [(NOW + i, i / 2) for i in range(-3, 4)]) for n in ("1", "2", "3")]
    assert post(server, write_v1(rows)).status_code == 204
    assert post(server, write_v1([one("back", "4", -0.0, -NOW), one("back", "4", 7.0, 0)])).status_code == 204
    name = matcher("__name__", "back")
    span = {"start_timestamp_ms": NOW - 1, "end_timestamp_ms": NOW + 2}
    both, some, none, old = results(
        read(
            server,
            {**span, "matchers": [name]},
            {**span, "matchers": [name, matcher("n", "1|2", 2), matcher("n", "2", 1)]},
            {**span, "matchers": [name, matcher("n", ".+", 3)]},
            {"start_timestamp_ms": -(2**63), "end_timestamp_ms": 2**63 - 1, "matchers": [name, matcher("n", "4")]},
        )
    )
    wanted = [(NOW + i, i / 2) for i in range(-1, 3)]  # both ends belong to it
    assert both == {f"__name__=back,n={n}": wanted for n in ("1", "2", "3")}
    assert some == {"__name__=back,n=1": wanted}
    assert none == {}
    assert old == {"__name__=back,n=4": [(-NOW, -0.0), (0, 7.0)]}


def test_microseconds_are_read_as_milliseconds(server: Running) -> None:
    store = server.state.slot.get()
    for micros, value in ((1_000_999, 1.0), (1_001_000, 2.0), (1_001_999, 3.0), (1_002_000, 4.0)):
        store.gauge("fine", value, time=micros)
    query = {"start_timestamp_ms": 1_000, "end_timestamp_ms": 1_001, "matchers": [matcher("__name__", "fine")]}
    # of two within a millisecond the later one
    assert results(read(server, query)) == [{"__name__=fine": [(1_000, 1.0), (1_001, 3.0)]}]


@pytest.mark.parametrize(
    ("queries", "accept", "problem"),
    [
        ([{"matchers": []}], [], "no matcher"),
        ([{"matchers": [matcher("n", "(", 2)]}], [], "matcher of n"),
        ([{"matchers": [matcher("n", "a", 9)]}], [], "type 9"),
        ([{"matchers": [matcher("n", "a")]}], [1], "SAMPLES"),
        ([{"matchers": [matcher("n", "a")]}] * 101, [], "101 queries"),
    ],
)
def test_reads_that_are_refused(
    server: Running, queries: list[dict[str, Any]], accept: list[int], problem: str
) -> None:
    answer = read(server, *queries, accept=accept)
    assert answer.status_code == 400
    assert problem in answer.text


def test_a_client_that_prefers_chunks_gets_samples(server: Running) -> None:
    assert results(read(server, {"matchers": [matcher("n", "nothing")]}, accept=[1, 0])) == [{}]


def test_reads_are_bounded() -> None:
    with running(limits=Limits(prom_samples=1000)) as server:
        assert post(server, write_v1([({"__name__": "big"}, [(NOW + i, 1.0) for i in range(1001)])])).status_code == 204
        query = {"start_timestamp_ms": 0, "end_timestamp_ms": 2 * NOW, "matchers": [matcher("__name__", "big")]}
        assert read(server, query).status_code == 422


@pytest.mark.parametrize("body", [b"", b"\xff" * 30, snappy.pack(b"\x0a\x05abc"), snappy.pack(b"\xff" * 9)])
def test_broken_reads(server: Running, body: bytes) -> None:
    with server.client() as http:
        answer = http.post("/api/v1/read", content=body)
    assert answer.status_code == 400
