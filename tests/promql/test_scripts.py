"""The scripts of this folder, and Prometheus' own where they are present."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .script import NATIVE, Runner

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("KYMO_SHARED", HERE.parent.parent.parent / "shared")) / "promql"
OTHERS = sorted(SHARED.glob("*.test"))


@pytest.mark.parametrize("path", sorted(HERE.glob("*.test")), ids=lambda path: path.stem)
def test_own_script(path: Path) -> None:
    problems = [f"line {one.line}: {one.query}: {problem}" for one, problem in Runner().run(path) if problem]
    assert not problems, "\n".join(problems)


@pytest.mark.skipif(not OTHERS, reason=f"Prometheus' scripts are not in {SHARED}")
@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_script_of_prometheus(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever selects no native histogram has to pass; the rest is listed."""
    found = list(Runner().run(path))
    native = [one for one, problem in found if problem == NATIVE]
    problems = [f"line {e.line}: {e.query}: {problem}" for e, problem in found if problem not in ("", NATIVE)]
    with capsys.disabled():
        if native:
            lines = ", ".join(str(one.line) for one in native)
            print(f"\n{path.name}: {len(native)} of {len(found)} evals need native histograms: lines {lines}")
    assert not problems, "\n".join(problems)
    assert len(native) < len(found)
