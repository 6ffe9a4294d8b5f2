"""`kymo retention`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kymograph
from kymograph.cli.main import main
from kymograph.model.time import DAY, HOUR
from kymograph.store.jobs import now_micros

JUNIORS = '{team="juniors"}'


def test_retention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "s")
    with kymograph.connect(folder) as store:
        for step in range(60):
            store.gauge("m", float(step), {"team": "juniors"}, time=now_micros() - step * 2 * HOUR)
    assert main(["retention", "list", folder]) == 0
    assert capsys.readouterr().err == "no series have an age of their own\n"
    assert main(["retention", "set", folder, JUNIORS, "3d"]) == 0
    assert capsys.readouterr().out == f"{JUNIORS}  3d  1 series, nothing has gone yet\n"
    assert main(["prune", folder, "--dry-run"]) == 0
    assert "24 rows, 0 B would go" in capsys.readouterr().out
    assert main(["prune", folder]) == 0
    assert f"(age of {JUNIORS})" in capsys.readouterr().out
    with kymograph.connect(folder):
        assert main(["retention", "list", folder]) == 0
        assert capsys.readouterr().out.startswith(f"{JUNIORS}  3d  1 series, gone before 20")
        assert main(["retention", "drop", folder, JUNIORS]) == 1
        assert "use its HTTP API" in capsys.readouterr().err
    assert main(["retention", "list", folder, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["series"], one["age"], one["matched"]) for one in told] == [(JUNIORS, 3 * DAY, 1)]
    assert main(["retention", "set", folder, "m[5m]", "3d"]) == 1
    assert "unexpected" in capsys.readouterr().err
    assert main(["retention", "set", folder, "m", "soon"]) == 2
    assert main(["retention", "set", folder, "m"]) == 2
    assert main(["retention", "drop", folder, "m"]) == 1
    assert "there is no retention of m" in capsys.readouterr().err
    assert main(["retention", "drop", folder, JUNIORS]) == 0
    assert main(["retention", "list", folder]) == 0
    assert capsys.readouterr().out == ""
    assert main(["retention", "list", str(tmp_path / "nowhere")]) == 1
