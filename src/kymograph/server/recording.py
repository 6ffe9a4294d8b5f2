"""What `kymo serve` records, and the supervisor that does it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kymograph.collect.host import HostCollector
from kymograph.collect.interface import Factory, Sink
from kymograph.collect.nvml import NvmlCollector
from kymograph.collect.scrape import ScrapeCollector
from kymograph.collect.simulate import SimulateCollector
from kymograph.collect.supervisor import Supervisor


def recorder(sink: Sink, interval: int, scrape: Sequence[str], simulate: int) -> Supervisor:
    """A supervisor, not yet started, of this machine, its GPUs, scrape targets and simulated GPUs.

    Args:
        interval: µs between two looks, of every collector.
        scrape: exposition URLs.
        simulate: number of simulated GPUs, 0 for none.

    Raises:
        InvalidInput: an interval, URL or number out of range.
    """
    collectors: list[Factory] = [partial(HostCollector, interval), partial(NvmlCollector, interval)]
    collectors += [partial(ScrapeCollector, url, interval) for url in scrape]
    if simulate:
        collectors.append(partial(SimulateCollector, simulate, interval))
    return Supervisor(sink, collectors)
