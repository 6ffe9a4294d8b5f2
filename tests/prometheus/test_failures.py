"""What Prometheus' API refuses, and in which envelope it says so."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from kymograph.server.envelope import speaks
from kymograph.server.limits import Limits
from tests.prometheus.envelope import data, failure
from tests.prometheus.hosts import START, fill
from tests.server.running import Running, eventually, running

SLOW = "quantile_over_time(0.5, many[12h])"


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
        assert eventually(lambda: pool.held == 0, 20.0)  # its time would be up after 30 s
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
        failure(client.get("/api/v1/nothing"), 404, "not_found")
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


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/api/v1/query", True),
        ("/api/v1/label/a/values", True),
        ("/api/v1/write", False),
        ("/api/v1/queryx", True),
        ("/api/v1/writes", True),
        ("/api/v1/import/prometheus", False),
        ("/api/v1/", True),
        ("/api/sql", False),
        ("/", False),
    ],
)
def test_which_paths_have_the_envelope(path: str, ours: bool) -> None:
    assert speaks(path) is ours
