"""Answers remote read: the samples of the series that each query selects, as a ReadResponse."""

from __future__ import annotations

from kymograph.errors import QueryError
from kymograph.model.time import MAX_TIME, MIN_TIME
from kymograph.promql.ast import LabelMatcher
from kymograph.promql.labels import bad_regex
from kymograph.promql.limits import Meter, PromLimits
from kymograph.promql.source import Source
from kymograph.wire.remote.reading import ReadQuery, query_result, read_response


def answer(source: Source, queries: list[ReadQuery], limits: PromLimits) -> bytes:
    """The ReadResponse to several queries, in their order; see `Store.remote_read`."""
    meter = Meter(limits)
    return read_response([_result(source, query, meter) for query in queries])


def _result(source: Source, query: ReadQuery, meter: Meter) -> bytes:
    matchers = [LabelMatcher(*matcher) for matcher in query.matchers]
    for matcher in matchers:
        if problem := bad_regex(matcher):
            raise QueryError(f"the matcher of {matcher.name}: {problem}")
    selection = source.select(matchers)
    # all microseconds of the first and of the last millisecond; `load` leaves out its start
    start = min(max(query.start * 1000, MIN_TIME), MAX_TIME)
    end = min(max(query.end * 1000 + 999, MIN_TIME), MAX_TIME)
    found = source.load(selection, start - 1, end, meter)
    return query_result(found.labels, found.offsets, found.times, found.values)
