"""Scrapes one Prometheus or OpenMetrics endpoint, with Prometheus's rules for labels and staleness."""

from __future__ import annotations

import struct
import time
from typing import cast
from urllib.parse import urlunsplit

from kymograph.collect import fetch
from kymograph.collect.batch import Batch
from kymograph.collect.interface import checked_interval
from kymograph.errors import InvalidInput, LimitExceeded
from kymograph.store.ingest.exposition import exemplars_of
from kymograph.store.metrics import Sample
from kymograph.store.naming import Kind
from kymograph.wire.exposition import page as exposition
from kymograph.wire.exposition.line import Series

# The NaN by which Prometheus says that a series ended here; its bits must survive all the way.
STALE_BITS = 0x7FF0000000000002
STALE: float = struct.unpack("<d", STALE_BITS.to_bytes(8, "little"))[0]

ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"

PAGE_BYTES = 64 * 2**20
PAGE_SAMPLES = 500_000

_OWN: dict[str, dict[str, str]] = {
    "up": {"kind": "gauge", "help": "1 if the target answered the scrape with a page that could be read, else 0"},
    "scrape_duration_seconds": {"kind": "gauge", "unit": "seconds", "help": "Time the scrape took"},
    "scrape_samples_scraped": {"kind": "gauge", "help": "Samples on the page"},
}

# Name and labels as one hashable value.
_Key = tuple[str, tuple[tuple[str, str], ...]]
# A series as the page names it: its key, and the labels it is recorded under.
_Series = tuple[_Key, dict[str, str]]


class ScrapeCollector:
    """One target. Every sample gets the labels `job` and `instance`; where the page has them too, the
    page's are renamed `exported_job`, `exported_instance`.

    A sample's own time is kept. A series that is gone from the page, or all of them when the target does
    not answer, get one more sample, the staleness NaN; series with times of their own do not. Three more
    metrics tell how it went: `up`, `scrape_duration_seconds`, `scrape_samples_scraped`. A target that
    does not answer is a result, not a failure: `Batch.problem` says why.
    """

    def __init__(
        self,
        url: str,
        interval: int = 1_000_000,
        *,
        job: str | None = None,
        timeout: float | None = None,
        max_bytes: int = PAGE_BYTES,
        max_samples: int = PAGE_SAMPLES,
    ) -> None:
        """
        Args:
            url: http or https; without a path, `/metrics`. `user:password@` is sent, never recorded.
            interval: µs between scrapes.
            job: the label; None is `host:port`.
            timeout: seconds; None is the interval, at least 1 s and at most 10 s.
            max_bytes: of a page, before and after decompression.
            max_samples: of a page.

        Raises:
            InvalidInput: not such a URL, or a number out of range.
        """
        parts = fetch.checked_url(url)
        if not parts.path:
            parts = parts._replace(path="/metrics")
        self._url = urlunsplit(parts)
        self.interval = checked_interval(interval)
        instance = fetch.address(parts)
        self.name = "scrape " + urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._timeout = min(10.0, max(1.0, interval / 1e6)) if timeout is None else timeout
        if self._timeout <= 0 or max_bytes <= 0 or max_samples <= 0:
            raise InvalidInput("timeout, max_bytes and max_samples must be positive")
        self._max_bytes, self._max_samples = max_bytes, max_samples
        self._target = {"job": job or instance, "instance": instance}
        self._cache: dict[str, Series] = {}
        # by identity of the labels that the parser's cache gives out again and again; they are held
        # here too, so that no other labels can take their place in memory
        self._known: dict[int, tuple[dict[str, str], _Series]] = {}
        self._alive: dict[_Key, Sample] = {}

    def collect(self, now: int) -> Batch:
        began = time.perf_counter()
        families: list[exposition.Family] = []
        problem = ""
        try:
            families = self._page()
        except (OSError, InvalidInput, LimitExceeded) as raised:
            problem = str(raised) or type(raised).__name__
        duration = time.perf_counter() - began
        samples, describe, alive = self._samples(families, now)
        count = float(len(samples))
        samples += [
            Sample(before.name, STALE, before.labels, now, before.kind)
            for key, before in self._alive.items()
            if key not in alive
        ]
        if max(len(self._cache), len(self._known)) > 2 * count + 1000:
            # series that come and go must not stay for ever
            self._cache.clear()
            self._known.clear()
        self._alive = {key: sample for key, sample in alive.items() if sample is not None}
        samples += [
            Sample("up", 0.0 if problem else 1.0, self._target, now, "gauge"),
            Sample("scrape_duration_seconds", duration, self._target, now, "gauge"),
            Sample("scrape_samples_scraped", count, self._target, now, "gauge"),
        ]
        exemplars = exemplars_of(families, now, lambda name, labels: self._series(name, labels)[1])
        return Batch(self.name, now, samples=samples, describe=describe | _OWN, problem=problem, exemplars=exemplars)

    def close(self) -> None:
        self._cache.clear()
        self._known.clear()

    def _page(self) -> list[exposition.Family]:
        page = fetch.get(self._url, accept=ACCEPT, timeout=self._timeout, max_bytes=self._max_bytes)
        kind = page.content_type.partition(";")[0].strip()
        if kind not in ("", "text/plain", "application/openmetrics-text"):
            raise InvalidInput(f"the target answers with {kind[:80]!r}, which is no metrics page")
        return exposition.parse(
            page.body,
            openmetrics=kind == "application/openmetrics-text",
            cache=self._cache,
            max_samples=self._max_samples,
        )

    def _samples(
        self, families: list[exposition.Family], now: int
    ) -> tuple[list[Sample], dict[str, dict[str, str]], dict[_Key, Sample | None]]:
        """Samples, metadata, and the series on the page (None: one with times of its own).

        Of two samples of one series and time the first counts.
        """
        samples: list[Sample] = []
        describe: dict[str, dict[str, str]] = {}
        alive: dict[_Key, Sample | None] = {}
        timed: set[tuple[_Key, int]] = set()
        for family in families:
            for name, labels, value, own in family.samples:
                meta = describe.get(name)
                if meta is None:
                    meta = describe[name] = exposition.metadata(family, name)
                key, recorded = self._series(name, labels)
                kind = cast(Kind, meta.get("kind", "untyped"))
                sample = Sample(name, value, recorded, now if own is None else own, kind)
                if own is None:
                    if key in alive:
                        continue
                    alive[key] = sample
                else:
                    if (key, own) in timed:
                        continue
                    timed.add((key, own))
                    alive[key] = None
                samples.append(sample)
        return samples, describe, alive

    def _series(self, name: str, labels: dict[str, str]) -> _Series:
        known = self._known.get(id(labels))
        if known is None:
            recorded = dict(self._target)
            for label, value in sorted(labels.items()):
                # an empty label and none at all are the same
                if value:
                    while label in recorded:
                        label = "exported_" + label
                    recorded[label] = value
            known = labels, ((name, tuple(sorted(recorded.items()))), recorded)
            self._known[id(labels)] = known
        return known[1]
