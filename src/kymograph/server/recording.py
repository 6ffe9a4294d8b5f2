"""What `kymo serve` records, and the supervisor that does it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kymograph.collect.graphite import GraphiteCollector
from kymograph.collect.host import HostCollector
from kymograph.collect.interface import Factory, Sink
from kymograph.collect.mqtt import MqttCollector
from kymograph.collect.nvml import NvmlCollector
from kymograph.collect.scrape import ScrapeCollector
from kymograph.collect.simulate import SimulateCollector
from kymograph.collect.statsd import StatsdCollector
from kymograph.collect.supervisor import Supervisor
from kymograph.errors import InvalidInput


def recorder(
    sink: Sink,
    interval: int,
    scrape: Sequence[str] = (),
    simulate: int = 0,
    *,
    statsd: str | None = None,
    graphite: str | None = None,
    mqtt: str | None = None,
    topics: Sequence[str] = (),
) -> Supervisor:
    """A supervisor, not yet started, of this machine, its GPUs, and whatever else is to be recorded.

    Args:
        interval: µs between two looks, of every collector that looks by itself.
        scrape: exposition URLs.
        simulate: number of simulated GPUs, 0 for none.
        statsd, graphite: addresses to listen on, `HOST:PORT`.
        mqtt: URL of a broker; `topics` are the templates to subscribe to.

    Raises:
        InvalidInput: an interval, URL, address, topic or number out of range.
        MissingDependency: the extra `mqtt` is not installed.
    """
    if topics and mqtt is None:
        raise InvalidInput("there are topics and no broker", hint="give --mqtt URL")
    collectors: list[Factory] = [partial(HostCollector, interval), partial(NvmlCollector, interval)]
    collectors += [partial(ScrapeCollector, url, interval) for url in scrape]
    if simulate:
        collectors.append(partial(SimulateCollector, simulate, interval))
    if statsd is not None:
        collectors.append(partial(StatsdCollector, statsd))
    if graphite is not None:
        collectors.append(partial(GraphiteCollector, graphite))
    if mqtt is not None:
        collectors.append(partial(MqttCollector, mqtt, topics))
    return Supervisor(sink, collectors)
