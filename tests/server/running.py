"""A real server on a free loopback port, in a thread of the test process."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from kymograph.collect.interface import Factory
from kymograph.collect.supervisor import Supervisor
from kymograph.options import StoreOptions
from kymograph.server.app import create_app
from kymograph.server.auth import Gate
from kymograph.server.limits import Limits
from kymograph.server.listener import Server, config_of, listen
from kymograph.server.slot import StoreSlot
from kymograph.server.state import ServerState
from kymograph.store import tokens

# trusts nobody, for who speaks plain HTTP: reading the certificates of the world takes each client 50 ms
TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def eventually(holds: Callable[[], object], seconds: float = 60.0) -> bool:
    """Whether it comes to hold before the deadline, which is one for a busy machine."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False


@dataclass
class Running:
    """One server that answers.

    Attributes:
        url: `http://127.0.0.1:PORT`.
        port: where it listens.
        state: what it consists of.
    """

    url: str
    port: int
    state: ServerState

    @property
    def stream(self) -> str:
        return self.url.replace("http", "ws", 1) + "/api/telemetry/stream"

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(**{"base_url": self.url, "timeout": 120, "trust_env": False, "verify": TRUST, **options})  # type: ignore[arg-type]


@contextmanager
def running(
    target: Path | str = "memory:",
    *,
    collectors: Sequence[Factory] = (),
    auth: bool = False,
    limits: Limits | None = None,
    hosts: frozenset[str] = frozenset(),
    tls: tuple[Path, Path] | None = None,
    prepare: Callable[[ServerState], None] | None = None,
    port: int = 0,
    options: StoreOptions | None = None,
    prefix: str = "",
) -> Iterator[Running]:
    """A server over a store, recording what the collectors bring."""
    limits = limits or Limits()
    slot = StoreSlot(target, options or StoreOptions(sync="normal"))
    gate = Gate(auth, lambda token: tokens.verify(slot.get().engine, token), limits)
    supervisor = Supervisor(slot, collectors)
    state = ServerState(slot, gate, supervisor, hosts, limits, prefix=prefix)
    door = listen("127.0.0.1", port)
    port = door.getsockname()[1]
    started = threading.Event()
    cert, key = tls or (None, None)
    server = Server(config_of(create_app(state), limits, cert, key), started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, name="test-server")
    try:
        slot.start(wait=60)
        if prepare is not None:
            prepare(state)
        supervisor.subscribe(state.hub.take)
        supervisor.start()
        thread.start()
        assert started.wait(120)
        yield Running(f"http{'s' if tls else ''}://127.0.0.1:{port}", port, state)
    finally:
        server.should_exit = True
        if thread.ident is not None:
            thread.join(60)
        supervisor.stop(10)
        slot.close()
        state.close()
        door.close()
