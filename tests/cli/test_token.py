"""`kymo token` on a server that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import kymograph
from kymograph.store import tokens
from tests.cli.conftest import Kymo
from tests.server.running import running


def test_the_life_of_a_token_of_a_running_server(kymo: Kymo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        admin = tokens.create(store.engine, "admin", "first")
        reader = tokens.create(store.engine, "read", "second")
    monkeypatch.delenv("KYMO_TOKEN", raising=False)
    with running(tmp_path / "s", auth=True) as server:
        without = kymo("token", "list", server.url)
        assert (without.code, "KYMO_TOKEN" in without.err) == (1, True)
        monkeypatch.setenv("KYMO_TOKEN", reader)
        refused = kymo("token", "create", server.url, "--role", "read")
        assert (refused.code, refused.text) == (1, "")
        monkeypatch.setenv("KYMO_TOKEN", admin)
        run = kymo("token", "create", server.url, "--role", "write", "--name", "Zürich")
        assert run.code == 0
        monkeypatch.setenv("KYMO_TOKEN", run.text.strip())
        assert kymo("stream", "list", server.url).code == 0
        monkeypatch.setenv("KYMO_TOKEN", admin)
        listed = kymo("token", "list", server.url).text
        assert listed == kymo("token", "list", tmp_path / "s").text
        (number,) = (line.split()[0] for line in listed.splitlines() if line.endswith("  Zürich"))
        assert kymo("token", "revoke", server.url, number).code == 0
        assert kymo("token", "revoke", server.url, number).code == 1
        assert kymo("token", "revoke", server.url, "a/../b?c").code == 1
        monkeypatch.setenv("KYMO_TOKEN", run.text.strip())
        assert kymo("stream", "list", server.url).code == 1
    assert kymo("token", "list", "http://127.0.0.1:9").code == 1
