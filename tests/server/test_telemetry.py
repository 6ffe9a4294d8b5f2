"""History, statistics and exports over rows that are known."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
from urllib.parse import quote

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kymograph.server.state import ServerState
from tests.server.conftest import GPUS, ROWS
from tests.server.running import Running, running

NAMES = [
    "timestamp", "gpu_index", "gpu_name", "temperature", "fan_speed", "power_draw", "core_clock", "memory_clock",
    "base_clock", "max_clock", "boost_active", "utilization", "memory_used", "memory_total",
]  # fmt: skip


def get(server: Running, path: str, **params: object) -> httpx.Response:
    with server.client() as http:
        return http.get(f"/api/telemetry/{path}", params={k: str(v) for k, v in params.items()})


def test_history_is_newest_first_under_the_api_s_names(recorded: Running) -> None:
    rows = get(recorded, "history", gpu_index=1).json()
    assert len(rows) == ROWS
    assert list(rows[0]) == NAMES
    times = [row["timestamp"] for row in rows]
    assert times == sorted(times, reverse=True)
    n = ROWS - 1
    assert rows[0] | {"timestamp": ""} == {
        "timestamp": "", "gpu_index": 1, "gpu_name": "Test GPU", "temperature": 40.0 + n % 10, "fan_speed": 30.0,
        "power_draw": 200.0, "core_clock": 1501, "memory_clock": 2000, "base_clock": 1000, "max_clock": 2500,
        "boost_active": False, "utilization": float(n % 100), "memory_used": n * 2**20, "memory_total": 80 * 2**30,
    }  # fmt: skip
    assert rows[-1]["boost_active"] is True


def test_history_s_limits(recorded: Running) -> None:
    assert len(get(recorded, "history").json()) == GPUS * ROWS
    assert len(get(recorded, "history", limit=7).json()) == 7
    assert get(recorded, "history", gpu_index=9).json() == []
    assert len(get(recorded, "history", hours=2160, limit=10_000).json()) == GPUS * ROWS


def test_history_in_steps(recorded: Running) -> None:
    rows = get(recorded, "history", step="1m", gpu_index=0).json()
    assert list(rows[0]) == NAMES
    assert 5 <= len(rows) <= 6
    assert all(row["timestamp"].endswith(":00.000000Z") for row in rows)
    whole = get(recorded, "history", gpu_index=0, limit=10_000).json()
    for bucket in rows:
        inside = [row for row in whole if row["timestamp"][:16] == bucket["timestamp"][:16]]
        assert bucket["temperature"] == pytest.approx(sum(row["temperature"] for row in inside) / len(inside))
        assert bucket["boost_active"] == any(row["boost_active"] for row in inside)
        assert bucket["power_draw"] == 100.0
    # 2,160 hours fit a page: two GPUs, one bucket each or two at a boundary
    assert len(get(recorded, "history", step="2160h", hours=2160).json()) in (GPUS, 2 * GPUS)
    assert get(recorded, "history", step="60", gpu_index=0).json() == rows


def test_statistics(recorded: Running) -> None:
    found = get(recorded, "stats/1", hours=1).json()
    assert found["record_count"] == ROWS
    assert found["gpu_index"] == 1
    assert found["hours"] == 1
    assert found["temperature"] == {"min": 40.0, "max": 49.0, "avg": 44.5}
    assert found["power_draw"] == {"min": 200.0, "max": 200.0, "avg": 200.0}
    assert found["utilization_avg"] == 49.5
    assert found["core_clock_avg"] == 1501
    assert found["memory_clock_avg"] == 2000
    nobody = get(recorded, "stats/7").json()
    assert nobody["record_count"] == 0
    assert nobody["temperature"] == {"min": None, "max": None, "avg": None}


def test_database_statistics(recorded: Running) -> None:
    found = get(recorded, "database/stats").json()
    assert found["gpu_records"] == GPUS * ROWS
    assert found["total_records"] == GPUS * ROWS + 10
    assert [(gpu["gpu_index"], gpu["records"]) for gpu in found["gpus"]] == [(0, ROWS), (1, ROWS)]
    assert found["oldest"] < found["newest"]
    assert found["size_bytes"] > 0
    assert "cap_bytes" in found


def test_every_format_exports_the_same_rows(recorded: Running) -> None:
    store = recorded.state.slot.get()
    whole = store.scan("gpu_metrics")
    texts = list(csv.DictReader(io.StringIO(get(recorded, "export", format="csv").text)))
    assert len(texts) == whole.num_rows
    objects = get(recorded, "export", format="json").json()
    assert [row["time"] for row in objects] == [row["time"] for row in texts]
    assert [row["gpu_temp"] for row in objects] == [float(row["gpu_temp"]) for row in texts]
    parquet = pq.read_table(io.BytesIO(get(recorded, "export", format="parquet").content))
    arrow = pa.ipc.open_stream(get(recorded, "export", format="arrow").content).read_all()
    for table in (parquet, arrow):
        assert table.to_pylist() == whole.to_pylist()
    answer = get(recorded, "export", format="parquet")
    assert 'filename="gpu_metrics.parquet"' in answer.headers["content-disposition"]


def test_export_s_range(recorded: Running) -> None:
    rows = get(recorded, "export", format="json", gpu_index=0).json()
    assert len(rows) == ROWS
    start, end = rows[10]["time"], rows[20]["time"]
    cut = get(recorded, "export", format="json", gpu_index=0, start=start, end=end).json()
    assert cut == rows[10:20]
    micros = int(dt.datetime.fromisoformat(start).timestamp() * 1e6)
    assert get(recorded, "export", format="json", gpu_index=0, start=micros, end=end).json() == cut
    with recorded.client() as http:
        # a zone whose + was not percent-encoded
        plus = http.get(f"/api/telemetry/export?format=json&gpu_index=0&start={start[:-1]}+00:00&end={quote(end)}")
        assert plus.json() == cut
    assert get(recorded, "export", format="json", start=end, end=end).json() == []
    assert len(get(recorded, "export", format="json", hours=1, table="samples").json()) == 10


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("history", {"hours": 0}),
        ("history", {"hours": 2161}),
        ("history", {"hours": "nan"}),
        ("history", {"hours": "1e3"}),
        ("history", {"hours": 10**400}),
        ("history", {"hours": "\u0661\U0001f600"}),
        ("history", {"hours": ""}),
        ("history", {"limit": 0}),
        ("history", {"limit": 10_001}),
        ("history", {"gpu_index": -1}),
        ("history", {"gpu_index": 2**40}),
        ("history", {"gpu_index": "0; DROP TABLE gpu_metrics"}),
        ("history", {"step": "0s"}),
        ("history", {"step": "1us"}),
        ("history", {"step": "-5m"}),
        ("history", {"step": "1m'); DROP TABLE x; --"}),
        ("history", {"step": "99999999999y"}),
        ("history", {"step": "x" * 41}),
        ("stats/-1", {}),
        ("stats/abc", {}),
        ("stats/0", {"hours": 99999}),
        ("stats/99999999999999999999", {}),
        ("export", {"format": "xlsx"}),
        ("export", {"format": "../../etc/passwd"}),
        ("export", {"table": ""}),
        ("export", {"table": "t" * 200}),
        ("export", {"start": "yesterday"}),
        ("export", {"start": "9" * 30}),
        ("export", {"start": "NaN"}),
        ("export", {"end": "2026-13-45T99:99:99Z"}),
        ("export", {"start": "2026-02-01", "end": "2026-01-01"}),
        ("export", {"hours": 5, "start": "2026-01-01"}),
        ("export", {"hours": 0}),
        ("export", {"gpu_index": "x"}),
    ],
)
def test_garbage_is_a_400_that_says_what_is_wrong(recorded: Running, path: str, params: dict[str, object]) -> None:
    answer = get(recorded, path, **params)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] in ("invalid_input", "time_error")
    assert error["message"]


@pytest.mark.parametrize(
    "table", ["nothing", "../catalog.db", "gpu_metrics; --", 'x"', "\u00e4", "latest.gpu_metrics", "metrics"]
)
def test_what_is_no_table_is_a_404(recorded: Running, table: str) -> None:
    answer = get(recorded, "export", table=table)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_an_export_by_gpu_needs_a_gpu_column(recorded: Running) -> None:
    assert get(recorded, "export", table="samples", gpu_index=0).status_code == 404


def odd_rows(state: ServerState) -> None:
    store = state.slot.get()
    store.write("gpu_metrics", {"time": [1], "label": "only", "gpu_temp": [1.5]})
    store.write(
        "odd",
        {
            "time": [-(2**61), 0, 2**61],
            "label": ['a,"b"\n', "\u2028\U0001f600", ""],
            "value": [math.nan, math.inf, 0.1],
            "narrow": pa.array([math.nan, 36.6, None], pa.float32()),
            "big": pa.array([2**64 - 1, 0, None], pa.uint64()),
            "flag": [True, None, False],
        },
    )


def test_odd_tables_and_values() -> None:
    """A foreign `gpu_metrics` without most columns, times of the year 73,000, NaN, infinity and quotes."""
    with running(prepare=odd_rows) as server:
        assert get(server, "history").json() == []
        assert get(server, "history", gpu_index=0).json() == []
        assert get(server, "history", step="1h").json() == []
        assert get(server, "stats/0").json()["record_count"] == 0
        assert get(server, "database/stats").json()["total_records"] == 4
        answer = get(server, "export", format="json", table="odd")
        rows = json.loads(answer.text, parse_constant=pytest.fail)
        assert [row["time"] for row in rows] == [str(-(2**61)), "1970-01-01T00:00:00.000000Z", str(2**61)]
        assert [row["value"] for row in rows] == [None, None, 0.1]
        assert [row["narrow"] for row in rows] == [None, 36.6, None]
        assert [row["big"] for row in rows] == [2**64 - 1, 0, None]
        texts = list(csv.DictReader(io.StringIO(get(server, "export", format="csv", table="odd").text, newline="")))
        assert [row["label"] for row in texts] == ['a,"b"\n', "\u2028\U0001f600", ""]
        for kind in ("parquet", "arrow"):
            assert get(server, "export", format=kind, table="odd").status_code == 200


def test_before_anything_is_recorded() -> None:
    with running() as server:
        assert get(server, "history").json() == []
        assert get(server, "stats/0").json()["record_count"] == 0
        assert get(server, "database/stats").json()["gpus"] == []
        assert get(server, "export").status_code == 404


def test_a_long_export_is_streamed_in_bounded_memory(tmp_path: object) -> None:
    """A million rows go out in many pieces; what the process holds meanwhile is a small part of them."""

    def fill(state: ServerState) -> None:
        store = state.slot.get()
        for part in range(10):
            first = part * 100_000
            times = pa.array(range(first, first + 100_000), pa.int64())
            store.write(
                "wide", pa.table({"time": times, "name": ["x" * 50] * 100_000, "value": times.cast(pa.float64())})
            )
        # what background work would do meanwhile takes memory too
        store.seal()
        store.compact()

    with running(str(tmp_path), prepare=fill) as server, server.client() as http:
        for kind, least in (("arrow", 10_000_000), ("csv", 50_000_000)):
            size = 0
            before = pa.total_allocated_bytes()
            most = 0
            with http.stream("GET", f"/api/telemetry/export?table=wide&format={kind}") as answer:
                for piece in answer.iter_raw():
                    size += len(piece)
                    most = max(most, pa.total_allocated_bytes() - before)
            assert size > least
            assert most < 40 * 2**20
