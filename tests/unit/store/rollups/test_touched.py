"""Notes of late writes: durable before the write, and kept while a writer is under way."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from kymograph.engine.memory import MemoryEngine
from kymograph.model.time import MINUTE
from kymograph.store.rollups.touched import DOCUMENT, Touched, Watch

LATE = np.array([5 * MINUTE + 1, 6 * MINUTE, 9 * MINUTE], np.int64)


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
def touched(engine: MemoryEngine) -> Touched:
    found = Touched(engine)
    found.watch(Watch("r", ("t",), MINUTE, 20 * MINUTE))
    return found


def test_late_writes_are_noted_before_they_are_made(engine: MemoryEngine, touched: Touched) -> None:
    with touched.writing("t", LATE):
        assert engine.get_document(DOCUMENT, "r") == [[5 * MINUTE, 7 * MINUTE, False], [9 * MINUTE, 10 * MINUTE, False]]
    assert Touched(engine).ranges("r") == [(5 * MINUTE, 7 * MINUTE), (9 * MINUTE, 10 * MINUTE)]


def test_others_are_not(engine: MemoryEngine, touched: Touched) -> None:
    with touched.writing("t", LATE + 20 * MINUTE), touched.writing("other", LATE):
        pass
    assert touched.ranges("r") == []
    assert engine.get_document(DOCUMENT, "r") is None


def test_a_note_stays_while_its_writer_is_under_way(touched: Touched) -> None:
    with touched.writing("t", LATE):
        assert touched.take("r") == ([], [])
        touched.clear("r", done=True)
        assert touched.ranges("r")
    ranges, deleted = touched.take("r")
    assert len(ranges) == 2
    assert deleted == []
    # somebody writes there again while it is being made anew
    with touched.writing("t", LATE[:1]):
        pass
    touched.clear("r", done=True)
    assert touched.ranges("r") == [(5 * MINUTE, 6 * MINUTE)]


def test_what_failed_is_taken_again(touched: Touched) -> None:
    with touched.writing("t", LATE):
        pass
    first = touched.take("r")
    touched.clear("r", done=False)
    assert touched.take("r") == first


def test_deletions_are_told_apart(touched: Touched) -> None:
    with touched.deleting("t", MINUTE + 1, 30 * MINUTE):
        pass
    with touched.writing("t", LATE):
        pass
    assert touched.take("r") == ([(MINUTE, 20 * MINUTE)], [(MINUTE, 20 * MINUTE)])


def test_a_write_that_fails_leaves_its_note(touched: Touched) -> None:
    with pytest.raises(ZeroDivisionError), touched.writing("t", LATE):
        raise ZeroDivisionError
    assert len(touched.take("r")[0]) == 2


def test_raising_waits_for_writers_that_were_in_time(touched: Touched) -> None:
    inside, go_on, raised = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        with touched.writing("t", np.array([25 * MINUTE])):
            inside.set()
            go_on.wait(60)

    def advance() -> None:
        touched.raise_to("r", 30 * MINUTE)
        raised.set()

    threads = [threading.Thread(target=write), threading.Thread(target=advance)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    # whoever writes below the new time from here on is late
    while touched.watched("t")[0].upto != 30 * MINUTE:
        pass
    assert touched.upto("r") == 20 * MINUTE
    with touched.writing("t", np.array([26 * MINUTE])):
        pass
    assert touched.ranges("r") == [(26 * MINUTE, 27 * MINUTE)]
    assert not raised.is_set()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert raised.is_set()


def test_a_shut_table_takes_no_late_writes(touched: Touched) -> None:
    done = threading.Event()

    def write() -> None:
        with touched.writing("t", LATE):
            done.set()

    thread = threading.Thread(target=write)
    with touched.shut("t", 10 * MINUTE):
        with touched.writing("t", np.array([10 * MINUTE])):
            pass
        thread.start()
        assert not done.wait(0.05)
    thread.join(60)
    assert done.is_set()


def test_many_notes_become_fewer(touched: Touched, engine: MemoryEngine) -> None:
    touched.watch(Watch("wide", ("u",), 1_000_000, 10**15))
    times = np.arange(0, 4_000 * 1_000_000, 2_000_000)
    with touched.writing("u", times):
        pass
    ranges = touched.ranges("wide")
    assert 1 < len(ranges) <= 1024
    assert all(any(start <= time < end for start, end in ranges) for time in times[::97].tolist())
    assert Touched(engine).ranges("wide") == ranges


def test_losses_are_remembered(engine: MemoryEngine, touched: Touched) -> None:
    touched.lose("t", 5 * MINUTE)
    touched.lose("t", 3 * MINUTE)
    assert Touched(engine).lost("t") == 5 * MINUTE
