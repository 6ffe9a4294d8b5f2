"""What a client sees of Prometheus' API beyond the answers themselves: shapes of failures, compression, limits, roles."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import kymograph
from kymograph.server.envelope import speaks
from kymograph.server.limits import Limits
from kymograph.server.routes.prometheus.escaping import unescaped
from kymograph.server.routes.prometheus.numerals import numbers, seconds
from kymograph.server.routes.prometheus.samples import metrics_of
from kymograph.server.state import ServerState
from kymograph.store import tokens
from tests.server.running import Running, eventually, running

START = 1_767_225_600
COUNT = 4320
SLOW = "quantile_over_time(0.5, many[12h])"


def fill(state: ServerState) -> None:
    """`m` of three hosts every 15 s for 10 minutes, a table, odd names."""
    store = state.slot.get()
    ids = store.series_ids([("m", {"host": host}) for host in "abc"])
    times = (START + 15 * np.arange(40)) * 1_000_000
    for place, number in enumerate(ids):
        store.append_samples(np.full(40, number), times, np.arange(40) + 100.0 * place)
    store.gauge("http.requests", 1.5, {"service.name": "é", "b": 'quo"te\\'}, time=START * 10**6 + 1)
    store.write("room", {"time": [START * 10**6], "name": ["cellar"], "temp": [12.5]})


def fill_many(state: ServerState) -> None:
    """The same, and `many` of 200 series every 20 s for a day."""
    fill(state)
    store = state.slot.get()
    ids = store.series_ids([("many", {"n": str(n)}) for n in range(200)])
    times = (START + 20 * np.arange(COUNT)) * 1_000_000
    values = np.random.default_rng(1).random(COUNT)
    store.append_samples(np.repeat(ids, COUNT), np.tile(times, 200), np.tile(values, 200))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("server") / "store", prepare=fill_many) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


def data(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["status"] == "success"
    return body["data"]


def failure(answer: httpx.Response, status: int, kind: str) -> str:
    body = answer.json()
    assert (answer.status_code, body["status"], body["errorType"]) == (status, "error", kind), answer.text
    assert body.keys() == {"status", "errorType", "error"}
    return str(body["error"])


class TestAnswers:
    def test_vector(self, client: httpx.Client) -> None:
        found = data(client.get("/api/v1/query", params={"query": "m", "time": START + 31.5}))
        assert found["resultType"] == "vector"
        assert sorted(found["result"], key=str) == [
            {"metric": {"__name__": "m", "host": host}, "value": [START + 31.5, str(2 + 100 * place)]}
            for place, host in enumerate("abc")
        ]

    def test_matrix_of_stored_samples(self, client: httpx.Client) -> None:
        found = data(client.get("/api/v1/query", params={"query": 'm{host="a"}[1m]', "time": START + 60}))
        assert found["result"] == [
            {
                "metric": {"__name__": "m", "host": "a"},
                "values": [[START + 15, "1"], [START + 30, "2"], [START + 45, "3"], [START + 60, "4"]],
            }
        ]

    def test_microseconds_are_shown(self, client: httpx.Client) -> None:
        found = client.get("/api/v1/query", params={"query": '{"http.requests"}[1m]', "time": START + 1})
        assert f"[{START}.000001," in found.text
        assert data(found)["result"][0]["metric"] == {"__name__": "http.requests", "service.name": "é", "b": 'quo"te\\'}

    def test_fields_of_tables(self, client: httpx.Client) -> None:
        found = data(client.get("/api/v1/query", params={"query": "room_temp", "time": START}))
        assert found["result"] == [{"metric": {"__name__": "room_temp", "name": "cellar"}, "value": [START, "12.5"]}]
        assert data(client.get("/api/v1/label/name/values")) == ["cellar"]

    def test_the_same_as_in_python(self, server: Running, client: httpx.Client) -> None:
        query = "sum by (n) (rate(many[10m]))"
        asked = {"query": query, "start": START + 600, "end": START + 7200, "step": 33.3}
        found = data(client.get("/api/v1/query_range", params=asked))["result"]
        result = server.state.slot.get().promql_range(
            query, start=(START + 600) * 10**6, end=(START + 7200) * 10**6, step=33_300_000
        )
        assert [one["metric"] for one in found] == result.labels
        for place, one in enumerate(found):
            times, values = result.samples_of(place)
            assert [round(time * 1e6) for time, _ in one["values"]] == times.tolist()
            assert [float(text) for _, text in one["values"]] == values.tolist()

    def test_limits(self, client: httpx.Client) -> None:
        for path, given in (
            ("query", {"query": "m", "time": START}),
            ("series", {"match[]": "m"}),
            ("labels", {}),
            ("label/n/values", {}),
        ):
            answer = client.get(f"/api/v1/{path}", params={**given, "limit": 2})
            found = data(answer)
            assert len(found["result"] if path == "query" else found) == 2
            assert answer.json()["warnings"] == ["results truncated due to limit"]
            assert "warnings" not in client.get(f"/api/v1/{path}", params={**given, "limit": 500}).json()

    def test_annotations(self, client: httpx.Client) -> None:
        body = client.get("/api/v1/query", params={"query": "quantile(2, m) + rate(m[1m])", "time": START + 60}).json()
        assert "quantile value should be between 0 and 1" in body["warnings"][0]
        assert "might not be a counter" in body["infos"][0]

    def test_stats(self, client: httpx.Client) -> None:
        asked = {"query": "m[1m]", "time": START + 60, "stats": "all"}
        stats = data(client.get("/api/v1/query", params=asked))["stats"]
        assert stats["samples"]["totalQueryableSamples"] == 12
        assert all(seconds >= 0 for seconds in stats["timings"].values())
        assert "stats" not in data(client.get("/api/v1/query", params={"query": "m"}))

    def test_lookback(self, client: httpx.Client) -> None:
        asked = {"query": "m", "time": START + 700}
        assert len(data(client.get("/api/v1/query", params=asked))["result"]) == 3
        assert data(client.get("/api/v1/query", params={**asked, "lookback_delta": "1m"}))["result"] == []

    def test_gzip(self, server: Running) -> None:
        asked = {"query": "many", "time": START + 60}
        with (
            server.client(headers={"Accept-Encoding": "gzip"}) as client,
            client.stream("GET", "/api/v1/query", params=asked) as answer,
        ):
            assert answer.headers["content-encoding"] == "gzip"
            body = gzip.decompress(b"".join(answer.iter_raw()))
        for refused in ("identity", "gzip;q=0", ""):
            with server.client(headers={"Accept-Encoding": refused}) as client:
                plain = client.get("/api/v1/query", params=asked)
                assert "content-encoding" not in plain.headers
                assert plain.json() == json.loads(body)

    def test_forms_come_before_the_url(self, client: httpx.Client) -> None:
        found = client.post("/api/v1/query", params={"query": "2"}, data={"query": "1"})
        assert data(found)["result"][1] == "1"
        long = "m + 0" + " + 0" * 10_000
        assert "nested too deeply" in failure(client.post("/api/v1/query", data={"query": long}), 400, "bad_data")

    def test_other_bodies_are_not_read(self, client: httpx.Client) -> None:
        found = client.post(
            "/api/v1/query", params={"query": "2"}, content=b"\xff\xfe", headers={"content-type": "x/y"}
        )
        assert data(found)["result"][1] == "2"

    def test_escaped_names(self, client: httpx.Client) -> None:
        assert data(client.get("/api/v1/label/U__service_2e_name/values")) == ["é"]
        assert data(client.get("/api/v1/label/service.name/values")) == ["é"]

    def test_buildinfo_is_that_of_plain_prometheus(self, client: httpx.Client) -> None:
        found = data(client.get("/api/v1/status/buildinfo"))
        major, minor, _ = found["version"].split(".")
        assert (int(major), int(minor)) >= (2, 24)
        assert "features" not in found

    def test_status(self, client: httpx.Client) -> None:
        assert data(client.get("/api/v1/status/runtimeinfo"))["GOMAXPROCS"] >= 1
        assert data(client.get("/api/v1/status/flags"))["limits.prom-series"] == "50000"
        assert "scrape_configs" in data(client.get("/api/v1/status/config"))["yaml"]
        numbers = data(client.get("/api/v1/status/tsdb", params={"limit": 1}))
        assert numbers["headStats"]["numSeries"] == 204
        assert numbers["seriesCountByMetricName"] == [{"name": "many", "value": 200}]
        assert data(client.get("/api/v1/targets")) == {
            "activeTargets": [],
            "droppedTargets": [],
            "droppedTargetCounts": {},
        }


class TestFailures:
    def test_parse_errors(self, client: httpx.Client) -> None:
        told = failure(client.get("/api/v1/query", params={"query": "sum("}), 400, "bad_data")
        assert told == 'invalid parameter "query": 1:5: parse error: unclosed left parenthesis'

    def test_execution(self, client: httpx.Client) -> None:
        told = failure(client.get("/api/v1/query", params={"query": "m * on() m", "time": START}), 422, "execution")
        assert "many-to-many matching not allowed" in told

    def test_too_many_series(self) -> None:
        with running(prepare=fill, limits=Limits(prom_series=2)) as server, server.client() as client:
            told = failure(client.get("/api/v1/query", params={"query": "m", "time": START}), 422, "execution")
            assert "3 series, the limit is 2" in told

    def test_timeout(self, client: httpx.Client) -> None:
        asked = {"query": SLOW, "start": START, "end": START + 86_000, "step": 8, "timeout": "100ms"}
        failure(client.get("/api/v1/query_range", params=asked), 503, "timeout")

    def test_a_client_that_leaves_ends_its_query(self, server: Running, client: httpx.Client) -> None:
        pool = server.state.heavy
        path = f"/api/v1/query_range?query={SLOW.replace(' ', '%20')}&start={START}&end={START + 86_000}&step=8"
        with socket.create_connection(("127.0.0.1", server.port)) as door:
            door.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert eventually(lambda: pool.held == 1)
            # it would run for much longer than this
            assert not eventually(lambda: pool.held == 0, 1.0)
        assert eventually(lambda: pool.held == 0, 5.0)
        data(client.get("/api/v1/query", params={"query": "1"}))

    @pytest.mark.parametrize("path", ["query", "query_range", "format_query", "parse_query", "series"])
    @pytest.mark.parametrize("length", [300, 600, 20_000])
    def test_long_chains(self, client: httpx.Client, path: str, length: int) -> None:
        """However long a query is, it is answered or refused."""
        chain = " + ".join(["m"] * length)
        form = {"query": chain, "match[]": chain, "start": START, "end": START + 60, "step": 60, "time": START}
        answer = client.post(f"/api/v1/{path}", data=form)
        assert answer.status_code in (200, 400, 422), answer.text[:300]
        assert answer.json()["status"] == ("success" if answer.status_code == 200 else "error")

    def test_no_such_path(self, client: httpx.Client) -> None:
        assert client.get("/api/v1/nothing").json()["error"]["code"] == "not_found"
        failure(client.delete("/api/v1/query"), 405, "bad_data")

    def test_too_large(self) -> None:
        with running(limits=Limits(body_bytes=1000)) as server, server.client() as client:
            told = failure(client.post("/api/v1/query", data={"query": "1" * 2000}), 413, "bad_data")
            assert "exceeds 1000 bytes" in told
            failure(client.get("/api/v1/query", params={"query": "1" * 9000}), 414, "bad_data")

    def test_hosts(self, client: httpx.Client) -> None:
        failure(client.get("/api/v1/query", headers={"Host": "evil.example"}), 403, "forbidden")
        failure(client.get("/api/v1/query", headers={"Origin": "http://evil.example"}), 403, "forbidden")

    def test_the_store_is_not_open(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("no folder")
        with running(tmp_path / "file") as server, server.client() as client:
            for path in ("query?query=1", "labels", "series?match[]=m", "metadata", "rules", "status/tsdb"):
                assert "cannot be used" in failure(client.get(f"/api/v1/{path}"), 503, "unavailable")

    @pytest.mark.parametrize(
        "path", ["query", "query_range", "series", "labels", "label/x/values", "metadata", "rules"]
    )
    @pytest.mark.parametrize(
        "rest",
        [
            "query=%00&time=%00&start=%ff&end=%f0%28&step=%00&match[]=%00",
            "query=1&time=1e400&start=1e400&end=-1e400&step=1e400&limit=1e9",
            "query=1&time=NaN&start=NaN&end=Inf&step=NaN&limit=NaN&timeout=NaN",
            "query=m&time=-1&start=-1e12&end=1e12&step=1e12&timeout=-1&limit=-1",
            "query=" + "(" * 3000 + "&match[]=" + "{" * 1000,
            "query=m%5B9999999999y%5D&time=9223372036854775807&match[]=" + "%F0%9F%92%A9",
            "query=m{a=~'(a%2B)%2B$'}&start=0&end=1&step=1&match[]=m{a=~'('}",
            "=&&&;;query&query=&limit=&match[]=&type=%00&group_limit=x",
            "&".join(["match[]=m"] * 900),
            "limit=99999999999999999999&group_next_token=-1&group_limit=1",
        ],
    )
    def test_garbage(self, client: httpx.Client, path: str, rest: str) -> None:
        """Every one gets an answer in the envelope, never a 500."""
        for answer in (
            client.get(f"/api/v1/{path}?{rest}"),
            client.post(f"/api/v1/{path}", content=rest, headers={"content-type": "application/x-www-form-urlencoded"}),
        ):
            assert answer.status_code < 500, answer.text
            assert answer.json()["status"] == ("success" if answer.status_code == 200 else "error")


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Running, dict[str, str]]]:
    """A server that asks for tokens, and a token of each role."""
    made: dict[str, str] = {}

    def prepare(state: ServerState) -> None:
        fill(state)
        made.update({role: tokens.create(state.slot.get().engine, role) for role in tokens.ROLES})

    with running(auth=True, prepare=prepare) as server:
        yield server, made


class TestRoles:
    def asked(self, guarded: tuple[Running, dict[str, str]], role: str, method: str, path: str) -> httpx.Response:
        server, made = guarded
        headers = {"Authorization": f"Bearer {made[role]}"} if role else {}
        with server.client(headers=headers) as client:
            return client.request(method, path)

    def test_nobody(self, guarded: tuple[Running, dict[str, str]]) -> None:
        for method, path in (("GET", "query?query=1"), ("POST", "query?query=1"), ("GET", "status/buildinfo")):
            failure(self.asked(guarded, "", method, f"/api/v1/{path}"), 401, "unauthorized")

    def test_readers_may_ask_by_form(self, guarded: tuple[Running, dict[str, str]]) -> None:
        for path in ("query?query=1", "query_range?query=1&start=0&end=1&step=1", "series?match[]=m", "labels"):
            data(self.asked(guarded, "read", "POST", f"/api/v1/{path}"))
            data(self.asked(guarded, "read", "GET", f"/api/v1/{path}"))

    def test_only_admins_administrate(self, guarded: tuple[Running, dict[str, str]]) -> None:
        for path in ("delete_series?match[]=nothing", "clean_tombstones"):
            for role in ("read", "write"):
                failure(self.asked(guarded, role, "POST", f"/api/v1/admin/tsdb/{path}"), 403, "forbidden")
            assert self.asked(guarded, "admin", "POST", f"/api/v1/admin/tsdb/{path}").status_code == 204

    def test_basic_authentication(self, guarded: tuple[Running, dict[str, str]]) -> None:
        server, made = guarded
        with server.client(auth=("anyone", made["read"])) as client:
            data(client.get("/api/v1/query", params={"query": "1"}))


class TestAdministration:
    def test_delete_series(self) -> None:
        with running(prepare=fill) as server, server.client() as client:
            path = "/api/v1/admin/tsdb/delete_series"
            asked = {"match[]": ['m{host="a"}', 'm{host="b"}'], "start": START + 60, "end": START + 120}
            assert client.post(path, params=asked).status_code == 204
            left = data(client.get("/api/v1/query", params={"query": "count_over_time(m[1h])", "time": START + 700}))
            assert {one["metric"]["host"]: one["value"][1] for one in left["result"]} == {
                "a": "35",
                "b": "35",
                "c": "40",
            }
            assert client.post(path, data={"match[]": "m"}).status_code == 204
            assert data(client.get("/api/v1/query", params={"query": "m[1h]", "time": START + 700}))["result"] == []
            assert "no match[] parameter" in failure(client.post(path), 400, "bad_data")
            assert "the table room" in failure(client.post(path, data={"match[]": "room_temp"}), 400, "bad_data")
            failure(client.post(path, data={"match[]": "{}"}), 400, "bad_data")

    def test_snapshot(self, tmp_path: Path) -> None:
        with running(tmp_path / "store", prepare=fill_many) as server, server.client() as client:
            inner = server.state.slot.get().create_namespace("solar")
            inner.gauge("watts", 5.0, time=START * 10**6)
            server.state.slot.get().seal()
            server.state.slot.get().gauge("late", 1.0, time=START * 10**6)
            name = data(client.post("/api/v1/admin/tsdb/snapshot"))["name"]
            server.state.slot.get().gauge("later", 1.0, time=START * 10**6)
            copy = tmp_path / "store" / "snapshots" / name
            with kymograph.connect(copy) as store:
                assert not store.check().damages
                assert [about["name"] for about in store.metrics()] == ["http.requests", "late", "m", "many"]
                assert store.promql(
                    "sum(count_over_time(many[2d]))", time=(START + 90_000) * 10**6
                ).values.tolist() == [200 * COUNT]
                assert store.scan("room").num_rows == 1
                assert store.namespace("solar").promql("watts", time=START * 10**6).values.tolist() == [5.0]
                # the copy is its own: what is deleted there stays here
                store.drop_table("room")
            assert server.state.slot.get().scan("room").num_rows == 1

    def test_a_store_in_memory_has_no_folder_to_copy(self) -> None:
        with running() as server, server.client() as client:
            assert "not kept in files" in failure(client.post("/api/v1/admin/tsdb/snapshot"), 400, "bad_data")


class TestPrefixes:
    def test_namespaces(self) -> None:
        def prepare(state: ServerState) -> None:
            state.slot.get().create_namespace("solar").gauge("watts", 5.0, time=START * 10**6)
            state.slot.get().gauge("watts", 7.0, time=START * 10**6)

        with running(prepare=prepare) as server, server.client() as client:
            for place, value in (("", "7"), ("/ns/solar", "5")):
                found = data(client.get(f"{place}/api/v1/query", params={"query": "watts", "time": START}))
                assert [one["value"][1] for one in found["result"]] == [value]
            failure(client.get("/ns/solar/api/v1/query", params={"query": "("}), 400, "bad_data")
            failure(client.get("/ns/lunar/api/v1/query", params={"query": "1"}), 404, "not_found")

    def test_a_reverse_proxy_s_prefix(self) -> None:
        with running(prepare=fill, prefix="/a/kymo") as server, server.client() as client:
            for place in ("/a/kymo", ""):
                data(client.get(f"{place}/api/v1/query", params={"query": "m"}))
                data(client.post(f"{place}/api/v1/query", data={"query": "m"}))
                failure(client.get(f"{place}/api/v1/query", params={"query": "("}), 400, "bad_data")
                assert client.get(f"{place}/").status_code == 200
                assert client.get(f"{place}/ui/page.js").status_code == 200
            assert client.get("/a/kymo").headers["location"] == "/a/kymo/"
            assert client.get("/a/kymograph/api/v1/query").status_code == 404
            assert 'href="/' not in client.get("/a/kymo/").text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1e15, "1000000000000000"),
        (123_456_789_012_345_678.0, "123456789012345680"),
        (1e21, "1e+21"),
        (9.99e20, "999000000000000000000"),
        (1e-6, "0.000001"),
        (9.9e-7, "9.9e-07"),
        (5e-324, "5e-324"),
        (0.1 + 0.2, "0.30000000000000004"),
        (float("nan"), "NaN"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert numbers(np.array([value, 1.5])).to_pylist() == [text, "1.5"]


def test_numbers_read_back() -> None:
    values = np.random.default_rng(3).integers(0, 2**64, 20_000, np.uint64).view(np.float64)
    values = values[np.isfinite(values)]
    assert [float(text) for text in numbers(values).to_pylist()] == values.tolist()


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0"), (1_500_000, "1.500"), (-1_500_000, "-1.500"), (-1, "-0.000001"), (10**15 + 20_000, "1000000000.020")],
)
def test_seconds(micros: int, text: str) -> None:
    assert seconds(np.array([micros])).to_pylist() == [text]


def test_label_sets_that_look_like_json() -> None:
    """Label sets are told apart whatever their texts."""
    labels = [
        {"a": 'x"},{"b', "c": '"},{"'},
        {"},{": "}", '"': "{"},
        {"a": "\\", "b": '\\"'},
        {"a": '\\"},{\\"'},
        {"a\ud800": "\udc80"},
    ]
    texts = metrics_of([tuple(one.items()) for one in labels])
    assert [json.loads(text) for text in texts] == [*labels[:4], {"a\ufffd": "\ufffd"}]
    assert metrics_of([(), (("a", "b"),)]) == ["{}", '{"a":"b"}']


def test_large_answers_are_the_same_in_pieces(server: Running) -> None:
    asked = {"query": "many[8h]", "time": START + 86_400}
    with server.client() as client:
        plain = client.get("/api/v1/query", params=asked, headers={"Accept-Encoding": "identity"})
        packed = client.get("/api/v1/query", params=asked, headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert len(plain.content) > 8_000_000
        assert plain.content == packed.content
        found = data(plain)["result"]
        assert len(found) == 200
        assert {len(one["values"]) for one in found} == {8 * 180 - 1}
        limited = client.get("/api/v1/query", params={**asked, "limit": 150}).json()
        assert limited["data"]["result"] == found[:150]
        assert limited["warnings"] == ["results truncated due to limit"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("job", "job"),
        ("U__a_2e_b", "a.b"),
        ("U__a__b", "a_b"),
        ("U___1F600_", "😀"),
        ("U__a_2e", "U__a_2e"),
        ("U___d800_", "U___d800_"),
        ("U___110000_", "U___110000_"),
    ],
)
def test_unescaped(name: str, plain: str) -> None:
    assert unescaped(name) == plain


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/api/v1/query", True),
        ("/api/v1/label/a/values", True),
        ("/api/v1/write", False),
        ("/api/v1/queryx", False),
        ("/api/sql", False),
        ("/", False),
    ],
)
def test_which_paths_have_the_envelope(path: str, ours: bool) -> None:
    assert speaks(path) is ours
