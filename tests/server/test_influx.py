"""Influx lines over HTTP: what is stored, what is refused and how that is told."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kymograph.server.limits import Limits
from kymograph.store import tokens
from tests.server.running import Running, running

T = 1_700_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


def rows(server: Running, query: str) -> list[dict[str, Any]]:
    with server.client() as http:
        answer = http.post("/api/sql", json={"sql": query})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["rows"])


@pytest.mark.parametrize("path", ["/write?db=x&u=a&p=b", "/api/v2/write?org=o&bucket=b", "/api/v1/influx/write"])
@pytest.mark.parametrize("coding", ["", "gzip", "deflate", "identity"])
def test_lines_become_rows_and_samples(server: Running, path: str, coding: str) -> None:
    name = f"m{abs(hash((path, coding)))}"
    lines = f"{name},host=a cpu=1.5,n=2i {T}000000000\n{name}_v,host=a value=7 {T}000000001\n".encode()
    body = {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding, lambda data: data)(lines)
    with server.client() as http:
        answer = http.post(path, content=body, headers={"Content-Encoding": coding} if coding else {})
    assert (answer.status_code, answer.content) == (204, b"")
    assert rows(server, f'SELECT * FROM "{name}"') == [
        {"time": "2023-11-14T22:13:20.000000Z", "host": "a", "cpu": 1.5, "n": 2}
    ]
    assert [row["value"] for row in rows(server, f'SELECT value FROM metric."{name}_v"')] == [7.0]
    assert {"name": f"{name}_v", "kind": "gauge"}.items() <= next(
        each for each in server.state.slot.get().metrics() if each["name"] == f"{name}_v"
    ).items()


def test_broken_lines_are_named_in_every_client_s_words(server: Running) -> None:
    with server.client() as http:
        answer = http.post("/write?precision=s", content=f"part v=1,w=1 {T}\nbroken\npart v=2,w=2 {T + 1}\npart v= 5\n")
    assert answer.status_code == 400
    told = answer.json()
    assert told["error"] == told["message"]
    assert told["code"] == "invalid"
    assert "partial write: line 2 has no fields; line 4 " in told["error"]
    assert told["error"].endswith("dropped=2")
    assert told["data"][0] == {"line_number": 2, "error_message": "has no fields", "original_line": "broken"}
    assert len(rows(server, "SELECT * FROM part")) == 2


def test_a_body_of_broken_lines_is_told_briefly(server: Running) -> None:
    with server.client() as http:
        answer = http.post("/write", content="broken\n" * 100_000)
    assert answer.status_code == 400
    assert "dropped=100000" in answer.json()["error"]
    assert len(answer.content) < 50_000


def test_nothing_is_nothing(server: Running) -> None:
    with server.client() as http:
        assert http.post("/write", content=b"").status_code == 204
        assert http.post("/write", content=b"\n\n# nothing\n").status_code == 204


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"Content-Encoding": "br"}, b"m v=1", 415, "unsupported_encoding"),
        ({"Content-Encoding": "gzip"}, b"m v=1", 400, "invalid_request"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"m v=1" * 1000, mtime=0)[:-20], 400, "incomplete_body"),
    ],
)
def test_bodies_that_cannot_be_unpacked(
    server: Running, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    with server.client() as http:
        answer = http.post("/write", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_precision_that_is_none(server: Running) -> None:
    with server.client() as http:
        for query in ("precision=fortnight", "&".join(f"a{n}=1" for n in range(50)), "precision=%ff"):
            answer = http.post(f"/write?{query}", content=b"m v=1")
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_input")


def test_bodies_are_bounded_also_when_unpacked() -> None:
    with running(limits=Limits(write_bytes=100_000, held_bytes=150_000)) as server, server.client() as http:
        bomb = gzip.compress(b"m v=1\n" * 100_000)
        assert http.post("/write", content=bomb, headers={"Content-Encoding": "gzip"}).status_code == 413
        assert http.post("/write", content=b"m v=1\n" * 20_000).status_code == 413
        for _ in range(5):  # what was held is let go of again
            assert http.post("/write", content=b"m v=1\n" * 15_000).status_code == 204


def test_too_much_at_one_time_is_refused_for_now() -> None:
    with running(limits=Limits(write_bytes=100_000, held_bytes=50_000)) as server, server.client() as http:
        answer = http.post("/write", content=b"m v=1\n" * 15_000)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
        assert answer.headers["retry-after"]
        assert http.post("/write", content=b"m v=1\n" * 100).status_code == 204


def test_writes_at_one_time_are_answered_each_by_itself(server: Running) -> None:
    """Bodies that wait are stored together; what is wrong with one is told to that one, by its own line numbers."""

    def write(number: int) -> tuple[int, bytes]:
        broken = number % 3 == 0
        lines = [f"many,n={number} value={n},other=1 {T + n}" for n in range(20)]
        if broken:
            lines[7] = 'many,n=1 value="open' if number % 2 else "broken"
        coding = {"Content-Encoding": "gzip"} if number % 5 == 0 else {}
        body = "\n".join(lines).encode()
        with server.client() as http:
            answer = http.post(
                f"/write?precision={'s' if number % 4 else 'ms'}",
                content=gzip.compress(body) if coding else body,
                headers=coding,
            )
        if broken:
            assert [each["line_number"] for each in answer.json()["data"]] == [8], answer.text
        return answer.status_code, answer.content

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(write, range(30)))
    assert [status for status, _ in answers] == [400 if number % 3 == 0 else 204 for number in range(30)]
    counts = rows(server, "SELECT count(*) AS c FROM many")
    assert counts == [{"c": 20 * 20 + 10 * 19}]


def test_tags_that_come_later(server: Running) -> None:
    def post(lines: str) -> Any:
        with server.client() as http:
            return http.post("/write?precision=s", content=lines)

    def ask(path: str, **params: Any) -> Any:
        with server.client() as http:
            return http.get(path, params=params).json()

    assert post(f"late,host=a user=1,idle=9 {T}\n").status_code == 204
    asked = {"query": "late_user", "time": T + 1}
    assert len(ask("/api/v1/query", **asked)["data"]["result"]) == 1
    answer = post(f"late,host=a,region=eu user=2,idle=8 {T}\nlate,host=a,user=x idle=7 {T}\nlate,host=b user=3 {T}\n")
    assert answer.status_code == 400
    told = [(each["line_number"], each["error_message"]) for each in answer.json()["data"]]
    assert told == [(2, "has the tag 'user', but in the table late it is a field of float64")]
    assert next(each for each in ask("/api/tables") if each["name"] == "late")["labels"] == ["host", "region"]
    found = rows(server, "SELECT host, region, user, idle FROM late ORDER BY user")
    assert [tuple(row.values()) for row in found] == [
        ("a", None, 1.0, 9.0),
        ("a", "eu", 2.0, 8.0),
        ("b", None, 3.0, None),
    ]
    series = ask("/api/v1/query", **asked)["data"]["result"]
    assert sorted((one["metric"].get("region", ""), one["value"][1]) for one in series) == [
        ("", "1"),
        ("", "3"),
        ("eu", "2"),
    ]
    assert ask("/api/v1/label/region/values", **{"match[]": "late_user"})["data"] == ["eu"]
    assert len(rows(server, "SELECT * FROM latest.late")) == 3


def test_tags_that_come_from_everywhere_at_once(server: Running) -> None:
    def write(number: int) -> int:
        with server.client() as http:
            lines = "".join(f"wide,host=h{number},tag{n % 5}=v x=1,y=2 {T + n}\n" for n in range(number, number + 10))
            return http.post("/write?precision=s", content=lines).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(24))) == {204}
    assert rows(server, "SELECT count(*) AS c FROM wide") == [{"c": 240}]
    assert rows(server, "SELECT count(*) AS c FROM wide WHERE tag0 = 'v' AND tag1 IS NULL") == [{"c": 48}]


def test_what_clients_ask_first(server: Running) -> None:
    with server.client() as http:
        ping = http.get("/ping")
        assert ping.status_code == 204
        assert ping.headers["x-influxdb-version"]
        assert http.head("/ping").status_code == 204
        assert http.get("/health").json()["status"] == "pass"


def test_the_role_write_suffices_however_the_token_is_sent() -> None:
    with running(auth=True) as server, server.client() as http:
        token = tokens.create(server.state.slot.get().engine, "write", "test")
        reader = tokens.create(server.state.slot.get().engine, "read", "test")
        assert http.post("/write", content=b"m v=1").status_code == 401
        for headers in ({"Authorization": f"Token {token}"}, {"Authorization": f"Bearer {token}"}):
            assert http.post("/write", content=b"m v=1", headers=headers).status_code == 204
        assert http.post("/write", content=b"m v=1", auth=("anybody", token)).status_code == 204
        assert http.post("/write", content=b"m v=1", auth=("anybody", "kymo_no")).status_code == 401
        assert http.post("/write", content=b"m v=1", headers={"Authorization": f"Token {reader}"}).status_code == 403
        assert http.post("/api/prune", headers={"Authorization": f"Token {token}"}).status_code == 403
