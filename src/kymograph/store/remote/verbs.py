"""The verbs of remote write and remote read."""

from __future__ import annotations

from collections.abc import Sequence

from kymograph.errors import KymographError
from kymograph.promql.limits import PromLimits
from kymograph.store.exemplars.verbs import ExemplarVerbs
from kymograph.store.remote.reading import answer
from kymograph.store.remote.taking import Taken, Taker
from kymograph.wire.remote.decoder import V1
from kymograph.wire.remote.reading import queries_of


class RemoteVerbs(ExemplarVerbs):
    """Prometheus' protocols between stores; see `Store`."""

    def take_remote_write(self, message: bytes, version: str = V1) -> Taken:
        """Store the samples of one remote write message in one step: all of them or none.

        Exemplars are kept as `record_exemplars` does, metadata as `describe`.

        Args:
            message: protobuf, unpacked.
            version: `prometheus.WriteRequest` or `io.prometheus.write.v2.Request`.

        Raises:
            InvalidInput: not such a message; a series without a name, with a label twice or without a name; a time out
                of range; native histograms. LimitExceeded: too many new series. DuplicateRows: where the table's policy
                is "reject".
        """
        self._check()
        return self._taker().take(self, message, version)

    def take_remote_writes(self, bodies: Sequence[tuple[bytes, str]]) -> list[Taken | KymographError]:
        """Several remote write messages as they come over HTTP, stored in one step, which costs less.

        Each is still taken whole or not at all: where one is refused, the others are stored.

        Args:
            bodies: (message compressed with snappy's block format, version), the version as for `take_remote_write`.
                Check the unpacked sizes before, with `kymograph.wire.snappy.size`.

        Returns:
            For each what was stored, or the error that says why nothing was.
        """
        self._check()
        return self._taker().take_packed(self, bodies)

    def remote_read(self, request: bytes, limits: PromLimits | None = None) -> bytes:
        """The ReadResponse to a ReadRequest, both protobuf; times are floored to milliseconds.

        Raises:
            InvalidInput: not such a message, a regex that is none, or a client that takes no samples.
            LimitExceeded: more series or samples than `limits` allow.
        """
        return answer(self._series_source(), queries_of(request), limits or PromLimits())

    def _taker(self) -> Taker:
        return self._kept("remote write", Taker)
