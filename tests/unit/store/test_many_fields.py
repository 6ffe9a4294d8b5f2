"""A table has at most so many fields: a sender that invents names is told so, and what fits is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

import kymograph
from kymograph.errors import InvalidInput, LimitExceeded
from kymograph.options import StoreOptions

START = 1_700_000_000


def line(number: int, fields: str) -> str:
    return f"m,host=a {fields} {START + number}"


def test_lines_with_one_too_many_are_named(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path, max_fields=3, sync="off") as store:
        body = [
            line(0, "a=1,b=2"),
            line(1, "a=3,c=4"),
            line(2, "d=5,a=6"),
            line(3, "c=7"),
            line(4, "e=8"),
            line(5, "a=9"),
        ]
        report = store.write_lines("\n".join(body), precision="s")
        assert report.rows == 4
        assert [(fault.line, fault.message) for fault in report.faults] == [
            (3, "has the field 'd', which is one more than the 3 fields that the table m may have"),
            (5, "has the field 'e', which is one more than the 3 fields that the table m may have"),
        ]
        assert [name for name, _ in store.tables()["m"].fields] == ["a", "b", "c"]
        # and so it is with the next body, in which what is known goes on being stored
        report = store.write_lines("\n".join([line(6, "f=1"), line(7, "b=1")]), precision="s")
        assert (report.rows, [fault.line for fault in report.faults]) == (1, [1])
        assert store.scan("m").num_rows == 5


def test_a_field_that_fits_is_not_kept_out_by_one_that_does_not(tmp_path: Path) -> None:
    """A line that is refused takes no room."""
    with kymograph.connect(tmp_path, max_fields=3, sync="off") as store:
        body = [line(0, "a=1,b=1"), line(1, "c=1,d=1,e=1"), line(2, "x=1")]
        report = store.write_lines("\n".join(body), precision="s")
        assert (report.rows, [fault.line for fault in report.faults]) == (2, [2])
        assert [name for name, _ in store.tables()["m"].fields] == ["a", "b", "x"]


def test_by_every_way_in(tmp_path: Path) -> None:
    told = r"table t would have 3 fields, the limit is 2 .*max_fields"
    with kymograph.connect(tmp_path, max_fields=2, sync="off") as store:
        for work in (
            lambda: store.create_table("t", ["host"], {"a": "int8", "b": "int8", "c": "int8"}),
            lambda: store.write("t", {"time": [1], "a": [1.0], "b": [1.0], "c": [1.0]}),
        ):
            with pytest.raises(LimitExceeded, match=told):
                work()
            assert "t" not in store.tables()
        store.write("t", {"time": [1], "a": [1.0], "b": [1.0]})
        for work in (
            lambda: store.write("t", {"time": [2], "c": [1.0]}),
            lambda: store.add_columns("t", fields={"c": "int8"}),
        ):
            with pytest.raises(LimitExceeded, match=told):
                work()
        store.add_columns("t", ["host"])
        assert store.scan("t").num_rows == 1


def test_what_is_there_stays(tmp_path: Path) -> None:
    """A table of a time with a higher limit, or none, is written to as before."""
    many = {f"f{number}": [1.0] for number in range(50)}
    with kymograph.connect(tmp_path, max_fields=None, sync="off") as store:
        store.write("t", {"time": [1], **many})
    with kymograph.connect(tmp_path, max_fields=10, sync="off") as store:
        assert store.write("t", {"time": [2], **many}) == 1
        assert store.write_lines("t f1=2.5 3\nt g=1 4", precision="s").rows == 1
        with pytest.raises(LimitExceeded, match="would have 51 fields"):
            store.write("t", {"time": [3], "g": [1.0]})


def test_the_limit_as_it_is(tmp_path: Path) -> None:
    assert StoreOptions().max_fields == 1000
    with kymograph.connect(tmp_path, sync="off") as store:
        body = ",".join(f"f{number}=1" for number in range(1000))
        assert store.write_lines(f"m {body} 1\nm g=1 2", precision="s").rows == 1
    for wrong in (-1, 0, True, "many", 1.5):
        with pytest.raises(InvalidInput):
            StoreOptions(max_fields=wrong)  # type: ignore[arg-type]
