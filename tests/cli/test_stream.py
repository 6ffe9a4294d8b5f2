"""`kymo stream` on a folder and on a server alike."""

from __future__ import annotations

import gzip
import io
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import kymograph
from kymograph.cli.stream.clock import DataClock
from kymograph.errors import InvalidInput
from kymograph.model.stream import Layout
from kymograph.store import tokens
from tests.cli.conftest import Kymo
from tests.server.running import running

PATH = "/meter/1/raw"
T0 = 1_767_225_600_000_000  # 2026-01-01
LAYOUT = Layout.parse("uint16_2")
LINES = "1767225600000000 1 2\n1767225600001000 3 4\n1767225600002000 5 6\n"


def rows(count: int, first: int = T0) -> np.ndarray:
    made = np.zeros(count, LAYOUT.rows)
    made["timestamp"] = first + np.arange(count) * 125
    made["data"] = np.random.default_rng(count).integers(0, 65536, (count, 2))
    return made


@pytest.fixture(params=["folder", "server"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place with an empty stream."""
    folder = tmp_path / "store"
    with kymograph.connect(folder, sync="off") as store:
        store.stream(PATH, "uint16_2")
    if request.param == "folder":
        yield str(folder)
        return
    with running(folder) as server:
        yield server.url


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> object:
    """Call with bytes: the next command reads them from standard input."""

    def give(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))  # type: ignore[arg-type]

    return give


def test_text_with_and_without_times(kymo: Kymo, target: str, typed: object) -> None:
    typed(b"# hello\n1 2\n\n  3\t4\n5 6")  # type: ignore[operator]
    run = kymo("stream", "insert", target, PATH, "-t", "-r", 1000, "-s", "2026-01-01", "-e", "@1767225600500000")
    assert run.code == 0, run.err
    assert "3 rows inserted" in run.err
    assert kymo("stream", "extract", target, PATH).text == LINES
    assert kymo("stream", "extract", target, PATH, "-b").text == "1 2\n3 4\n5 6\n"
    assert kymo("stream", "extract", target, PATH, "-c").text == "3\n"
    assert kymo("stream", "extract", target, PATH, "-s", T0 + 1, "-e", T0 + 1001).text == LINES.splitlines()[1] + "\n"
    assert kymo("stream", "extract", target, PATH, "-a", "-m", "-T", "-e", T0 + 1).text.splitlines() == [
        f"# path: {PATH}", "# layout: uint16_2", "# start: -", f"# end: {T0 + 1}",
        f"# interval-start {T0}", LINES.splitlines()[0], f"# interval-end {T0 + 1}",
    ]  # fmt: skip
    assert kymo("stream", "intervals", target, PATH, "-T").text == f"[ {T0} -> {T0 + 500_000} ]\n"
    typed(LINES.encode())  # type: ignore[operator]
    assert "overlaps" in kymo("stream", "insert", target, PATH).err
    typed(b"1 2 3\n4 5\n")  # type: ignore[operator]
    assert "line 2" in kymo("stream", "insert", target, PATH).err
    assert kymo("stream", "extract", target, PATH, "-c").text == "3\n"


@pytest.mark.parametrize("form", ["npy", "parquet", "h5", "bin", "gz"])
def test_files_there_and_back(kymo: Kymo, target: str, tmp_path: Path, form: str) -> None:
    given = rows(5000)
    first = tmp_path / "first.npy"
    np.save(first, given)
    assert kymo("stream", "insert", target, PATH, first).code == 0
    assert kymo("stream", "create", target, "/meter/2/raw", "uint16_2").code == 0
    file, options = tmp_path / f"x.{form}", ["-B"] if form in ("bin", "gz") else []
    run = kymo("stream", "extract", target, PATH, "-o", file, *options)
    assert run.code == 0, run.err
    if form == "gz":
        file.write_bytes(gzip.compress(file.read_bytes()))
    run = kymo("stream", "insert", target, "/meter/2/raw", file, *options, "--dry-run")
    assert run.code == 0, run.err
    assert "5,000 rows would be inserted" in run.err
    assert kymo("stream", "insert", target, "/meter/2/raw", file, *options).code == 0
    assert "overlaps" in kymo("stream", "insert", target, "/meter/2/raw", file, *options, "-n").err
    assert kymo("stream", "extract", target, "/meter/2/raw", "-B").out == given.tobytes()
    assert sorted(each.name for each in tmp_path.iterdir() if each.suffix == ".part") == []


def test_levels_and_files_that_do_not_fit(kymo: Kymo, target: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", rows(64))
    kymo("stream", "insert", target, PATH, tmp_path / "x.npy")
    assert kymo("stream", "extract", target, f"{PATH}~decim-4", "-o", tmp_path / "level.parquet").code == 0
    wide = np.zeros(3, Layout.parse("float64_2").rows)
    np.save(tmp_path / "wide.npy", wide)
    (tmp_path / "bad.h5").write_bytes(b"nothing of the kind")
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\x01\x00")
    for name in ("wide.npy", "bad.h5", "bad.npy", "level.parquet", "absent.npy"):
        run = kymo("stream", "insert", target, PATH, tmp_path / name)
        assert run.code == 1, name
        assert run.err.startswith("error: ")
    assert kymo("stream", "extract", target, PATH, "-c").text == "64\n"


def test_wav_in(kymo: Kymo, target: str, tmp_path: Path) -> None:
    kymo("stream", "create", target, "/sound/1", "int16_2")
    values = np.arange(-1000, 1000, dtype="<i2").reshape(-1, 2)
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(values.tobytes())
    assert "give --start" in kymo("stream", "insert", target, "/sound/1", tmp_path / "x.wav").err
    assert "uint16_2" in kymo("stream", "insert", target, PATH, tmp_path / "x.wav", "-s", "2026-01-01").err
    assert kymo("stream", "insert", target, "/sound/1", tmp_path / "x.wav", "-s", "2026-01-01").code == 0
    found = np.frombuffer(kymo("stream", "extract", target, "/sound/1", "-B").out, Layout.parse("int16_2").rows)
    assert np.array_equal(found["data"], values)
    assert np.diff(found["timestamp"]).tolist() == [125] * 999


def test_copy_and_decimate_go_on_where_they_ended(kymo: Kymo, target: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", rows(1000))
    np.save(tmp_path / "b.npy", rows(10, T0 + 10**9))
    other = tmp_path / "other"
    kymo("stream", "insert", target, PATH, tmp_path / "a.npy")
    kymo("stream", "metadata", target, PATH, "-u", "site=küche")
    assert kymo("stream", "copy", target, other, "/meter/*").text == f"{PATH}: 1,000 rows in 1 intervals copied\n"
    kymo("stream", "insert", target, PATH, tmp_path / "b.npy")
    assert (
        kymo("stream", "copy", target, other, "/meter/*", "-n").text
        == f"{PATH}: 10 rows in 1 intervals would be copied\n"
    )
    assert kymo("stream", "copy", target, other, "/meter/*").text == f"{PATH}: 10 rows in 1 intervals copied\n"
    assert kymo("stream", "copy", target, other, "/meter/*").text == f"{PATH}: 0 rows in 0 intervals copied\n"
    both = [kymo("stream", "extract", each, PATH, "-m").out for each in (target, other)]
    assert both[0] == both[1]
    assert kymo("stream", "metadata", other, PATH).text == "site=küche\n"
    assert (
        kymo("stream", "decimate", target, PATH, "/meter/1/dec", "-f", 8).text
        == "/meter/1/dec: 127 rows made of 1,010\n"
    )
    assert kymo("stream", "decimate", target, PATH, "/meter/1/dec", "-f", 8).text == "/meter/1/dec: 0 rows made of 0\n"
    made = np.frombuffer(kymo("stream", "extract", target, "/meter/1/dec", "-B").out, Layout.parse("float32_6").rows)
    first = rows(1000)["data"][:8].astype(float)
    assert np.allclose(made["data"][0], [*first.mean(0), *first.min(0), *first.max(0)])


def test_looking_after_streams(kymo: Kymo, target: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", rows(8000))
    kymo("stream", "insert", target, PATH, tmp_path / "a.npy")
    assert kymo("stream", "list", target).text == f"{PATH} uint16_2\n"
    assert "rows: 8,000" in kymo("stream", "list", target, "/meter/*", "-E").text
    assert kymo("stream", "list", target, "/x/*").text == ""
    assert kymo("stream", "metadata", target, PATH, "-s", "a=1", "-u", 'b=["x"]').code == 0
    assert kymo("stream", "metadata", target, PATH, "-d", "a").code == 0
    assert kymo("stream", "metadata", target, PATH, "-g", "b", "-g", "a").text == 'b=["x"]\na=\n'
    config = tmp_path / "bounds.ini"
    config.write_text("[/meter/*]\nkeep = 500ms ; half of it\nrate = 8000\n")
    assert "4,000 rows, at most 0.000 GB" in kymo("stream", "cleanup", target, config, "--estimate").text
    assert (
        "4,000 rows before 2026-01-01T00:00:00.499876Z would be removed"
        in kymo("stream", "cleanup", target, config).text
    )
    assert kymo("stream", "extract", target, PATH, "-c").text == "8000\n"
    assert kymo("stream", "cleanup", target, config, "--yes").code == 0
    assert kymo("stream", "extract", target, PATH, "-c").text == "4000\n"
    assert "4,000 rows would be removed" in kymo("stream", "remove", target, "/meter/*", "-n").text
    assert "with 4,000 rows" in kymo("stream", "destroy", target, PATH).err
    assert kymo("stream", "rename", target, PATH, "/meter/9/raw").code == 0
    assert "4,000 rows removed" in kymo("stream", "remove", target, "/meter/9/raw").text
    assert kymo("stream", "destroy", target, "/meter/*", "-n").text == "/meter/9/raw: would be destroyed, 0 rows\n"
    assert kymo("stream", "destroy", target, "/meter/*").code == 0
    assert kymo("stream", "list", target).text == ""


@pytest.mark.parametrize(
    "text",
    ["keep = 1d", "[/a/b]\n", "[/a/b]\nkeep = soon\n", "[/a/b]\nkeep = 0s\n", "[/a/b]\nkept = 1d\n", "[/a/b]\nkeep=1d\nrate=x\n", "\x00\xff"],
)  # fmt: skip
def test_bounds_that_are_none(kymo: Kymo, tmp_path: Path, text: str) -> None:
    with kymograph.connect(tmp_path / "store", sync="off"):
        pass
    (tmp_path / "bounds.ini").write_bytes(text.encode("latin-1"))
    run = kymo("stream", "cleanup", tmp_path / "store", tmp_path / "bounds.ini", "--yes")
    assert run.code == 1
    assert run.err.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["insert", PATH, "-t"], 2),
        (["insert", PATH, "-r", "8000"], 2),
        (["insert", PATH, "-t", "-r", "0", "-s", "2026-01-01"], 1),
        (["insert", PATH, "-t", "-r", "2000000", "-s", "2026-01-01"], 1),
        (["insert", "/no/such"], 1),
        (["extract", "/no/such"], 1),
        (["extract", PATH, "-B", "-m"], 2),
        (["extract", PATH, "-o", "x.npy", "-b"], 2),
        (["extract", PATH, "-s", "sometime"], 2),
        (["extract", f"{PATH}~decim-5"], 1),
        (["create", "/m", "uint16_2"], 1),
        (["create", "/m/2", "uint17_2"], 1),
        (["remove", "/no/*"], 1),
        (["metadata", PATH, "-u", "x"], 1),
        (["metadata", PATH, "-g", "x", "-d", "y"], 2),
    ],
)
def test_wrong_usage(kymo: Kymo, tmp_path: Path, arguments: list[str], code: int, typed: object) -> None:
    with kymograph.connect(tmp_path / "store", sync="off") as store:
        store.stream(PATH, "uint16_2")
    typed(b"1 2\n")  # type: ignore[operator]
    verb, *rest = arguments
    run = kymo("stream", verb, tmp_path / "store", *rest)
    assert run.code == code, run.err


def test_a_folder_that_is_not_there_stays_so(kymo: Kymo, tmp_path: Path) -> None:
    assert kymo("stream", "list", tmp_path / "none").code == 1
    assert kymo("stream", "insert", tmp_path / "none", PATH).code == 1
    assert not (tmp_path / "none").exists()


def test_the_data_clock_follows_the_wall_clock() -> None:
    now = [T0]
    clock = DataClock(1000, None, 50_000, lambda: now[0])
    none = np.zeros((100, 2), "<u2")
    stamped, broken = clock.stamp(none, LAYOUT)
    assert (int(stamped["timestamp"][-1]), broken) == (T0, False)
    now[0] += 110_000  # 10 ms late: within the gap
    stamped, broken = clock.stamp(none, LAYOUT)
    assert (int(stamped["timestamp"][0]), broken) == (T0 + 1000, False)
    now[0] += 1_000_000
    stamped, broken = clock.stamp(none, LAYOUT)
    assert (int(stamped["timestamp"][-1]), broken) == (now[0], True)
    with pytest.raises(InvalidInput, match="ahead of the wall clock"):
        clock.stamp(np.zeros((5000, 2), "<u2"), LAYOUT)
    fixed = DataClock(3, T0, 0)
    assert np.diff(fixed.stamp(none, LAYOUT)[0]["timestamp"]).sum() == 33_000_000


def test_a_server_that_wants_a_token(kymo: Kymo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        token = tokens.create(store.engine, "read")
    with running(tmp_path / "s", auth=True) as server:
        monkeypatch.delenv("KYMO_TOKEN", raising=False)
        without = kymo("stream", "list", server.url)
        monkeypatch.setenv("KYMO_TOKEN", "wrong")
        wrong = kymo("stream", "list", server.url)
        monkeypatch.setenv("KYMO_TOKEN", token)
        assert kymo("stream", "list", server.url).code == 0
    assert (without.code, wrong.code) == (1, 1)
    assert without.err.endswith("(put it into the environment variable KYMO_TOKEN)\n")
    assert wrong.err == "error: the server answers 401: the token is not valid\n"
