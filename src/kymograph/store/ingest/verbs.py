"""The verbs that take in what other programs write in formats of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kymograph.errors import KymographError
from kymograph.model.time import to_micros
from kymograph.store.exemplars.verbs import ExemplarVerbs
from kymograph.store.ingest.exposition import PageWriter
from kymograph.store.ingest.lines import LinesReport, LineWriter, together
from kymograph.store.ingest.otlp import OtlpWriter
from kymograph.store.jobs import now_micros
from kymograph.store.naming import Kind
from kymograph.store.table_verbs import TableVerbs
from kymograph.wire.influx.faults import Faults
from kymograph.wire.otlp.request import Request, read_request


class IngestVerbs(TableVerbs, ExemplarVerbs):
    """Formats of others; see `Store`."""

    def write_lines(self, lines: bytes | str, *, precision: str = "ns", time: Any = None) -> LinesReport:
        """Store Influx line protocol: a measurement is a table, one whose only field is `value` a metric (a gauge).

        Tags are the labels of a new table. Lines that are broken, or that the table cannot take, are passed over and
        named in the report; all others are stored.

        Args:
            lines: UTF-8.
            precision: unit of the times: ns, us, ms, s, m or h.
            time: of lines without one; None is now.

        Raises:
            InvalidInput: no such precision.
            DiskFull, StorageError, ReadOnly: some or none of the lines are stored; writing them again does no harm.
        """
        body = lines.encode("utf-8", "surrogatepass") if isinstance(lines, str) else lines
        now = now_micros() if time is None else to_micros(time)
        rows, (faults,) = self._line_writer().write(self, [body], precision, now, self._describe_new)
        return LinesReport(rows, faults)

    def write_line_bodies(
        self, bodies: Sequence[bytes], *, precision: str = "ns"
    ) -> tuple[int, list[Faults | KymographError]]:
        """Store several bodies of lines with as few steps as possible.

        Returns:
            Rows stored in all, and for each body its faults, or the error for which it was not stored.
        """
        rows, now = 0, now_micros()
        answers: list[Faults | KymographError] = [Faults() for _ in bodies]
        for places in together(bodies):
            some = [bodies[place] for place in places]
            told: Sequence[Faults | KymographError]
            try:
                stored, told = self._line_writer().write(self, some, precision, now, self._describe_new)
            except KymographError as problem:
                told = [problem] * len(some)
            else:
                rows += stored
            for place, answer in zip(places, told, strict=True):
                answers[place] = answer
        return rows, answers

    def _line_writer(self) -> LineWriter:
        return self._kept("lines", LineWriter)

    def write_otlp(self, request: bytes, *, json: bool = False, promote: Iterable[str] = ()) -> Request:
        """Store an OTLP metrics request as scalar samples, all that can be taken in one step, then its exemplars.

        Args:
            request: an ExportMetricsServiceRequest, as protobuf or, with `json`, as OTLP's JSON.
            promote: resource attributes that become labels of every series; `*` is all of them.

        Returns:
            What it held: see its `stored`, `exemplars`, `rejected` and `reasons`.

        Raises:
            InvalidInput: not such a message. MissingDependency: the extra `otlp` is not installed.
        """
        found = read_request(request, json=json, promote=promote)
        found.stored = self._kept("otlp", OtlpWriter).write(self, found, now_micros())
        return found

    def write_exposition(
        self,
        page: bytes,
        *,
        openmetrics: bool = False,
        time: Any = None,
        labels: Mapping[str, str] | None = None,
        max_samples: int | None = None,
    ) -> int:
        """Store a page of the Prometheus text format or, with `openmetrics`, of OpenMetrics: all of it or nothing.

        Exemplars, which OpenMetrics has, are kept as `record_exemplars` does.

        Args:
            time: of samples without one; None is now.
            labels: given to every series, in place of its own of that name.
            max_samples: a page with more is refused.

        Returns:
            Samples stored.

        Raises:
            InvalidInput: not such a page; names the line.
        """
        now = now_micros() if time is None else to_micros(time)
        writer = self._kept("pages", PageWriter)
        return writer.write(self, page, now, openmetrics, labels or {}, max_samples)

    def _describe_new(self, names: Sequence[str], kind: Kind) -> None:
        """Give metrics that nobody has described a kind."""
        known = self._metadata().known()
        fresh = {name: {"kind": kind} for name in names if name not in known}
        if fresh:
            self.describe_many(fresh)
