"""Wrong usage, failures, interruptions: the exit code, one line, no traceback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kymograph
from tests.cli.conftest import Kymo


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["sql"],
        ["sql", "DIR"],
        ["sql", "DIR", "SELECT 1", "--format", "xml"],
        ["sql", "DIR", "SELECT 1", "--param", "novalue"],
        ["sql", "DIR", "SELECT 1", "--timeout", "0"],
        ["import", "DIR", "t"],
        ["import", "DIR", "t", "-"],
        ["export", "DIR", "gpu", "--start", "soon"],
        ["export", "DIR", "gpu", "--label", "host"],
        ["tail"],
        ["tail", "DIR", "gpu", "more"],
        ["tail", "DIR", "gpu", "-n", "-1"],
        ["prune", "DIR", "--retention", "long"],
        ["token", "create", "DIR"],
        ["token", "create", "DIR", "--role", "root"],
        ["serve", "DIR", "--port", "70000"],
        ["serve", "DIR", "--interval", "often"],
        ["serve", "DIR", "--interval", "0s"],
        ["serve", "DIR", "--cap", "1MB"],
        ["serve", "DIR", "--tls-key", __file__],
        ["serve", "DIR", "--simulate", "-1"],
    ],
)
def test_wrong_usage(kymo: Kymo, folder: Path, arguments: list[str]) -> None:
    run = kymo(*[str(folder) if argument == "DIR" else argument for argument in arguments])
    assert run.code == 2
    assert run.out == b""
    assert "Error: " in run.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sql", "DIR", "SELEC 1"], "SELEC"),
        (["sql", "DIR", "SELECT * FROM nowhere"], "nowhere"),
        (["sql", "DIR", "DROP TABLE gpu"], "DROP"),
        (["sql", "DIR", "SELECT '\udcff'"], "no UTF-8"),
        (["export", "DIR", "nowhere"], "no table nowhere (there are: gpu, samples)"),
        (["stream", "list", "ftp://127.0.0.1"], "ftp:// is no place for a store"),
        (["info", "DIR/" + "x" * 300], "too long"),
        (["sql", "http://127.0.0.1:8000", "SELECT 1"], "not the address of a server"),
        (["compact", "https://127.0.0.1:8000"], "not the address of a server"),
        (["export", "DIR", "gpu", "--columns", "nothing"], "nothing"),
        (["export", "DIR", "gpu", "--label", "n=1"], "'n'"),
        (["export", "DIR", "gpu", "--output", "DIR/no/such/file.csv"], "no/such"),
        (["export", "DIR", "gpu", "--output", "file.txt"], "--format"),
        (["import", "DIR", "t", "missing.csv"], "no file missing.csv"),
        (["import", "DIR", "t", "file.txt"], "file.txt"),
        (["import", "DIR", "t", __file__, "--format", "csv"], "no column time"),
        (["import", "DIR", "no table", __file__, "--format", "csv"], "no table"),
        (["tail", "DIR", "nowhere"], "there are: gpu, samples"),
        (["token", "revoke", "DIR", "abc"], "no token"),
        *[
            ([verb, "DIR/nowhere"], "no folder DIR/nowhere (kymo serve and kymo import make one)")
            for verb in ("info", "check", "compact", "prune")
        ],
        (["sql", "DIR/nowhere", "SELECT 1"], "nowhere"),
    ],
)
def test_failures(kymo: Kymo, folder: Path, arguments: list[str], message: str) -> None:
    run = kymo(*[argument.replace("DIR", str(folder)) for argument in arguments])
    assert run.code == 1
    assert run.out == b""
    assert run.err.startswith("error: ")
    assert run.err.count("\n") == 1
    assert message.replace("DIR", str(folder)) in run.err
    assert not (folder / "nowhere").exists()


def test_a_folder_that_is_no_store_is_left_alone(kymo: Kymo, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for verb in ("info", "check", "compact", "prune"):
        assert kymo(verb, tmp_path).code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_bad_file_says_where_and_how_much(kymo: Kymo, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("time,host,n\n1,a,1\n2,a,x\n")
    run = kymo("import", folder, "gpu", path)
    assert run.code == 1
    assert run.err == f"error: {path}: row 2: column 'n': 'x' is not int64; nothing was stored\n"


def test_a_failed_query_leaves_the_old_file(kymo: Kymo, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("before")
    assert kymo("export", folder, "gpu", "--columns", "nothing", "-o", tmp_path / "out.csv").code == 1
    assert (tmp_path / "out.csv").read_text() == "before"


def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "kymo", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        **options,
    )


def test_nobody_reads_the_output_any_more(folder: Path) -> None:
    with kymograph.connect(folder, sync="off") as store:
        store.write("long", {"time": list(range(200_000)), "text": ["x" * 20] * 200_000})
    process = start("export", folder, "long")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141
    process.stderr.close()
    assert process.stdin is not None
    process.stdin.close()


def test_following_until_ctrl_c(folder: Path) -> None:
    process = start("tail", folder, "gpu", "-n", 1, "--follow", "--format", "csv")
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    assert lines[1].endswith(b",3\n")
    with kymograph.connect(folder) as store:
        store.write("gpu", {"time": ["2026-01-02T03:04:07Z"], "host": ["b"], "n": [30]})
        assert process.stdout.readline().endswith(b",30\n")
        store.write("gpu", {"time": ["2026-01-02T03:04:08Z"] * 2, "host": ["a", "b"], "n": [40, 41]})
        assert process.stdout.readline().endswith(b",40\n")
        assert process.stdout.readline().endswith(b",41\n")
        store.write("gpu", {"time": ["2026-01-02T03:04:09Z"], "host": ["a"], "n": [50], "new": [1]})
        assert process.stdout.readline() == b"time,host,temp,n,new\n"
        assert process.stdout.readline().endswith(b",50,1\n")
        store.add_columns("gpu", ["rack"])
        store.write("gpu", {"time": ["2026-01-02T03:04:09Z"], "host": ["a"], "rack": ["r"], "n": [60]})
        assert process.stdout.readline() == b"time,host,rack,temp,n,new\n"
        assert process.stdout.readline().endswith(b",a,r,,60,\n")  # the same time and host, and yet another series
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (130, b"", b"")


def test_importing_from_a_pipe_with_an_end(folder: Path) -> None:
    process = start("import", folder, "piped", "-", "--format", "json")
    out, err = process.communicate(b'{"time":1,"host":"a","v":1}\n' * 3, timeout=60)
    assert (process.returncode, out, err) == (0, b"", b"-: 3 rows stored in piped\n")


def test_a_locked_store_names_its_process(folder: Path) -> None:
    with kymograph.connect(folder):
        process = start("compact", folder)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert str(os.getpid()).encode() in err
    assert b"read_only" not in err  # which is Python
    assert b"use its HTTP API" in err


def test_serving_until_sigterm(tmp_path: Path) -> None:
    process = start("serve", tmp_path / "s", "--port", 0, "--interval", "200ms", "--simulate", 1)
    assert process.stdout is not None
    assert process.stdin is not None
    address = b""
    while b"http://" not in address:
        address = process.stdout.readline()
        assert address, process.stderr.read() if process.stderr else b""
    deadline = time.monotonic() + 60
    while not _rows(tmp_path / "s"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert _rows(tmp_path / "s")


def _rows(path: Path) -> int:
    with kymograph.connect(path, read_only=True) as store:
        return int(store.info()["rows"])


def test_what_this_user_may_not(tmp_path: Path) -> None:
    """Also as root, who may all until told otherwise."""
    dropped = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    if os.getuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root without setpriv may all")

    def said(*arguments: object) -> str:
        command = [*(dropped if os.getuid() == 0 else []), sys.executable, "-m", "kymo", *map(str, arguments)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        return done.stderr

    with kymograph.connect(tmp_path / "s", sync="off") as store:
        store.write("t", {"time": [1], "v": [1]})
    (tmp_path / "closed").mkdir()
    for path, mode in ((tmp_path / "s", 0o555), (tmp_path / "s" / "catalog.db", 0o444), (tmp_path / "closed", 0)):
        path.chmod(mode)
    try:
        assert "may not be written by this user" in said("info", tmp_path / "s")
        assert "may not be written by this user" in said("import", tmp_path / "s", "t", __file__, "--format", "csv")
        assert "Permission denied" in said("info", tmp_path / "closed" / "s")
        assert "Permission denied" in said("import", tmp_path / "closed" / "s", "t", __file__, "--format", "csv")
    finally:
        for path in (tmp_path / "s", tmp_path / "closed"):
            path.chmod(0o755)
