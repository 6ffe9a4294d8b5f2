"""Every verb once as it is meant, with its output and its exit code."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

import kymograph
from kymograph.cli import words
from kymograph.store import tokens
from tests.cli.conftest import Kymo


def test_version_and_help(kymo: Kymo) -> None:
    run = kymo("--version")
    assert (run.code, run.text) == (0, f"kymo {kymograph.__version__}\n")
    verbs = ("serve", "sql", "import", "export", "info", "check", "compact", "prune", "tail", "token")
    assert all(f"\n  {verb} " in kymo("--help").text for verb in verbs)
    for verb in verbs:
        run = kymo(verb, "--help")
        assert run.code == 0
        assert run.text.startswith(f"Usage: kymo {verb}")


def test_sql_table(kymo: Kymo, folder: Path) -> None:
    run = kymo("sql", folder, "SELECT host, temp, n FROM gpu WHERE n >= 1 ORDER BY n")
    assert run.code == 0
    assert run.text.splitlines() == [
        "host  temp  n",
        "────  ────  ─",
        "a     60.5  1",
        "b           2",
        "a     62.0  3",
    ]


def test_sql_formats(kymo: Kymo, folder: Path, tmp_path: Path) -> None:
    query = "SELECT time, host, temp FROM gpu WHERE host = $h ORDER BY time"
    asked = ("sql", folder, query, "--param", "h=a")
    assert kymo(*asked, "--format", "csv").text == (
        "time,host,temp\n2026-01-02T03:04:05.000000Z,a,60.5\n2026-01-02T03:04:07.000000Z,a,62.0\n"
    )
    lines = [json.loads(line) for line in kymo(*asked, "--format", "json").text.splitlines()]
    assert [line["temp"] for line in lines] == [60.5, 62.0]
    assert ipc.open_stream(kymo(*asked, "--format", "arrow").out).read_all()["temp"].to_pylist() == [60.5, 62.0]
    assert pq.read_table(io.BytesIO(kymo(*asked, "--format", "parquet").out))["temp"].to_pylist() == [60.5, 62.0]
    for form, read in (("arrow", lambda path: ipc.open_file(path).read_all()), ("parquet", pq.read_table)):
        run = kymo(*asked, "--format", form, "--output", tmp_path / "out")
        assert (run.code, run.out) == (0, b"")
        assert read(tmp_path / "out").num_rows == 2


def test_sql_from_standard_input(kymo: Kymo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT count(*) AS rows\nFROM gpu"))
    assert kymo("sql", folder, "-", "--format", "csv").text == "rows\n3\n"


def test_sql_sees_metrics(kymo: Kymo, folder: Path) -> None:
    run = kymo("sql", folder, "SELECT host, value FROM metric.cpu_percent", "--format", "csv")
    assert run.text == "host,value\ndemo,37.5\n"


def test_what_is_printed_cannot_steer_the_terminal(kymo: Kymo, folder: Path) -> None:
    with kymograph.connect(folder) as store:
        store.write("evil", {"time": [1], "host": ["\x1b[2J\nfake\x07"], "v": [1]})
    run = kymo("sql", folder, "SELECT host FROM evil")
    assert run.text.splitlines()[2:] == [r"\x1b[2J\nfake\x07"]
    assert "\x1b" not in kymo("tail", folder, "evil").text


def test_long_tables_are_printed_whole(kymo: Kymo, folder: Path) -> None:
    with kymograph.connect(folder) as store:
        store.write("long", {"time": list(range(5000)), "v": list(range(5000)), "text": ["x" * 200] * 5000})
    run = kymo("sql", folder, "SELECT v, text FROM long ORDER BY v")
    lines = run.text.splitlines()
    assert len(lines) == 5002
    assert lines[-1].split() == ["4999", "x" * 200]


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "arrow"])
def test_export_and_import(kymo: Kymo, folder: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"gpu.{form}"
    assert kymo("export", folder, "gpu", "--output", path).code == 0
    run = kymo("import", tmp_path / "other", "gpu", path, path)
    assert (run.code, run.out) == (0, b"")
    assert run.err == f"{path}: 3 rows stored in gpu\n" * 2
    with kymograph.connect(folder) as ours, kymograph.connect(tmp_path / "other") as theirs:
        assert ours.scan("gpu").to_pylist() == theirs.scan("gpu").to_pylist()
        assert ours.tables()["gpu"] == theirs.tables()["gpu"]


def test_export_selects(kymo: Kymo, folder: Path) -> None:
    asked = ("export", folder, "gpu", "--columns", "n,host")
    assert kymo(*asked).text == "n,host\n1,a\n2,b\n3,a\n"
    assert kymo(*asked, "--label", "host=b", "--format", "json").text == '{"n":2,"host":"b"}\n'
    assert kymo(*asked, "--label", "host=b", "--label", "host=a").text.count("\n") == 4
    assert kymo(*asked, "--start", "2026-01-02T03:04:06", "--end", "1767323047000000").text == "n,host\n2,b\n"
    assert kymo(*asked, "--start", "24h").text == "n,host\n"


def test_import_from_standard_input(kymo: Kymo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"time,host,rack,v\n1,a,r,1.5\n"))
    monkeypatch.setattr("sys.stdin", stdin)
    run = kymo("import", tmp_path / "s", "t", "-", "--format", "csv", "--labels", "rack")
    assert (run.code, run.err) == (0, "-: 1 rows stored in t\n")
    with kymograph.connect(tmp_path / "s") as store:
        assert store.tables()["t"].labels == ("rack",)


def test_info(kymo: Kymo, folder: Path) -> None:
    run = kymo("info", folder)
    assert run.code == 0
    assert "4 rows, 3 series, no cap" in run.text
    assert "gpu: 3 rows, 2 series\n  2026-01-02T03:04:05Z … 2026-01-02T03:04:07Z" in run.text
    found = json.loads(kymo("info", folder, "--json").text)
    assert found["tables"]["gpu"]["rows"] == 3
    assert found["path"] == str(folder)


def test_check_finds_and_repairs(kymo: Kymo, folder: Path) -> None:
    assert kymo("compact", folder).code == 0
    run = kymo("check", folder)
    assert (run.code, "0 damaged" in run.text) == (0, True)
    block = next(path for path in (folder / "blocks").rglob("*.parquet") if "gpu" in str(path))
    data = bytearray(block.read_bytes())
    data[len(data) // 2] ^= 0xFF
    block.write_bytes(data)
    run = kymo("check", folder)
    assert run.code == 1
    assert "1 damaged" in run.text
    assert "gpu" in run.text.splitlines()[0]
    assert "--repair" in run.err
    assert kymo("check", folder, "--repair").code == 0
    assert kymo("check", folder).code == 0
    assert kymo("sql", folder, "SELECT * FROM metric.cpu_percent").code == 0


def test_compact(kymo: Kymo, folder: Path) -> None:
    run = kymo("compact", folder)
    assert (run.code, run.text) == (0, "4 rows sealed, 0 blocks fewer\n")
    assert kymo("compact", folder).text == "0 rows sealed, 0 blocks fewer\n"


def test_prune(kymo: Kymo, folder: Path) -> None:
    assert kymo("prune", folder).text.startswith("0 partitions, 0 rows")
    run = kymo("prune", folder, "--dry-run", "--force", "--retention", "1d")
    assert run.code == 0
    assert "gpu  2026-01-02T03:04:05Z … " in run.text
    assert "4 rows" in run.text.splitlines()[-1]
    assert run.text.splitlines()[-1].endswith("would go")
    assert kymo("prune", folder, "--force", "--retention", "1d").code == 0
    assert kymo("export", folder, "gpu").text == "time,host,temp,n\n"


def test_tail(kymo: Kymo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = kymo("tail", folder, "gpu", "-n", 2)
    assert [line.split()[-1] for line in run.text.splitlines()] == ["n", "─", "2", "3"]
    assert kymo("tail", folder, "gpu", "-n", 1, "--label", "host=b", "--format", "csv").text == (
        "time,host,temp,n\n2026-01-02T03:04:06.500000Z,b,,2\n"
    )
    assert kymo("tail", folder, "samples", "--format", "json").text == (
        '{"time":"2026-01-02T03:04:05.000000Z","series":"cpu_percent{host=\\"demo\\"}","value":37.5}\n'
    )
    assert kymo("tail", folder, "gpu", "-n", 0, "--format", "csv").text == "time,host,temp,n\n"
    monkeypatch.setattr(words.platformdirs, "user_data_dir", lambda *_, **__: str(folder))
    assert kymo("tail", "gpu").text.count("\n") == 5
    assert kymo("info").code == 0


def test_the_life_of_a_token(kymo: Kymo, tmp_path: Path) -> None:
    run = kymo("token", "create", tmp_path / "new", "--role", "read", "--name", "Grafana")
    assert run.code == 0
    token = run.text.strip()
    with kymograph.connect(tmp_path / "new") as store:
        assert tokens.verify(store.engine, token) == "read"
    listed = kymo("token", "list", tmp_path / "new").text
    assert listed.endswith("  Grafana\n")
    assert token not in listed
    assert kymo("token", "revoke", tmp_path / "new", listed.split()[0]).code == 0
    assert kymo("token", "list", tmp_path / "new").text == ""
    assert kymo("token", "revoke", tmp_path / "new", listed.split()[0]).code == 1


def test_reading_beside_a_writer(kymo: Kymo, folder: Path) -> None:
    with kymograph.connect(folder) as store:
        store.write("gpu", {"time": ["2026-01-02T03:04:08Z"], "host": ["c"], "n": [4]})
        assert kymo("sql", folder, "SELECT max(n) AS n FROM gpu", "--format", "csv").text == "n\n4\n"
        assert kymo("export", folder, "gpu").text.count("\n") == 5
        for verb in ("info", "check"):
            assert kymo(verb, folder).code == 0
        assert kymo("token", "list", folder).code == 0
        for arguments in (("compact", folder), ("prune", folder), ("check", folder, "--repair")):
            run = kymo(*arguments)
            assert run.code == 1
            assert run.err.startswith("error: ")
        assert "give its URL" in kymo("token", "create", folder, "--role", "read").err


def test_metadata_of_exports_is_the_table(kymo: Kymo, folder: Path) -> None:
    table = pq.read_table(io.BytesIO(kymo("export", folder, "gpu", "--format", "parquet").out))
    assert table.schema.field("time").type == pa.timestamp("us", "UTC")
    assert b'"labels": ["host"]' in table.schema.metadata[b"kymograph"]


def test_namespaces(kymo: Kymo, folder: Path) -> None:
    assert kymo("namespace", "list", folder).text == ""
    run = kymo("namespace", "create", folder, "solar", "--cap", "50MB")
    inner = Path(run.text.strip())
    assert (run.code, inner) == (0, folder / "namespaces" / "solar")
    assert kymo("namespace", "list", folder).text == "solar\n"
    assert kymo("sql", inner, "SELECT count(*) AS n FROM metrics", "--format", "csv").text == "n\n0\n"
    assert kymo("namespace", "create", folder, "../x").code == 1
    assert kymo("namespace", "create", folder, "solar").code == 1
    assert kymo("namespace", "create", folder).code == 2
