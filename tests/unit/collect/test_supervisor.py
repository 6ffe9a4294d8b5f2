"""Recording as a whole: collectors that fail, hang or are absent, and whoever watches."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kymograph.collect import worker
from kymograph.collect.batch import Batch
from kymograph.collect.fanout import QUEUE, Fanout
from kymograph.collect.supervisor import Supervisor
from kymograph.errors import DiskFull, InvalidInput, MissingDependency
from tests.unit.collect.recorder import Recorder, until

INTERVAL = 100_000


class Ticker:
    """A collector of one row per turn; `act` runs first and may fail or hang."""

    def __init__(self, name: str = "ticker", act: Callable[[], None] | None = None, interval: int = INTERVAL) -> None:
        self.name, self.interval = name, interval
        self._act = act
        self.closed = False
        self.problem = ""

    def collect(self, now: int) -> Batch:
        if self._act is not None:
            self._act()
        return Batch(self.name, now, {self.name: {"time": [now], "value": [1]}}, problem=self.problem)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sink() -> Recorder:
    return Recorder()


@pytest.fixture
def run(sink: Recorder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Supervisor]]:
    """Starts supervisors and stops them; the pauses that grow from a second are made short."""
    monkeypatch.setattr(worker, "backoff", lambda failures, jitter: 1_000)
    started: list[Supervisor] = []

    def run(*collectors: Any, **options: Any) -> Supervisor:
        supervisor = Supervisor(sink, collectors, **options)
        started.append(supervisor)
        supervisor.start()
        return supervisor

    yield run
    sink.gate.set()
    for supervisor in started:
        supervisor.stop(5)


def state(supervisor: Supervisor, number: int = 0) -> str:
    return str(supervisor.health()[number]["state"])


def test_rows_are_stored_once_on_the_grid_whoever_watches(run: Callable[..., Supervisor], sink: Recorder) -> None:
    seen: list[list[Batch]] = [[], [], []]
    supervisor = run(Ticker("a"), Ticker("b"))
    for each in seen:
        supervisor.subscribe(each.append)
    supervisor.subscribe(seen[0].append)
    until(lambda: len(sink.times("a")) >= 4)
    # snapped stamps; a busy machine may be late now and then
    until(lambda: any(at % INTERVAL == 0 for at in sink.times("a")))
    until(lambda: all(any(batch.source == "a" for batch in each) for each in seen))
    assert supervisor.stop(60)
    for name in ("a", "b"):
        times = sink.times(name)
        assert len(times) == len(set(times))
        assert times == sorted(times)
    for each in seen:
        assert {batch.time for batch in each if batch.source == "a"} <= set(sink.times("a"))


def test_health_before_and_after_the_first_turn(run: Callable[..., Supervisor]) -> None:
    supervisor = run(Ticker(interval=86_400 * 10**6), Ticker("b"))
    until(lambda: state(supervisor, 1) == "running")
    waiting, running = supervisor.health()
    assert waiting == {
        "name": "ticker",
        "state": "waiting",
        "last_success": None,
        "last_error": "",
        "restarts": 0,
        "interval_s": 86400.0,
        "dropped_rows": 0,
    }
    assert abs(running["last_success"] - time.time_ns() // 1000) < 60 * 10**6
    assert running["interval_s"] == 0.1


def test_a_failing_collector_starts_afresh_and_recovers(
    run: Callable[..., Supervisor], sink: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Ticker] = []
    broken = True

    def act() -> None:
        if broken:
            raise ValueError("sensor burnt")

    def make() -> Ticker:
        made.append(Ticker(act=act))
        return made[-1]

    with caplog.at_level(logging.INFO, "kymograph.collect"):
        supervisor = run(make, Ticker("other"))
        until(lambda: supervisor.health()[0]["restarts"] >= 3)
        assert state(supervisor) == "failing"
        assert supervisor.health()[0]["last_error"] == "ValueError: sensor burnt"
        broken = False
        until(lambda: state(supervisor) == "running")
        until(lambda: len(sink.times("other")) >= 3)
        supervisor.stop()
    assert all(each.closed for each in made)
    assert len(made) >= 4
    # said once, however often it failed
    assert caplog.text.count("sensor burnt") == 1
    assert "ticker works again" in caplog.text


def test_a_factory_that_fails_later_is_a_failure(run: Callable[..., Supervisor]) -> None:
    made = 0

    def act() -> None:
        if made < 4:
            raise OSError("first")

    def make() -> Ticker:
        nonlocal made
        made += 1
        if made in (2, 3):
            raise RuntimeError("cannot be made")
        return Ticker(act=act)

    supervisor = run(make)
    until(lambda: "cannot be made" in supervisor.health()[0]["last_error"])
    until(lambda: state(supervisor) == "running")


def test_a_bare_collector_is_kept_over_failures(run: Callable[..., Supervisor]) -> None:
    turns = 0

    def act() -> None:
        nonlocal turns
        turns += 1
        if turns < 3:
            raise OSError

    collector = Ticker(act=act)
    supervisor = run(collector)
    until(lambda: state(supervisor) == "running")
    assert supervisor.health()[0]["restarts"] == 0
    assert supervisor.health()[0]["last_error"] == "OSError"
    assert not collector.closed
    supervisor.stop()
    assert collector.closed


def test_a_hanging_collector_is_replaced_and_its_late_result_dropped(
    run: Callable[..., Supervisor], sink: Recorder
) -> None:
    release = threading.Event()
    made: list[Ticker] = []

    def make() -> Ticker:
        # the first one is only asked for its name and interval, then used
        stuck = Ticker("stuck", act=lambda: release.wait(200) and None)
        made.append(stuck if not made else Ticker("stuck"))
        return made[-1]

    supervisor = run(make, Ticker("other"), hang_after=0.3)
    until(lambda: supervisor.health()[0]["restarts"] >= 1)
    until(lambda: state(supervisor) == "running")
    assert "no answer" in supervisor.health()[0]["last_error"]
    until(lambda: len(sink.times("other")) >= 2)
    assert not made[0].closed
    before = len(sink.times("stuck"))
    release.set()
    until(lambda: made[0].closed)
    until(lambda: len(sink.times("stuck")) > before + 1)
    assert supervisor.stop(60)
    times = sink.times("stuck")
    assert times == sorted(times)


def test_stuck_threads_do_not_pile_up(run: Callable[..., Supervisor]) -> None:
    release = threading.Event()
    supervisor = run(lambda: Ticker(act=lambda: release.wait(200) and None), hang_after=0.05)
    until(lambda: supervisor.health()[0]["restarts"] == worker.STUCK_MOST - 1)
    # one look more than it would take to notice the next
    time.sleep(0.3)
    assert supervisor.health()[0]["restarts"] == worker.STUCK_MOST - 1
    assert state(supervisor) == "hung"
    release.set()
    until(lambda: state(supervisor) == "running")


def test_a_bare_collector_that_hung_goes_on_when_it_returns(run: Callable[..., Supervisor], sink: Recorder) -> None:
    release = threading.Event()
    supervisor = run(Ticker("stuck", act=lambda: release.wait(200) and None), hang_after=0.2)
    until(lambda: state(supervisor) == "hung")
    assert sink.times("stuck") == []
    late = time.time_ns() // 1000
    release.set()
    until(lambda: state(supervisor) == "running")
    until(lambda: sink.times("stuck"))
    assert sink.times("stuck")[0] >= late - INTERVAL


def test_what_is_not_there_is_no_failure(
    run: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "ABSENT_PAUSE", 1_000)
    missing, turns = True, 0

    def act() -> None:
        nonlocal turns
        turns += 1
        if missing:
            raise MissingDependency("no driver here")

    with caplog.at_level(logging.INFO, "kymograph.collect"):
        supervisor = run(lambda: Ticker(act=act))
        until(lambda: state(supervisor) == "absent" and turns >= 3)
        missing = False
        until(lambda: state(supervisor) == "running")
    assert supervisor.health()[0]["restarts"] == 0
    assert [record.levelno for record in caplog.records if "no driver here" in record.message] == [logging.INFO]


def test_a_problem_of_the_thing_observed_is_shown_and_its_rows_are_stored(
    run: Callable[..., Supervisor], sink: Recorder
) -> None:
    collector = Ticker("target")
    collector.problem = "does not answer"
    supervisor = run(collector)
    until(lambda: len(sink.times("target")) >= 2)
    assert state(supervisor) == "failing"
    assert supervisor.health()[0]["last_error"] == "does not answer"
    collector.problem = ""
    until(lambda: state(supervisor) == "running")


def test_subscribers_see_batches_while_the_store_fails(run: Callable[..., Supervisor], sink: Recorder) -> None:
    sink.fail = DiskFull("no room")
    seen: list[Batch] = []
    supervisor = run(Ticker())
    supervisor.subscribe(seen.append)
    until(lambda: len(seen) >= 3)
    assert sink.rows == []
    assert supervisor.backlog()["rows"] >= 2
    sink.fail = None
    until(lambda: {batch.time for batch in seen} <= set(sink.times("ticker")))
    assert supervisor.stop(60)
    assert supervisor.health()[0]["dropped_rows"] == 0


def test_a_blocked_and_a_failing_subscriber_hold_up_nobody(
    run: Callable[..., Supervisor], sink: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    quick: list[int] = []

    def fail(batch: Batch) -> None:
        raise ZeroDivisionError("a viewer's bug")

    supervisor = run(Ticker())
    for callback in (lambda _: gate.wait(200), fail, lambda batch: quick.append(batch.time)):
        supervisor.subscribe(callback)
    until(lambda: len(quick) >= 4)
    until(lambda: len(sink.times("ticker")) >= 4)
    until(lambda: "a subscriber failed" in caplog.text)
    gate.set()
    assert caplog.text.count("a subscriber failed") == 1


def test_a_slow_subscriber_loses_old_batches() -> None:
    gate, entered = threading.Event(), threading.Event()
    seen: list[int] = []

    def wait(batch: Batch) -> None:
        entered.set()
        gate.wait(200)
        seen.append(batch.time)

    fanout = Fanout()
    fanout.subscribe(wait)
    fanout.publish(Batch("flood", 0))
    assert entered.wait(60)
    for number in range(1, 3 * QUEUE):
        fanout.publish(Batch("flood", number))
    gate.set()
    until(lambda: len(seen) == QUEUE + 1)
    fanout.stop()
    assert seen == [0, *range(2 * QUEUE, 3 * QUEUE)]


def test_after_unsubscribing_nothing_comes(run: Callable[..., Supervisor]) -> None:
    seen: list[Batch] = []
    watching: list[Batch] = []
    supervisor = run(Ticker())
    supervisor.subscribe(seen.append)
    until(lambda: seen)
    supervisor.unsubscribe(seen.append)
    supervisor.unsubscribe(seen.append)
    supervisor.subscribe(watching.append)
    count = len(seen)
    until(lambda: len(watching) >= 3)
    assert len(seen) <= count + 1


def test_stop_stores_a_turn_under_way(run: Callable[..., Supervisor], sink: Recorder) -> None:
    entered = threading.Event()

    def act() -> None:
        entered.set()
        time.sleep(0.2)

    supervisor = run(Ticker(act=act))
    assert entered.wait(60)
    assert supervisor.stop(60)
    assert len(sink.times("ticker")) >= 1


def test_stop_does_not_wait_for_a_hang(run: Callable[..., Supervisor]) -> None:
    release = threading.Event()
    entered = threading.Event()
    supervisor = run(Ticker(act=lambda: entered.set() or (release.wait(200) and None)))
    assert entered.wait(60)
    began = time.monotonic()
    assert supervisor.stop(0.4)
    assert time.monotonic() - began < 60
    release.set()


def test_what_cannot_be_supervised(sink: Recorder) -> None:
    with pytest.raises(InvalidInput, match="two collectors are called"):
        Supervisor(sink, [Ticker(), Ticker()])
    with pytest.raises(InvalidInput, match="interval"):
        Supervisor(sink, [Ticker(interval=99_999)])


def test_a_class_is_a_factory(sink: Recorder) -> None:
    class Fixed(Ticker):
        name = "fixed"
        interval = INTERVAL

        def __init__(self) -> None:
            super().__init__("fixed")

    with Supervisor(sink, [Fixed]) as supervisor:
        until(lambda: sink.times("fixed"))
        assert supervisor.health()[0]["name"] == "fixed"
