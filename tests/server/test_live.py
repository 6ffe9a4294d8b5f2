"""The live stream: what it says, how often, to how many, and what it costs whom."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from kymograph.collect.batch import Batch
from kymograph.collect.simulate import SimulateCollector
from kymograph.errors import DiskFull
from kymograph.server.limits import Limits
from kymograph.server.live import Hub
from kymograph.store.metrics import Sample
from tests.server.running import Running, eventually, running


def test_every_message_has_each_gpu_and_the_host(living: Running) -> None:
    with connect(living.stream + "?interval=0.2", proxy=None) as stream:
        frames = [json.loads(stream.recv(60))]

        def goes_on() -> bool:
            frames.append(json.loads(stream.recv(60)))
            return bool(frames[-1]["gpus"][0]["timestamp"] > frames[0]["gpus"][0]["timestamp"])

        assert eventually(goes_on)
    last = frames[-1]
    assert [gpu["gpu_index"] for gpu in last["gpus"]] == [0, 1, 2]
    assert {gpu["source"] for gpu in last["gpus"]} == {"simulated"}
    assert all(gpu["temperature"] > 0 and gpu["power_draw"] > 0 and gpu["memory_total"] > 0 for gpu in last["gpus"])
    assert last["host"]["hostname"] == socket.gethostname()
    assert 0 <= last["host"]["mem_used_percent"] <= 100
    assert last["timestamp"] > frames[0]["timestamp"]


def test_the_filter_leaves_one_gpu(living: Running) -> None:
    with connect(living.stream + "?interval=0.1&gpu_index=1", proxy=None) as stream:
        for _ in range(3):
            assert [gpu["gpu_index"] for gpu in json.loads(stream.recv(60))["gpus"]] == [1]
    with connect(living.stream + "?gpu_index=77", proxy=None) as stream:
        assert json.loads(stream.recv(60))["gpus"] == []


def test_the_interval_is_kept(living: Running) -> None:
    """By the server's clock: whoever reads late is given what was made in time."""

    def seconds() -> float:
        with connect(living.stream + "?interval=0.3", proxy=None) as stream:
            return _seconds([stream.recv(60) for _ in range(5)])

    # never earlier; later only where the machine has something else to do
    assert (took := seconds()) > 1.15
    assert took <= 3.0 or eventually(lambda: seconds() <= 3.0)


@pytest.mark.parametrize(
    "query",
    [
        "interval=0.09",
        "interval=60.1",
        "interval=nan",
        "interval=inf",
        "interval=-1",
        "interval=",
        "interval=abc",
        "interval=" + "9" * 400,
        "interval=1e999",
        "gpu_index=-1",
        "gpu_index=1.5",
        "gpu_index=abc",
        "gpu_index=" + "1" * 50,
        "gpu_index=%F0%9F%98%80",
        "interval=%D9%A1%00",
    ],
)
def test_bad_parameters_are_refused_with_the_usual_error(living: Running, query: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        _refused(f"{living.stream}?{query}")
    assert caught.value.response.status_code == 400
    assert json.loads(caught.value.response.body)["error"]["code"] == "invalid_input"


def test_rows_are_stored_once_however_many_watch() -> None:
    """Fifty clients: each sees frames, each frame is encoded once, the store has one row per GPU and turn."""
    with running(collectors=[partial(SimulateCollector, 2, 200_000)]) as server:
        began = time.monotonic()
        with ExitStack() as clients:
            streams = [
                clients.enter_context(connect(server.stream + "?interval=0.5", proxy=None, max_queue=None))
                for _ in range(50)
            ]
            for _ in range(4):
                for stream in streams:
                    assert "timestamp" in json.loads(stream.recv(60))
            assert server.state.hub.watchers == 50
            # one frame per interval, not per client; clients that joined later saw the same ones
            assert server.state.hub.frames <= (time.monotonic() - began) / 0.5 + 20
        assert eventually(lambda: server.state.hub.watchers == 0)
        assert server.state.supervisor is not None
        assert server.state.supervisor.stop(60)  # nothing is written between the two looks that follow
        store = server.state.slot.get()
        times = store.scan("gpu_metrics", columns=["time", "gpu_uuid"])
        assert times.num_rows == len(set(zip(*times.to_pydict().values(), strict=True)))
        assert server.state.slot.rows == times.num_rows


def test_a_client_that_floods_is_closed(living: Running) -> None:
    with connect(living.stream, proxy=None) as stream:
        with pytest.raises(ConnectionClosed) as caught:
            _flood(stream)
        assert caught.value.rcvd is None or caught.value.rcvd.code == 1008
    with connect(living.stream, proxy=None) as stream:
        stream.send("x" * 100_000)
        with pytest.raises(ConnectionClosed) as caught:
            _drain(stream)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009
    with living.client() as http:
        assert http.get("/api/health").status_code == 200


def test_messages_of_a_client_are_ignored(living: Running) -> None:
    with connect(living.stream + "?interval=0.1", proxy=None) as stream:
        for message in ("", "{}", "\U0001f600", b"\xff\xfe", '{"interval": 0}'):
            stream.send(message)
            assert json.loads(stream.recv(60))["gpus"]


def test_a_slow_reader_loses_frames_and_nothing_else() -> None:
    """A client that does not read gets the newest frame later; meanwhile others are served and no queue grows."""
    with running(collectors=[partial(SimulateCollector, 200, 100_000)]) as server:
        assert eventually(lambda: '"gpus":[{' in server.state.hub.frame())
        slow = socket.create_connection(("127.0.0.1", server.port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(
            b"GET /api/telemetry/stream?interval=0.1 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        with slow, connect(server.stream + "?interval=0.1", proxy=None, max_size=None) as quick:
            slots = lambda: [slot for group in server.state.hub._groups.values() for slot in group.slots]  # noqa: E731
            seen = []

            def skipped() -> bool:
                seen.append(quick.recv(60))
                return max((slot.skipped for slot in slots()), default=0) >= 5

            assert eventually(skipped)
            assert len(slots()) == 2
        assert len(seen) > 5


def test_too_many_watchers_are_refused() -> None:
    with running(limits=Limits(watchers=2)) as server:
        with connect(server.stream, proxy=None), connect(server.stream, proxy=None):
            with pytest.raises(InvalidStatus) as caught:
                _refused(server.stream)
            assert caught.value.response.status_code == 503
        assert eventually(lambda: _connects(server))


class _FullStore:
    """A store whose disk is full."""

    def write(self, *_: object) -> int:
        raise DiskFull("no room")

    record = describe = write


def test_live_goes_on_while_the_store_cannot_write() -> None:
    with running(collectors=[partial(SimulateCollector, 1, 100_000)]) as server:
        store = server.state.slot._store
        server.state.slot._store = _FullStore()  # type: ignore[assignment]
        try:
            with connect(server.stream + "?interval=0.1", proxy=None) as stream:
                stamps: set[str] = set()

                def goes_on() -> bool:
                    stamps.update(gpu["timestamp"] for gpu in json.loads(stream.recv(60))["gpus"])
                    return len(stamps) >= 3

                assert eventually(goes_on)
        finally:
            server.state.slot._store = store
        assert server.state.supervisor is not None
        supervisor = server.state.supervisor
        assert eventually(lambda: supervisor.backlog()["rows"] == 0 and server.state.slot.rows > 0)
        assert supervisor.backlog()["dropped_rows"] == 0


def test_the_hub_keeps_only_the_newest_and_forgets_gpus_that_went() -> None:
    hub = Hub()
    for n in range(5):
        hub.take(Batch("nvml", n, {"gpu_metrics": _gpus(n, range(3 - (n == 4)))}))
        hub.take(Batch("nvml", n, {"gpu_power": {"time": [n], "power": [1.0]}}))
    frame = json.loads(hub.frame())
    assert [gpu["gpu_index"] for gpu in frame["gpus"]] == [0, 1]
    assert {gpu["temperature"] for gpu in frame["gpus"]} == {4.0}
    assert frame["host"] == {}


def test_a_late_frame_is_not_made_up_for() -> None:
    async def frames() -> list[str]:
        hub = Hub()
        slot = hub.join(0.2, None)
        found = [await slot.take()]
        await asyncio.sleep(0)  # from here on it is the beat's turn every 0.2 s
        time.sleep(0.5)  # nothing else can run meanwhile
        found += [await slot.take(), await slot.take()]
        hub.leave(slot)
        return found

    assert _seconds(asyncio.run(frames())[1:]) > 0.15


def test_what_json_cannot_say_is_null() -> None:
    hub = Hub()
    rows = _gpus(1, range(2)) | {"gpu_temp": [float("nan"), float("inf")]}
    hub.take(Batch("nvml", 1, {"gpu_metrics": rows}))
    hub.take(Batch("host", 1, samples=[Sample("load1", float("nan"), {"host": 'a"\n\u2028'}, 1)]))
    frame = json.loads(hub.frame(), parse_constant=pytest.fail)
    assert [gpu["temperature"] for gpu in frame["gpus"]] == [None, None]
    assert frame["host"]["load1"] is None
    assert frame["host"]["hostname"] == 'a"\n\u2028'


def test_batches_may_come_from_any_thread() -> None:
    hub = Hub()
    stop = threading.Event()

    def feed(source: str) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            hub.take(Batch(source, n, {"gpu_metrics": _gpus(n, range(4))}))

    feeders = [threading.Thread(target=feed, args=(f"s{n}",)) for n in range(3)]
    for feeder in feeders:
        feeder.start()
    try:
        for _ in range(50):
            for gpu in json.loads(hub.frame())["gpus"]:
                assert gpu["temperature"] == gpu["power_draw"]
    finally:
        stop.set()
        for feeder in feeders:
            feeder.join()


def _seconds(frames: Sequence[str | bytes]) -> float:
    """From the making of the first frame to that of the last, by the server's clock."""
    first, last = (dt.datetime.fromisoformat(json.loads(frames[place])["timestamp"]) for place in (0, -1))
    return (last - first).total_seconds()


def _gpus(value: int, indices: range) -> dict[str, list[object]]:
    return {
        "time": [value for _ in indices],
        "gpu_uuid": [f"GPU-{n}" for n in indices],
        "device_index": list(indices),
        "gpu_temp": [float(value) for _ in indices],
        "power_usage": [float(value) for _ in indices],
    }


def _flood(stream: ClientConnection) -> None:
    for _ in range(100_000):
        stream.send("x" * 1000)


def _drain(stream: ClientConnection) -> None:
    while True:
        stream.recv(60)


def _refused(url: str) -> None:
    with connect(url, proxy=None):
        pass


def _connects(server: Running) -> bool:
    try:
        _refused(server.stream)
    except InvalidStatus:
        return False
    return True
