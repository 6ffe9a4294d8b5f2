"""What users hold: one object that writes, reads, asks and keeps house, over whatever engine is below."""

from __future__ import annotations

from kymograph.store.ingest.verbs import IngestVerbs
from kymograph.store.namespace_verbs import NamespaceVerbs
from kymograph.store.query_verbs import QueryVerbs
from kymograph.store.remote.verbs import RemoteVerbs
from kymograph.store.retention.verbs import RetentionVerbs
from kymograph.store.rings.verbs import RingVerbs
from kymograph.store.rules.verbs import RuleVerbs
from kymograph.store.streams.verbs import StreamVerbs
from kymograph.store.table_verbs import TableVerbs
from kymograph.store.upkeep_verbs import UpkeepVerbs


class Store(
    RuleVerbs,
    RingVerbs,
    RemoteVerbs,
    RetentionVerbs,
    IngestVerbs,
    TableVerbs,
    QueryVerbs,
    StreamVerbs,
    UpkeepVerbs,
    NamespaceVerbs,
):
    """A store of tables and metrics; every method may be called from many threads.

    Wherever a time is taken it is int µs, datetime (naive means UTC), ISO 8601 text, or an Arrow, NumPy or pandas
    timestamp; ranges are [start, end), and None leaves a side open. Wherever labels select rows they are
    `{"gpu_uuid": "GPU-1"}`, `{"gpu_uuid": ["GPU-1", "GPU-2"]}` or an iterable of `Matcher`.

    Every method raises StoreClosed after `close()`; unknown tables raise NotFound.

    Attributes:
        path: where it is: the folder's absolute path, or "memory:".
        options: what it was opened with.
    """
