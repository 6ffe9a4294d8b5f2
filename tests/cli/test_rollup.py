"""`kymo rollup` and `kymo downsample`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kymograph
from kymograph.cli.main import main
from kymograph.model.time import HOUR, SECOND

BASE = 1_790_000_000 * SECOND // HOUR * HOUR


@pytest.fixture
def folder(tmp_path: Path) -> str:
    with kymograph.connect(tmp_path / "s") as store:
        for step in range(60):
            store.gauge("m", float(step), {"host": "a"}, time=BASE + step * 10 * SECOND)
    return str(tmp_path / "s")


def test_rollups(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollup", "list", folder]) == 0
    assert capsys.readouterr().err == "no rollups\n"
    assert main(["rollup", "create", folder, "m_1m", "--keep", "30d"]) == 0
    assert capsys.readouterr().out.startswith("10 rows, fresh until 20")
    assert main(["rollup", "create", folder, "m_5m", "--source", "m_1m", "--every", "5m"]) == 0
    assert main(["rollup", "create", folder, "hosts", "--by", "host"]) == 0
    capsys.readouterr()
    assert main(["rollup", "refresh", folder, "m_5m", "--start", str(BASE), "--end", str(BASE + 1)]) == 0
    assert capsys.readouterr().out == "2 rows written\n"
    with kymograph.connect(folder):
        assert main(["rollup", "list", folder]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["hosts", "m_1m", "m_5m"]
        assert "samples every 1m by name, host" in lines[0]
        assert main(["rollup", "drop", folder, "m_5m"]) == 1
        assert "use its HTTP API" in capsys.readouterr().err
    assert main(["rollup", "drop", folder, "m_1m"]) == 1
    assert main(["rollup", "drop", folder, "m_5m"]) == 0
    assert main(["rollup", "list", folder, "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["hosts", "m_1m"]


def test_downsample(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["downsample", folder]) == 0
    assert capsys.readouterr().err == "nothing is downsampled\n"
    assert main(["downsample", folder, "--older-than", "1d", "--interval", "1m", "--label", "host=a"]) == 0
    assert capsys.readouterr().out == "60 samples replaced by 11 summaries\n"
    assert main(["downsample", folder, "--policy", "2h -> 1m, 1w -> 5m"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('by hand -> 1m  {"host": ["a"]}  up to 20')
    assert lines[2] == "older than 7d -> 5m  {}  nothing yet"
    assert main(["downsample", folder, "--older-than", "1d"]) == 2
    assert main(["downsample", folder, "--policy", "often"]) == 1
    assert "no policy" in capsys.readouterr().err
