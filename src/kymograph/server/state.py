"""Everything the routes share, made once per server."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from kymograph.collect.alertmanager import AlertSender
from kymograph.collect.supervisor import Supervisor
from kymograph.server.alerting import Alerting
from kymograph.server.auth import Gate
from kymograph.server.limits import Limits
from kymograph.server.live import Hub
from kymograph.server.meter import Meter
from kymograph.server.pool import Pool
from kymograph.server.slot import StoreSlot


@dataclass
class ServerState:
    """What a running server consists of.

    Attributes:
        slot: where the store is, or why it is not.
        gate: who may do what.
        supervisor: what records; None serves a store without recording into it.
        alerts: tells about alerts; None where nobody is told.
        rules: the rule files; None where there are none to read again.
        prefix: path prefix that a reverse proxy may leave on, such as `/kymograph`, or "".
        hosts: names that the Host header may say beside loopback and the address bound to.
        light, heavy: threads for short calls, and for queries and exports, which must not hold those up.
        writes: threads that take in what clients send.
        started: Unix time of the start, seconds.
    """

    slot: StoreSlot
    gate: Gate
    supervisor: Supervisor | None = None
    hosts: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    hub: Hub = field(default_factory=Hub)
    meter: Meter = field(default_factory=Meter)
    started: float = field(default_factory=time.time)
    alerts: AlertSender | None = None
    rules: Alerting | None = None
    prefix: str = ""
    light: Pool = field(init=False)
    heavy: Pool = field(init=False)
    writes: Pool = field(init=False)
    info: Fresh = field(init=False)

    def __post_init__(self) -> None:
        self.light = Pool("light", 8, self.limits.requests)
        self.heavy = Pool("query", self.limits.queries, self.limits.waiting)
        self.writes = Pool("write", 4, self.limits.requests)
        self.info = Fresh(1.0, lambda: self.light.run(lambda: self.slot.get().info()))

    def within(self, slot: StoreSlot) -> ServerState:
        """This state over a namespace: other rows and no recording; the same gate, limits and threads."""
        inner = copy.copy(self)
        inner.slot, inner.supervisor, inner.hub, inner.alerts, inner.rules = slot, None, Hub(), None, None
        inner.info = Fresh(1.0, lambda: inner.light.run(lambda: inner.slot.get().info()))
        return inner

    def close(self) -> None:
        self.light.close()
        self.heavy.close()
        self.writes.close()


class Fresh:
    """One value for all who ask within `seconds`; it is made once however many wait for it."""

    def __init__(self, seconds: float, make: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._seconds = seconds
        self._make = make
        self._value: dict[str, Any] = {}
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def get(self) -> dict[str, Any]:
        async with self._lock:
            if time.monotonic() >= self._until:
                self._value = await self._make()
                self._until = time.monotonic() + self._seconds
            return self._value
