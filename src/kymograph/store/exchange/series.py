"""Scalar series as JSON lines, one line per series and stretch of time, as VictoriaMetrics exports and imports them.

`{"metric":{"__name__":"up","job":"a"},"values":[1,0],"timestamps":[1700000000000,1700000001000]}`. Timestamps are
milliseconds, with a fraction where a time has microseconds. JSON has no word for some floats: null is the staleness
marker, and `"NaN"`, `"Infinity"` and `"-Infinity"` are texts, on lines of their own, since VictoriaMetrics passes over
a line with one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.time import MAX_TIME, TIME, micros_of
from kymograph.store.reading import Selection, stream
from kymograph.store.series import Selectors
from kymograph.store.store import Store

STALE_BITS = 0x7FF0000000000002
_STALE = np.uint64(STALE_BITS).view(np.float64)
_SPECIAL = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf, "Inf": np.inf, "-Inf": -np.inf}


def export_series(
    store: Store, selectors: Selectors = None, start: int | None = None, end: int | None = None
) -> Iterator[bytes]:
    """Lines of the selected series, in pieces; a series with many samples has several lines, ascending in time.

    Fields of tables, which are series of PromQL too, are not among them: `export` writes those.

    Args:
        selectors: as `Store.series` takes them.
        start, end: [start, end) in µs.
    """
    numbers = {
        (name, tuple(sorted(labels.items()))): number for number, (name, labels) in store.engine.series().items()
    }
    wanted = {}
    for labels in store.series(selectors):
        name = labels.get("__name__", "")
        identity = (name, tuple(sorted((key, value) for key, value in labels.items() if key != "__name__")))
        if identity in numbers:
            wanted[numbers[identity]] = json.dumps(labels, ensure_ascii=False, separators=(",", ":"))
    return _lines(store, wanted, start, end)


def _lines(store: Store, wanted: dict[int, str], start: int | None, end: int | None) -> Iterator[bytes]:
    if not wanted or SAMPLES not in store.tables():
        return
    matcher = Matcher(SERIES_ID, "in", frozenset(wanted))
    for batch in stream(store.engine, Selection(SAMPLES, [matcher], start, end)):
        ids = batch.column(SERIES_ID).to_numpy()
        order = np.argsort(ids, kind="stable")
        cuts = np.flatnonzero(np.diff(ids[order])) + 1
        times, values = micros_of(batch.column(TIME)), batch.column("value").to_numpy()
        for whole in np.split(order, cuts):
            worded = ~np.isfinite(values[whole]) & (values[whole].view(np.uint64) != STALE_BITS)
            for rows in (whole[~worded], whole[worded]):
                if not len(rows):
                    continue
                line = f'{{"metric":{wanted[int(ids[rows[0]])]},"values":{_values(values[rows])},"timestamps":'
                yield f"{line}{_times(times[rows])}}}\n".encode()


def _values(values: Any) -> str:
    if np.isfinite(values).all():
        return json.dumps(values.tolist(), separators=(",", ":"))
    stale = values.view(np.uint64) == STALE_BITS
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    told = [
        None if gone else value if np.isfinite(value) else words[str(value)]
        for value, gone in zip(values.tolist(), stale.tolist(), strict=True)
    ]
    return json.dumps(told, separators=(",", ":"))


def _times(times: Any) -> str:
    if not (times % 1000).any():
        return json.dumps((times // 1000).tolist(), separators=(",", ":"))
    # whole and fraction as text: no float comes between
    return (
        "["
        + ",".join(f"{time // 1000}.{time % 1000:03d}" if time % 1000 else str(time // 1000) for time in times.tolist())
        + "]"
    )


def import_series(store: Store, lines: bytes) -> int:
    """Store such lines in one step, all of them or none. Returns the samples stored.

    Raises:
        InvalidInput: a line that is none; names it.
    """
    series: list[tuple[str, dict[str, str]]] = []
    counts: list[int] = []
    times, values = [], []
    for number, line in enumerate(lines.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            name, labels, stamps, numbers = _read(line)
        except (ValueError, TypeError, OverflowError, RecursionError) as problem:
            raise InvalidInput(f"line {number} {problem}") from None
        series.append((name, labels))
        counts.append(len(stamps))
        times.append(stamps)
        values.append(numbers)
    if not series:
        return 0
    ids = np.repeat(store.series_ids(series), counts)
    return store.append_samples(ids, np.concatenate(times), np.concatenate(values))


def _read(line: bytes) -> tuple[str, dict[str, str], Any, Any]:
    try:
        given = json.loads(line)
    except ValueError as problem:
        raise ValueError(f"is not JSON: {problem}") from None
    metric = given.get("metric") if isinstance(given, dict) else None
    if not isinstance(metric, dict) or not all(isinstance(value, str) for value in metric.values()):
        raise ValueError('has no "metric" of labels')
    labels = {key: value for key, value in metric.items() if key != "__name__" and value}
    stamps, numbers = given.get("timestamps"), given.get("values")
    if not isinstance(stamps, list) or not isinstance(numbers, list) or len(stamps) != len(numbers):
        raise ValueError('needs "timestamps" and "values" of one length')
    if not metric.get("__name__"):
        raise ValueError('has no "__name__" in its metric')
    return metric["__name__"], labels, np.array([_micros(each) for each in stamps], np.int64), _floats(numbers)


def _micros(stamp: Any) -> int:
    if type(stamp) is int:
        micros = stamp * 1000
    elif type(stamp) is float and math.isfinite(stamp):
        micros = round(stamp * 1000)
    else:
        raise ValueError(f"has a timestamp that is no number of milliseconds: {str(stamp)[:80]!r}")
    if abs(micros) > MAX_TIME:
        raise ValueError(f"has a timestamp out of range: {stamp}")
    return micros


def _floats(numbers: list[Any]) -> Any:
    if set(map(type, numbers)) <= {int, float}:
        return np.array(numbers, np.float64)
    found = np.empty(len(numbers))
    for place, number in enumerate(numbers):
        if number is None:
            found[place] = _STALE
        elif isinstance(number, str) and number in _SPECIAL:
            found[place] = _SPECIAL[number]
        elif type(number) in (int, float):
            found[place] = number
        else:
            raise ValueError(f"has a value that is no number: {str(number)[:80]!r}")
    return found
