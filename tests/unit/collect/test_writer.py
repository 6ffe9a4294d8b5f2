"""From the collectors to the store: in order, once, and bounded when the store does not take rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from kymograph.collect.batch import SAMPLE_BYTES, Batch
from kymograph.collect.writer import Writer
from kymograph.errors import DiskFull, SchemaError, StoreClosed
from tests.unit.collect.recorder import Recorder, batch, until


@pytest.fixture
def sink() -> Recorder:
    return Recorder()


@pytest.fixture
def writer(sink: Recorder) -> Iterator[Writer]:
    writer = Writer(sink, max_rows=100)
    writer.start()
    yield writer
    sink.gate.set()
    writer.stop(0)


def test_batches_are_stored_once_and_in_order(writer: Writer, sink: Recorder) -> None:
    for number in range(50):
        writer.put(batch(number, samples=1))
    assert writer.stop(60)
    assert sink.times("t") == list(range(50))
    assert [sample.time for sample in sink.samples] == list(range(50))
    assert writer.backlog() == {"batches": 0, "rows": 0, "bytes": 0, "dropped_rows": 0, "last_error": ""}


def test_a_failing_store_gets_the_rows_when_it_recovers(writer: Writer, sink: Recorder) -> None:
    sink.fail = DiskFull("no room")
    for number in range(10):
        writer.put(batch(number))
    until(lambda: sink.calls >= 2)
    assert writer.backlog()["rows"] == 10
    assert "DiskFull: no room" in writer.backlog()["last_error"]
    sink.fail = None
    until(lambda: len(sink.rows) == 10)
    assert writer.stop(60)
    assert sink.times("t") == list(range(10))
    assert writer.backlog()["last_error"] == ""


def test_parts_that_were_stored_are_not_stored_again(writer: Writer, sink: Recorder) -> None:
    sink.fail, sink.fail_on = OSError("io"), "second"
    writer.put(batch(1, tables=("first", "second"), samples=3))
    until(lambda: sink.calls >= 4)
    assert writer.backlog()["rows"] == 4
    sink.fail = None
    assert writer.stop(60)
    assert [table for table, _ in sink.rows] == ["first", "second"]
    assert len(sink.samples) == 3


def test_what_can_never_be_stored_is_dropped_and_counted(writer: Writer, sink: Recorder) -> None:
    sink.fail, sink.fail_on = SchemaError("does not fit"), "bad"
    writer.put(batch(1, tables=("bad", "good")))
    writer.put(batch(2))
    assert writer.stop(60)
    assert [table for table, _ in sink.rows] == ["good", "t"]
    assert writer.dropped("test") == 1


def test_an_error_nobody_foresaw_is_tried_again_but_not_for_ever(writer: Writer, sink: Recorder) -> None:
    sink.fail, sink.fail_on = ZeroDivisionError("bug"), "bad"
    writer.put(batch(1, tables=("bad",)))
    writer.put(batch(2))
    until(lambda: sink.times("t") == [2])
    assert sink.calls == 6
    assert writer.dropped("test") == 1


def test_the_oldest_go_first_when_too_much_waits(writer: Writer, sink: Recorder) -> None:
    sink.fail = StoreClosed("closed")
    for number in range(250):
        writer.put(batch(number, source="even" if number % 2 == 0 else "odd"))
    assert 99 <= writer.backlog()["rows"] <= 101
    sink.fail = None
    assert writer.stop(60)
    times = sink.times("t")
    # the one being tried when it became too much may have survived
    assert times[-99:] == list(range(151, 250))
    dropped = writer.dropped("even") + writer.dropped("odd")
    assert dropped == writer.backlog()["dropped_rows"] == 250 - len(times)
    assert abs(writer.dropped("even") - writer.dropped("odd")) <= 2


def test_bytes_are_bounded_too(sink: Recorder) -> None:
    writer = Writer(sink, max_bytes=20 * SAMPLE_BYTES)
    for number in range(30):
        writer.put(batch(number, tables=(), samples=5))
    assert writer.backlog()["bytes"] == 20 * SAMPLE_BYTES
    assert writer.dropped("test") == 130
    writer.start()
    assert writer.stop(60)
    assert {sample.time for sample in sink.samples} == {26, 27, 28, 29}


def test_a_batch_larger_than_the_bound_is_not_lost(sink: Recorder) -> None:
    writer = Writer(sink, max_rows=5)
    writer.put(batch(1, samples=50))
    writer.start()
    assert writer.stop(60)
    assert len(sink.samples) == 50


def test_a_blocked_store_does_not_block_collectors(writer: Writer, sink: Recorder) -> None:
    sink.gate.clear()
    for number in range(500):
        writer.put(batch(number))
    assert writer.backlog()["rows"] <= 101
    assert not writer.stop(0.05)
    assert writer.dropped("test") >= 499


def test_stopping_tries_until_its_time_is_up(sink: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    sink.fail = DiskFull("no room")
    with caplog.at_level(logging.ERROR, "kymograph.collect"):
        for patience in (0.3, 3.0, 30.0):  # as much as a busy machine needs for a second try
            writer = Writer(sink)
            writer.start()
            writer.put(batch(1))
            sink.calls = 0
            assert not writer.stop(patience)
            if sink.calls > 1:
                break
    assert sink.calls > 1
    assert "1 collected rows could not be stored" in caplog.text
    assert writer.dropped("test") == 1


def test_after_stop_nothing_is_accepted(writer: Writer, sink: Recorder) -> None:
    assert writer.stop(60)
    writer.put(batch(1))
    assert writer.dropped("test") == 1
    assert sink.rows == []


def test_metadata_is_written_when_it_changes(writer: Writer, sink: Recorder) -> None:
    for meta in ({"kind": "gauge"}, {"kind": "gauge"}, {"kind": "gauge", "unit": "s", "help": "Time"}):
        writer.put(Batch("test", 0, describe={"a": meta}))
    assert writer.stop(60)
    assert sink.described == [("a", "gauge", None, None), ("a", "gauge", "s", "Time")]


def test_metadata_that_is_refused_does_not_hold_up_rows(writer: Writer, sink: Recorder) -> None:
    sink.fail, sink.fail_on = SchemaError("another kind"), "describe"
    writer.put(Batch("test", 7, {"t": {"time": [7]}}, describe={"a": {"kind": "gauge"}}))
    assert writer.stop(60)
    assert sink.times("t") == [7]
    assert writer.dropped("test") == 0


def test_a_failing_store_is_logged_once(writer: Writer, sink: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "kymograph.collect"):
        sink.fail = DiskFull("no room")
        writer.put(batch(1))
        until(lambda: sink.calls >= 4)
    assert caplog.text.count("no room") == 1
