"""Many hosts scraped by one Prometheus: the host set over and over, with the labels that a scrape adds."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from bench.data import host

Floats = np.ndarray[Any, np.dtype[np.float64]]
PER_HOST = len(host.series())
STEP_MS = 10_000
_NUMBER = re.compile(r"_?([0-9]{1,2})(?=_|$)")
START_MS = host.START // 1000


def label_sets(count: int) -> list[dict[str, str]]:
    """`count` label sets with `__name__`, host after host, each sorted by label name as Prometheus sends them.

    Numbers within names of the host set become labels, so that series differ in more than their names and functions
    that drop names, such as `rate`, can be asked about all of them.
    """
    found: list[dict[str, str]] = []
    for number in range(-(-count // PER_HOST)):
        target = {"instance": f"host-{number:04d}.example.org:9100", "job": "node"}
        found += [dict(sorted({**_numbered(one), **target}.items())) for one in host.series()]
    return found[:count]


def _numbered(one: host.Series) -> dict[str, str]:
    number = _NUMBER.search(one.name)
    if number is None:
        return {"__name__": one.name, **one.labels}
    family = one.name.split("_")[1].rstrip("0123456789")
    return {"__name__": _NUMBER.sub("", one.name), **one.labels, family: number[1]}


def values(count: int, scrapes: int) -> Floats:
    """(scrapes, count) values; every host has a seed of its own."""
    hosts = [host.scrapes(scrapes, seed=number + 1)[1] for number in range(-(-count // PER_HOST))]
    return np.ascontiguousarray(np.concatenate(hosts, axis=1)[:, :count])


def times(scrapes: int) -> Any:
    """int64 ms of the scrapes, one every 10 s."""
    return START_MS + STEP_MS * np.arange(scrapes)
