"""Influx lines in a store: tables, metrics, and the lines that fit neither."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import kymograph
from kymograph.errors import SchemaError
from kymograph.options import StoreOptions
from kymograph.store.ingest.lines import table_name
from kymograph.store.store import Store

NOW = 1_700_000_000_000_000


@pytest.fixture
def store() -> Any:
    with kymograph.connect("memory:") as found:
        yield found


def written(store: Store, lines: str, **how: Any) -> list[tuple[int, str]]:
    report = store.write_lines(lines, time=NOW, **how)
    count = sum(1 for line in lines.splitlines() if line and not line.startswith("#"))
    assert report.rows + len(report.faults) == count
    return [(fault.line, fault.message) for fault in report.faults]


def table(store: Store, name: str) -> list[dict[str, Any]]:
    rows = store.scan(name)
    times = rows["time"].cast("int64").to_pylist()
    return [{**row, "time": time} for row, time in zip(rows.drop_columns("time").to_pylist(), times, strict=True)]


def test_a_measurement_with_several_fields_is_a_table(store: Store) -> None:
    assert not written(store, 'cpu,host=a,core=0 user=1.5,idle=98i,ok=t,note="x y",big=18446744073709551615u 2000\n')
    schema = store.tables()["cpu"]
    assert schema.labels == ("core", "host")
    assert {name: str(kind) for name, kind in schema.fields} == {
        "user": "double", "idle": "int64", "ok": "bool", "note": "string", "big": "uint64",
    }  # fmt: skip
    assert table(store, "cpu") == [
        {"time": 2, "core": "0", "host": "a", "user": 1.5, "idle": 98, "ok": True, "note": "x y", "big": 2**64 - 1}
    ]


def test_a_lone_value_is_a_metric(store: Store) -> None:
    assert not written(store, "temp,room=a value=20.5\ntemp,room=b value=21i\nopen,room=a value=true\nn value=3u\n")
    assert "temp" not in store.tables()
    names = {each["name"]: each["kind"] for each in store.metrics()}
    assert names == {"temp": "gauge", "open": "gauge", "n": "gauge"}
    assert sorted(row["value"] for row in store.sql("SELECT value FROM metric.temp").arrow().to_pylist()) == [
        20.5,
        21.0,
    ]
    assert store.sql("SELECT value FROM metric.open").arrow().to_pylist() == [{"value": 1.0}]


def test_a_lone_value_goes_to_the_table_there_is(store: Store) -> None:
    assert not written(store, "m value=1,other=2 1000\nm value=3 2000\n")
    assert not written(store, "m value=4 3000\n")
    assert [row["value"] for row in table(store, "m")] == [1, 3, 4]
    assert not store.metrics()


def test_a_lone_text_is_a_table(store: Store) -> None:
    assert not written(store, 'note value="hello" 1000\n')
    assert table(store, "note") == [{"time": 1, "value": "hello"}]


def test_a_metric_that_was_described_keeps_its_kind(store: Store) -> None:
    store.describe("hits", kind="counter")
    written(store, "hits value=1\n")
    assert store.metrics()[0]["kind"] == "counter"


def test_schema_conflicts_are_named_and_the_others_taken(store: Store) -> None:
    written(store, 'm,host=a x=1.5,n=1i,s="a",t=true 1000\n')
    faults = written(
        store,
        'm,host=a x="text" 2000\n'  # a text for a number
        "m,host=a n=1.5 3000\n"  # a fraction for an integer
        "m,host=a n=2.0 4000\n"  # an integer all the same
        "m,host=a x=7i 5000\n"  # a float can be 7
        "m,host=a s=1 6000\n"
        "m,host=a t=1i 7000\n"
        "m,host=a,x=1 n=1i 8000\n"  # a tag that is a field
        "m x=9 9000\n"  # a tag less is fine
        "m,host=a n=9223372036854775807u 10000\n"
        "m,host=a n=9223372036854775808u 11000\n"
        "m,host=a x=9007199254740993i 12000\n"  # no float64
        "m,host=a time=1 13000\n"
        "m,host=a host=1 14000\n"
        "m,host=a fresh=1u 15000\n",
    )  # fmt: skip
    assert [number for number, _ in faults] == [1, 2, 5, 6, 7, 10, 11, 12, 13]
    assert "has a field 'x' of string, but in the table m it is float64" in faults[0][1]
    assert "has the tag 'x', but in the table m it is a field of float64" in faults[4][1]
    found = {row["time"]: row for row in table(store, "m")}
    assert sorted(found) == [1, 4, 5, 9, 10, 15]
    assert found[4]["n"] == 2
    assert found[5]["x"] == 7.0
    assert found[9]["host"] is None
    assert found[10]["n"] == 2**63 - 1
    assert found[15]["fresh"] == 1


def test_integers_make_room_for_floats_of_the_same_body(store: Store) -> None:
    assert not written(store, "m a=1i,b=1 1000\nm a=1.5,b=1 2000\nm a=2u,b=1 3000\n")
    assert [row["a"] for row in table(store, "m")] == [1.0, 1.5, 2.0]


def test_the_fields_of_one_point_may_come_in_several_lines(store: Store) -> None:
    assert not written(store, 'm,h=a x=1 1000\nm,h=b x=5 1000\nm,h=a y=2 1000\nm,h=a x=3,z="t" 1000\nm,h=a y=9 2000\n')
    assert table(store, "m") == [
        {"time": 1, "h": "a", "x": 3.0, "y": 2.0, "z": "t"},
        {"time": 1, "h": "b", "x": 5.0, "y": None, "z": None},
        {"time": 2, "h": "a", "x": None, "y": 9.0, "z": None},
    ]


def test_fields_join_those_that_were_written_before(store: Store) -> None:
    assert not written(store, "m,h=a x=1,y=1i 1000\nm,h=b x=2,y=2i 1000\nm x=3,y=3i 1000\nm,h=a x=4,y=4i 9000\n")
    assert not written(
        store, 'm,h=a z="new" 1000\nm z="none" 1000\nm,h=b x=20 1000\nm,h=c y=5i 1000\nm,h=a y=6i 5000\n'
    )
    assert table(store, "m") == [
        {"time": 1, "h": None, "x": 3.0, "y": 3, "z": "none"},
        {"time": 1, "h": "a", "x": 1.0, "y": 1, "z": "new"},
        {"time": 1, "h": "b", "x": 20.0, "y": 2, "z": None},
        {"time": 1, "h": "c", "x": None, "y": 5, "z": None},
        {"time": 5, "h": "a", "x": None, "y": 6, "z": None},
        {"time": 9, "h": "a", "x": 4.0, "y": 4, "z": None},
    ]


def test_fields_join_over_days_and_in_blocks(tmp_path: Any) -> None:
    day = 86_400_000
    with kymograph.connect(tmp_path) as store:
        lines = [f"m,h=h{n % 3} x={n}i,y={n}i {n * day // 4}" for n in range(40)]
        assert not written(store, "\n".join(lines), precision="ms")
        store.seal()
        assert not written(store, "\n".join(f"m,h=h{n % 3} y={-n}i {n * day // 4}" for n in range(40)), precision="ms")
        rows = store.scan("m")
        assert rows["x"].to_pylist() == list(range(40))
        assert rows["y"].to_pylist() == [-n for n in range(40)]


def test_the_last_line_of_one_series_and_time_wins(store: Store) -> None:
    written(store, "m value=1 1000\nm value=2i 1000\nm value=3 1000\n# end\nm value=4i 1000\n")
    assert store.sql("SELECT value FROM metric.m").arrow().to_pylist() == [{"value": 4.0}]


def test_integers_that_are_no_float64_are_refused_as_samples(store: Store) -> None:
    faults = written(store, "m value=9007199254740993i 1000\nm value=9007199254740992i 2000\n")
    assert [number for number, _ in faults] == [1]
    assert "exactly" in faults[0][1]


def test_backfill_of_any_age(store: Store) -> None:
    assert not written(store, "m value=1 -4611686018427387\nm value=2 0\nm value=3 4102444800000\n", precision="ms")
    assert store.sql("SELECT count(*) AS n FROM metric.m").arrow().to_pylist() == [{"n": 3}]


def test_series_beyond_the_limit_are_refused_and_known_ones_taken(tmp_path: Any) -> None:
    with kymograph.connect(tmp_path, options=StoreOptions(max_series=2)) as store:
        assert not written(store, "m,a=1 value=1\nm,a=2 value=1\n")
        faults = written(store, "m,a=1 value=2\nm,a=3 value=2\nm,a=2 value=2\n")
        assert [number for number, _ in faults] == [2]
        assert "limit" in faults[0][1]


@pytest.mark.parametrize(
    ("measurement", "table"),
    [
        ("cpu", "cpu"), ("cpu.load-1", "cpu.load-1"), ("°C", "U___b0_C"), ("%", "U___25_"), ("a b_c", "U__a_20_b__c"),
        ("1min", "U__1min"),
    ],
)  # fmt: skip
def test_measurements_that_no_table_can_be_called(store: Store, measurement: str, table: str) -> None:
    assert table_name(measurement) == table
    escaped = measurement.replace(" ", "\\ ")
    assert not written(store, f"{escaped} a=1,b=2\n{escaped}2 value=1\n")
    assert table in store.tables()
    assert [each["name"] for each in store.metrics()] == [f"{measurement}2"]


def test_names_that_are_taken_or_too_long(store: Store) -> None:
    faults = written(store, f"samples a=1,b=2\n{'é' * 100} a=1,b=2\ngood a=1,b=1\n")
    assert [number for number, _ in faults] == [1, 2]
    assert not written(store, "samples value=1\n")
    assert [each["name"] for each in store.metrics()] == ["samples"]


def test_a_table_that_rejects_duplicates_keeps_its_rows(store: Store) -> None:
    store.create_table("m", ["h"], {"x": "float64"}, duplicates="reject")
    assert not written(store, "m,h=a x=1 1000\n")
    assert [number for number, _ in written(store, "m,h=a x=2 1000\nm,h=a x=2 2000\nn a=1,b=1\n")] == [1, 2]
    assert [row["x"] for row in table(store, "m")] == [1.0]


def test_many_lines_of_many_measurements(store: Store) -> None:
    lines = []
    for n in range(3000):
        lines.append(f"cpu,host=h{n % 7} a={n}.5,b={n}i {n}000")
        lines.append(f"mem,host=h{n % 5},bank={n % 3} used={n}u {n}000")
        lines.append(f"power,host=h{n % 11} value={n} {n}000")
    assert not written(store, "\n".join(lines))
    assert store.scan("cpu").num_rows == store.scan("mem").num_rows == 3000
    assert store.sql("SELECT sum(value) AS s, count(*) AS n FROM metric.power").arrow().to_pylist() == [
        {"s": sum(range(3000)), "n": 3000}
    ]
    assert all(row["a"] == row["time"] + 0.5 and row["host"] == f"h{row['time'] % 7}" for row in table(store, "cpu"))


def test_a_tag_that_is_new_becomes_a_label(store: Store) -> None:
    assert not written(store, "cpu,host=a user=1.5,idle=98i 1000\n")
    assert not written(store, "cpu,host=a,rack=r1,dc=x user=2,idle=97i 1000\ncpu,host=a user=3,idle=96i 2000\n")
    assert store.tables()["cpu"].labels == ("host", "dc", "rack")
    assert not written(store, "cpu,dc=y user=4,idle=95i 1000\ncpu,host=a,idle2=z user=5,idle=94i 9000\n")
    assert table(store, "cpu") == [
        {"time": 1, "host": None, "dc": "y", "rack": None, "idle2": None, "user": 4.0, "idle": 95},
        {"time": 1, "host": "a", "dc": None, "rack": None, "idle2": None, "user": 1.5, "idle": 98},
        {"time": 1, "host": "a", "dc": "x", "rack": "r1", "idle2": None, "user": 2.0, "idle": 97},
        {"time": 2, "host": "a", "dc": None, "rack": None, "idle2": None, "user": 3.0, "idle": 96},
        {"time": 9, "host": "a", "dc": None, "rack": None, "idle2": "z", "user": 5.0, "idle": 94},
    ]


def test_a_table_by_hand_takes_tags_too(store: Store) -> None:
    store.create_table("cpu", ["host"], {"user": "float64"})
    store.write("cpu", {"time": [1], "host": ["a"], "user": [1.0]})
    assert not written(store, "cpu,host=a,region=eu user=2 1000\n")
    store.write("cpu", {"time": [1], "host": ["a"], "user": [3.0]})  # as its program always has
    assert [(row["region"], row["user"]) for row in table(store, "cpu")] == [(None, 3.0), ("eu", 2.0)]
    with pytest.raises(SchemaError, match="no label column host"):
        store.write("cpu", {"time": [1], "region": ["eu"], "user": [3.0]})


def test_tags_that_can_be_no_label(store: Store) -> None:
    written(store, 'm,host=a x=1,s="t" 1000\n')
    long = "k" * 256
    faults = written(
        store,
        "m,host=a,x=1 s=\"u\" 2000\n"  # a field of the table
        "m,host=a,time=1 x=2 3000\n"
        f"m,host=a,{long}=1 x=3 4000\n"
        "m,host=a,fresh=1 x=\"text\" 5000\n"  # what it brings beside the tag is not taken
        "m,host=a,s=1 x=6 6000\n"
        "m,host=a,rack=1 x=7 7000\n"
        "m,host=a rack=1 8000\n",  # a label of this very body
    )  # fmt: skip
    assert [number for number, _ in faults] == [1, 2, 3, 4, 5, 7]
    assert "has the tag 'x', but in the table m it is a field of float64" in faults[0][1]
    assert "has the tag 'time', which is the time of a row" in faults[1][1]
    assert "has a tag that cannot be called" in faults[2][1]
    assert "has the tag 's', but in the table m it is a field of string" in faults[4][1]
    assert "has a field 'rack', which is a label of its table too" in faults[5][1]
    assert store.tables()["m"].labels == ("host", "rack")
    assert [row["time"] for row in table(store, "m")] == [1, 7]


def test_labels_are_not_without_number(store: Store) -> None:
    assert not written(store, "m,host=a x=1,y=1 1000\n")
    lines = [f"m,host=a,tag{number:03}=v x=1,y=1 {number + 2}000\n" for number in range(120)]
    faults = written(store, "".join(lines))
    assert [number for number, _ in faults] == list(range(100, 121))
    assert "has the tag 'tag099', which is one more than the 100 labels that the table m may have" in faults[0][1]
    assert len(store.tables()["m"].labels) == 100
    assert len(table(store, "m")) == 100
    assert not written(store, "m,tag000=v,tag098=w x=1,y=1 1000000\n")
    assert len(written(store, "m,tag200=v x=1,y=1 1000000\n")) == 1
    # nor are they of a table that is new
    tags = ",".join(f"t{number:03}=v" for number in range(101))
    assert len(written(store, f"other,{tags} x=1,y=1 1000\nother,t000=v x=1,y=1 2000\n")) == 1
    assert store.tables()["other"].labels == ("t000",)


def test_what_joins_keeps_to_its_series_beside_a_new_tag(store: Store) -> None:
    assert not written(store, "m,h=a x=1,y=1 1000\n")
    assert not written(store, "m,h=a,g=x x=5 1000\nm,h=a,g=x z=6 1000\nm,h=a z=7 1000\n")
    assert table(store, "m") == [
        {"time": 1, "h": "a", "g": None, "x": 1.0, "y": 1.0, "z": 7.0},
        {"time": 1, "h": "a", "g": "x", "x": 5.0, "y": None, "z": 6.0},
    ]


def test_first_writes_with_other_tags_at_once(store: Store) -> None:
    """Whoever comes second finds a table without his tags, and gives it labels."""
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        for step in range(1, 6):
            tags = f"host=h{number},tag{number % 4}=v,all=w{step}"
            assert not written(store, f"m,{tags} x=1,y{number}={step} {step}000\nm,host=h{number} x=2 {step}000\n")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert sorted(store.tables()["m"].labels) == ["all", "host", "tag0", "tag1", "tag2", "tag3"]
    rows = table(store, "m")
    assert len(rows) == 8 * 5 * 2
    for number in range(8):
        mine = [row for row in rows if row["host"] == f"h{number}"]
        assert [(row["time"], row["x"]) for row in mine] == [(step, x) for step in range(1, 6) for x in (2.0, 1.0)]
        assert [row[f"y{number}"] for row in mine] == [y for step in range(1, 6) for y in (None, float(step))]
        assert [row["all"] for row in mine] == [tag for step in range(1, 6) for tag in (None, f"w{step}")]


def test_a_tag_here_and_a_field_there_at_once(store: Store) -> None:
    """One of them is first; the other is told by line, and what else he wrote is taken."""
    for turn in range(6):
        name, barrier = f"m{turn}", threading.Barrier(4)
        assert not written(store, f"{name},host=a x=1,y=1 1\n")

        def write(number: int, name: str = name, barrier: threading.Barrier = barrier) -> int:
            barrier.wait()
            told = f"{name},host=a,clash=1 x=1,y=1" if number % 2 else f'{name},host=a x=1,y=1,clash="text"'
            return len(written(store, f"{told} {number}2000\n{name},host=b x={number},y=1 {number}3000\n"))

        with ThreadPoolExecutor(4) as pool:
            refused = list(pool.map(write, range(4)))
        assert refused == ([1, 0, 1, 0] if "clash" in store.tables()[name].labels else [0, 1, 0, 1])
        assert len(table(store, name)) == 1 + 4 + 2
