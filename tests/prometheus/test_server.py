"""What a client sees of Prometheus' API beyond the answers themselves: shapes, limits, compression, prefixes."""

from __future__ import annotations

import gzip
import json

import httpx

from kymograph.server.state import ServerState
from tests.prometheus.envelope import data, failure
from tests.prometheus.hosts import START, fill
from tests.server.running import Running, running


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

    def test_durations_are_reckoned_from_the_step_of_a_range(self, client: httpx.Client) -> None:
        asked = {
            "query": 'count_over_time(m{host="a"}[step() * 4])',
            "start": START + 60,
            "end": START + 90,
            "step": 15,
        }
        found = data(client.get("/api/v1/query_range", params=asked))["result"][0]
        assert [text for _, text in found["values"]] == ["4", "4", "4"]

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
