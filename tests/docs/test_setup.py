"""The README's commands, the full run and the pinned packages belong together."""

from __future__ import annotations

import re
import subprocess
import tomllib

from tests.docs.pages import ROOT, page

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONSTRAINTS = (ROOT / "constraints.txt").read_text()


def normal(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def commands() -> list[str]:
    return [line for block in page("README.md").blocks("sh") for line in block.splitlines() if "tools/setup" in line]


def test_two_commands() -> None:
    serving, testing = commands()
    assert serving.endswith("/kymo serve")
    assert testing.endswith("pytest")


def test_the_full_run_uses_the_test_command() -> None:
    assert f"'{commands()[1]}'" in (ROOT / ".ci" / "run").read_text()


def test_everything_is_pinned_with_a_hash() -> None:
    run, _, test = CONSTRAINTS.partition("\n# test\n")
    project = PROJECT["project"]
    for requirement in project["dependencies"] + PROJECT["build-system"]["requires"]:
        assert re.search(rf"^{normal(requirement)}==", run, re.MULTILINE), requirement
    for extra in ("test", "lint", "bench"):
        for requirement in project["optional-dependencies"][extra]:
            assert re.search(rf"^{normal(requirement)}==", test, re.MULTILINE), requirement
    for pin in re.findall(r"^[a-z].*?(?=^[a-z#]|\Z)", CONSTRAINTS, re.MULTILINE | re.DOTALL):
        assert re.match(r"[a-z0-9-]+==\S+ \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", pin), pin


def test_no_address_in_the_constraints() -> None:
    assert "://" not in CONSTRAINTS
    assert "index-url" not in CONSTRAINTS
    assert "find-links" not in CONSTRAINTS


def test_scripts_parse() -> None:
    subprocess.run(["sh", "-n", ROOT / "tools" / "setup"], check=True)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_usage_of_setup() -> None:
    wrong = subprocess.run(["sh", ROOT / "tools" / "setup", "nonsense"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "usage" in wrong.stderr
