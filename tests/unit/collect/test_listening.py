"""StatsD and Graphite over real sockets: what comes is summed up and recorded, what is too much is not kept."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from kymograph.collect.batch import Batch
from kymograph.collect.graphite import GraphiteCollector
from kymograph.collect.listening import LineListener, parse_address
from kymograph.collect.scrape import STALE_BITS
from kymograph.collect.statsd import StatsdCollector
from kymograph.collect.supervisor import Supervisor
from kymograph.errors import InvalidInput
from tests.server.running import eventually
from tests.unit.collect.recorder import Recorder

SECOND = 10**6
NOW = 1_700_000_000 * SECOND


def tcp(address: tuple[str, int], data: bytes) -> None:
    with socket.create_connection(address, timeout=60) as wire:
        wire.sendall(data)


def udp(address: tuple[str, int], data: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.sendto(data, address)


@pytest.fixture
def listener() -> Iterator[LineListener]:
    found = LineListener("127.0.0.1", 0, max_line=100, max_connections=3, max_bytes=10_000)
    found.open()
    with closing(found):
        yield found


def taken(listener: LineListener, count: int) -> tuple[list[str], int]:
    """Lines and drops, once there are so many together."""
    lines: list[str] = []
    dropped = 0

    def enough() -> bool:
        nonlocal dropped
        fresh, gone = listener.take()
        lines.extend(fresh)
        dropped += gone
        return len(lines) + dropped >= count

    assert eventually(enough), (lines, dropped)
    return lines, dropped


@pytest.mark.parametrize("send", [tcp, udp])
def test_lines_of_either_kind(listener: LineListener, send: Callable[..., None]) -> None:
    send(listener.address, b"one\r\ntwo\n\nthree \xff")
    assert taken(listener, 3) == (["one", "two", "three \ufffd"], 0)


def test_a_line_may_come_in_pieces(listener: LineListener) -> None:
    with socket.create_connection(listener.address) as wire:
        wire.sendall(b"a")
        wire.sendall(b"b\nc")
        assert taken(listener, 1) == (["ab"], 0)
        wire.sendall(b"d\n")
        assert taken(listener, 1) == (["cd"], 0)


def test_a_line_that_is_too_long_is_dropped_and_the_next_one_taken(listener: LineListener) -> None:
    with socket.create_connection(listener.address) as wire:
        for _ in range(200):
            wire.sendall(b"x" * 1000)
        wire.sendall(b"\ngood\n")
        assert taken(listener, 2) == (["good"], 1)
    udp(listener.address, b"y" * 500 + b"\ngood")
    assert taken(listener, 2) == (["good"], 1)


def test_memory_is_bounded(listener: LineListener) -> None:
    with socket.create_connection(listener.address, timeout=60) as wire:
        wire.sendall(b"0123456789\n" * 10_000)
        wire.shutdown(socket.SHUT_WR)
        assert wire.recv(1) == b""  # all of it was read, and nobody took any yet
    lines, dropped = taken(listener, 10_000)
    assert dropped > 5_000
    assert sum(map(len, lines)) <= 10_000


def test_connections_are_bounded(listener: LineListener) -> None:
    wires = [socket.create_connection(listener.address) for _ in range(3)]
    for number, wire in enumerate(wires):
        wire.sendall(b"%d\n" % number)
    assert sorted(taken(listener, 3)[0]) == ["0", "1", "2"]
    with socket.create_connection(listener.address, timeout=60) as more:
        assert more.recv(1) == b""
    for wire in wires:
        wire.close()

    def welcome() -> bool:
        with socket.create_connection(listener.address, timeout=60) as wire:
            wire.sendall(b"again\n")
            wire.shutdown(socket.SHUT_WR)
            try:
                wire.recv(1)
            except ConnectionError:
                return False
        return bool(listener.take()[0])

    assert eventually(welcome)


def test_a_taken_port_is_told() -> None:
    with socket.socket() as taken_port:
        taken_port.bind(("127.0.0.1", 0))
        taken_port.listen()
        collector = GraphiteCollector(f"127.0.0.1:{taken_port.getsockname()[1]}")
        with pytest.raises(OSError, match="cannot listen on"):
            collector.collect(NOW)
        collector.close()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)), (":1", ("127.0.0.1", 1)), ("1", ("127.0.0.1", 1)), ("box", ("box", 9)),
        ("[::1]:5", ("::1", 5)), ("[::1]", ("::1", 9)), ("0.0.0.0:0", ("0.0.0.0", 0)), ("", ("127.0.0.1", 9)),
    ],
)  # fmt: skip
def test_addresses(text: str, found: tuple[str, int]) -> None:
    assert parse_address(text, 9) == found


@pytest.mark.parametrize("text", ["a:b", "a:-1", "a:65536", "a:99999999", "a:1:x"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_address(text, 9)


class Told:
    """Samples of a collector by series, gathered over its turns."""

    def __init__(self, collector: Any) -> None:
        self.collector = collector
        self.now = NOW
        self.collect()

    def collect(self, after: int = 0) -> Batch:
        self.now += after
        batch: Batch = self.collector.collect(self.now)
        self.problem = batch.problem
        self.samples = {(s.name, tuple(sorted(s.labels.items()))): s for s in batch.samples}
        return batch

    def send(self, text: str, how: Callable[..., None] = tcp) -> None:
        """Send lines and wait until they were received."""
        listener = self.collector.listener
        # each block that is kept lacks at most one line feed
        before = listener._bytes + len(listener._waiting)
        how(listener.address, text.encode())
        assert eventually(lambda: listener._bytes + len(listener._waiting) >= before + len(text))

    def value(self, name: str, **labels: str) -> float:
        return float(self.samples[name, tuple(sorted(labels.items()))].value)


@pytest.fixture
def statsd() -> Iterator[Told]:
    with closing(StatsdCollector("127.0.0.1:0", max_series=50)) as collector:
        yield Told(collector)


def test_counters_grow_and_are_weighed(statsd: Told) -> None:
    statsd.send("hits:1|c\nhits:2|c|@0.5\nhits:1|c|#path:/a\n")
    statsd.send("hits:1|c", udp)
    assert not statsd.collect(SECOND).samples
    batch = statsd.collect(10 * SECOND)
    assert statsd.value("hits") == 6
    assert statsd.value("hits", path="/a") == 1
    assert batch.samples[0].time == NOW + 10 * SECOND
    assert batch.describe["hits"]["kind"] == "counter"
    statsd.send("hits:4|c")
    statsd.collect(10 * SECOND)
    assert statsd.value("hits") == 10
    assert statsd.value("hits", path="/a") == 1  # told again although nothing came


def test_gauges_are_set_and_changed(statsd: Told) -> None:
    statsd.send("g:10|g\ng:-3|g\ng:+0.5|g\nh:5|g\nh:7|g\n")
    statsd.collect(10 * SECOND)
    assert (statsd.value("g"), statsd.value("h")) == (7.5, 7)
    statsd.send("g:+1|g")
    statsd.collect(10 * SECOND)
    assert (statsd.value("g"), statsd.value("h")) == (8.5, 7)


def test_timers_have_totals_and_quantiles_of_the_flush(statsd: Told) -> None:
    statsd.send("".join(f"wait:{n}|ms\n" for n in range(1, 101)) + "wait:1000|ms|@0.1\n")
    statsd.collect(10 * SECOND)
    assert statsd.value("wait_count") == 110
    assert statsd.value("wait_sum") == 5050 + 10_000
    assert (statsd.value("wait_min"), statsd.value("wait_max")) == (1, 1000)
    values = [*range(1, 101), 1000]
    for share in (0.5, 0.9, 0.95, 0.99):
        assert statsd.value("wait", quantile=str(share)) == pytest.approx(np.quantile(values, share))
    batch = statsd.collect(10 * SECOND)
    assert {sample.name for sample in batch.samples} == {"wait_count", "wait_sum"}


def test_sets_count_their_members_per_flush(statsd: Told) -> None:
    statsd.send("users:a|s\nusers:b|s\nusers:a|s\n")
    statsd.collect(10 * SECOND)
    assert statsd.value("users") == 2
    statsd.collect(10 * SECOND)
    assert statsd.value("users") == 0


def test_lines_with_a_time_are_kept_as_they_are(statsd: Told) -> None:
    statsd.send("x:5|c|T1600000000\ny:6|g|T0\n")
    batch = statsd.collect(SECOND)
    assert [(s.name, s.value, s.time, s.kind) for s in batch.samples] == [
        ("x", 5, 1_600_000_000 * SECOND, "counter"), ("y", 6, 0, "gauge"),
    ]  # fmt: skip


def test_broken_lines_are_told_until_the_flush(statsd: Told) -> None:
    statsd.send("good:1|c\nbroken\nx:1|q\n")
    statsd.collect(SECOND)
    assert "2 lines could not be read" in statsd.problem
    assert "'broken'" in statsd.problem
    statsd.collect(10 * SECOND)
    assert statsd.value("good") == 1
    statsd.collect(SECOND)
    assert not statsd.problem


def test_a_series_of_another_kind_is_refused(statsd: Told) -> None:
    statsd.send("x:1|c\nx:1|g\n")
    statsd.collect(SECOND)
    assert "x is a counter" in statsd.problem


def test_series_are_bounded_and_silent_ones_end(statsd: Told) -> None:
    statsd.send("".join(f"s{n}:1|c\n" for n in range(60)))
    assert len(statsd.collect(10 * SECOND).samples) == 50
    assert "10 lines could not be read" in statsd.problem
    assert "50 series already" in statsd.problem
    batch = statsd.collect(3601 * SECOND)
    bits = np.array([sample.value for sample in batch.samples]).view(np.uint64)
    assert set(bits.tolist()) == {STALE_BITS}
    statsd.send("fresh:1|c\n")
    assert len(statsd.collect(10 * SECOND).samples) == 1


def test_a_busy_timer_keeps_a_fair_choice(statsd: Told) -> None:
    for part in range(3):
        statsd.send("".join(f"t:{n}|ms\n" for n in range(part * 10_000, (part + 1) * 10_000)))
        statsd.collect()
    statsd.collect(10 * SECOND)
    assert statsd.value("t_count") == 30_000
    assert statsd.value("t", quantile="0.5") == pytest.approx(15_000, rel=0.1)


def test_the_end_of_recording_loses_nothing() -> None:
    """What came since the last flush is stored when the supervisor stops."""
    recorder = Recorder()
    made: list[Any] = [StatsdCollector("127.0.0.1:0"), GraphiteCollector("127.0.0.1:0", SECOND // 2)]
    with Supervisor(recorder, made) as supervisor:
        assert eventually(lambda: all(each["state"] == "running" for each in supervisor.health()))
        tcp(made[0].listener.address, b"hits:5|c\nwait:3|ms\n")
        tcp(made[1].listener.address, b"room.temp 21 1600000000\n")
        assert eventually(lambda: made[0]._series.keys() >= {("hits", ()), ("wait", ())} or made[0].listener._bytes)
        assert eventually(lambda: made[1].listener._bytes or any(s.name == "room_temp" for s in recorder.samples))
    assert {("hits", 5.0), ("wait_count", 1.0), ("room_temp", 21.0)} <= {(s.name, s.value) for s in recorder.samples}


def test_graphite_lines_are_samples() -> None:
    with closing(GraphiteCollector("127.0.0.1:0")) as collector:
        graphite = Told(collector)
        graphite.send("servers.web1.load 1.5 1600000000\nservers.web1.load;dc=x 2 -1\nbroken line here\nold 3 -100\n")
        batch = graphite.collect(SECOND)
        assert [(s.name, s.labels, s.value, s.time) for s in batch.samples] == [
            ("servers_web1_load", {}, 1.5, 1_600_000_000 * SECOND),
            ("servers_web1_load", {"dc": "x"}, 2, graphite.now),
            ("old", {}, 3, -100 * SECOND),
        ]
        assert "1 lines could not be read" in graphite.problem
