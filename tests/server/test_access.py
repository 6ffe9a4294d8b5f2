"""Tokens, roles, browser sessions, the brake on guessing, and TLS."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from kymograph.server.limits import Limits
from kymograph.server.listener import is_loopback
from kymograph.store import tokens
from tests.server.running import Running, running


@pytest.fixture(scope="module")
def closed() -> Iterator[Running]:
    with running(auth=True, limits=Limits(failures_per_minute=1000)) as server:
        yield server


@pytest.fixture(scope="module")
def known(closed: Running) -> dict[str, str]:
    engine = closed.state.slot.get().engine
    return {role: tokens.create(engine, role, "test") for role in tokens.ROLES}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


PATHS = [
    ("GET", "/api/info", "read"),
    ("GET", "/api/health", "read"),
    ("GET", "/api/tables", "read"),
    ("GET", "/metrics", "read"),
    ("GET", "/api/telemetry/history", "read"),
    ("GET", "/api/telemetry/stats/0", "read"),
    ("GET", "/api/telemetry/export?table=nothing", "read"),
    ("POST", "/api/sql", "read"),
    ("POST", "/api/prune", "admin"),
    ("GET", "/api/tokens", "admin"),
    ("POST", "/api/tokens", "admin"),
    ("DELETE", "/api/tokens/nothing", "admin"),
    ("POST", "/api/not-there-yet", "admin"),
]


@pytest.mark.parametrize(("method", "path", "needed"), PATHS)
def test_each_path_needs_its_role(closed: Running, known: dict[str, str], method: str, path: str, needed: str) -> None:
    with closed.client() as http:
        bare = http.request(method, path, json={})
        assert bare.status_code == 401
        assert bare.json()["error"]["code"] == "token_required"
        assert bare.headers["www-authenticate"] == "Bearer"
        assert http.request(method, path, json={}, headers=bearer("kymo_" + "x" * 43)).status_code == 401
        for role in tokens.ROLES:
            answer = http.request(method, path, json={}, headers=bearer(known[role]))
            allowed = tokens.ROLES.index(role) >= tokens.ROLES.index(needed)
            assert (answer.status_code not in (401, 403)) == allowed, (role, answer.text)


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Basic YTpi", "Bearer \xff", "bearer x y", "Token x", "Bearer " + "k" * 9000]
)
def test_odd_credentials_are_401(closed: Running, given: str) -> None:
    with closed.client() as http:
        answer = http.get("/api/info", headers={"Authorization": given.encode("latin-1")})  # type: ignore[dict-item]
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] in ("token_required", "token_wrong")


def test_the_page_asks_for_a_token_and_shows_no_data(closed: Running) -> None:
    with closed.client() as http:
        page = http.get("/")
        assert page.status_code == 401
        assert "Access token" in page.text
        assert http.get("/ui/login.js").status_code == 200


def test_a_token_becomes_a_cookie_that_scripts_cannot_read(closed: Running, known: dict[str, str]) -> None:
    with closed.client() as http:
        answer = http.get(f"/?token={known['read']}")
        assert answer.status_code == 303
        assert answer.headers["location"] == "./"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert known["read"] not in cookie
        assert http.get("/").status_code == 200
        assert http.get("/api/info").status_code == 200
        assert http.post("/api/prune").status_code == 403
        header = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
        with connect(closed.stream, proxy=None, additional_headers={"Cookie": header}) as stream:
            assert json.loads(stream.recv(60))
        # the cookie is no token
        assert http.get("/api/info", headers=bearer(next(iter(http.cookies.values())))).status_code == 401
        assert http.delete("/api/session").status_code == 204
        assert http.get("/api/info").status_code == 401
    with closed.client() as http:
        assert http.post("/api/session", json={"token": known["admin"]}).status_code == 204
        assert http.post("/api/prune").status_code == 200
        assert http.post("/api/session", json={"token": "wrong"}).status_code == 401


def test_a_token_in_a_query_opens_no_api_path(closed: Running, known: dict[str, str]) -> None:
    with closed.client() as http:
        assert http.get(f"/api/info?token={known['admin']}").status_code == 401
    with connect(f"{closed.stream}?token={known['read']}", proxy=None) as stream:
        assert json.loads(stream.recv(60))
    for url in (closed.stream, f"{closed.stream}?token=wrong"):
        with pytest.raises(InvalidStatus) as caught, connect(url, proxy=None):
            pass
        assert caught.value.response.status_code == 401


def test_tokens_are_made_listed_and_revoked(closed: Running, known: dict[str, str]) -> None:
    with closed.client(headers=bearer(known["admin"])) as http:
        made = http.post("/api/tokens", json={"role": "read", "name": "grafana"})
        assert made.status_code == 201
        token = made.json()["token"]
        listed = [each for each in http.get("/api/tokens").json() if each["name"] == "grafana"]
        assert [each["role"] for each in listed] == ["read"]
        assert token not in http.get("/api/tokens").text
        assert http.get("/api/info", headers=bearer(token)).status_code == 200
        with closed.client() as browser:
            browser.post("/api/session", json={"token": token})
            assert browser.get("/api/info").status_code == 200
            assert http.delete(f"/api/tokens/{listed[0]['id']}").status_code == 204
            assert browser.get("/api/info").status_code == 401
        assert http.get("/api/info", headers=bearer(token)).status_code == 401
        assert http.delete(f"/api/tokens/{listed[0]['id']}").status_code == 404
        for body in ({"role": "root"}, {"role": "read", "name": "x" * 101}, {"role": "read", "extra": 1}, []):
            assert http.post("/api/tokens", json=body).status_code == 400


def test_a_revoked_token_ends_its_stream() -> None:
    with running(auth=True, limits=Limits(recheck_seconds=0.1)) as server:
        engine = server.state.slot.get().engine
        token = tokens.create(engine, "read")
        with connect(server.stream, proxy=None, additional_headers=bearer(token)) as stream:
            assert stream.recv(60)
            tokens.revoke(engine, tokens.list(engine)[0]["id"])
            with pytest.raises(ConnectionClosed) as caught:
                while_open(stream)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008


def while_open(stream: ClientConnection) -> None:
    while True:
        stream.recv(60)


def test_guessing_is_slowed_down() -> None:
    with running(auth=True, limits=Limits(failures_per_minute=5)) as server, server.client() as http:
        token = tokens.create(server.state.slot.get().engine, "read")
        assert http.get("/api/info", headers=bearer(token)).status_code == 200
        seen = [http.get("/api/info", headers=bearer(f"wrong{n}")).status_code for n in range(8)]
        assert seen == [401] * 5 + [429] * 3
        answer = http.get("/api/info", headers=bearer("wrong"))
        assert int(answer.headers["retry-after"]) <= 61
        # whoever is known already is not locked out by a guesser at the same address
        assert http.get("/api/info", headers=bearer(token)).status_code == 200


def test_loopback_is_open_and_nothing_else_is() -> None:
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "", "192.0.2.1", "no.such.host.invalid"):
        assert not is_loopback(host)


def test_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    trust = ssl.create_default_context(cafile=str(cert))
    with running(tls=(cert, key), auth=True) as server:
        token = tokens.create(server.state.slot.get().engine, "read")
        with httpx.Client(base_url=server.url, timeout=60, verify=trust, trust_env=False) as http:
            assert http.get("/api/info", headers=bearer(token)).status_code == 200
            assert "Secure" in http.get(f"/?token={token}").headers["set-cookie"]
        with connect(server.stream, ssl=trust, proxy=None, additional_headers=bearer(token)) as stream:
            assert json.loads(stream.recv(60))
        with pytest.raises(httpx.HTTPError), httpx.Client(trust_env=False) as http:
            http.get(server.url.replace("https", "http"))
