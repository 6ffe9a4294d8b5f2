"""Answers of queries as Prometheus' JSON, put together in Arrow out of few distinct texts, never one sample after the other.

An answer is a row of pieces: before each series its labels and first time, before each other sample its time, and each
time a number. Pieces that repeat are made once; taking them in order lays their bytes one after the other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.promql.index import Ints
from kymograph.promql.labels import Labels
from kymograph.promql.result import PromResult, number
from kymograph.promql.source import Floats
from kymograph.server.envelope import Piece, text_of
from kymograph.server.routes.prometheus.numerals import numbers, second, seconds, shown

# texts are made for so many samples at one time, so that what they take is bounded
PART = 262_144
_ROOM = 32 * 2**20
# samples whose texts are made one after the other
_FEW = 200


class _Metrics(dict[Labels, str]):
    """The JSON of label sets, made once for each; begins anew when its texts take more than 32 MiB.

    The same series are asked for again and again, and this is most of the work of an instant answer.
    """

    _held = 0

    def __missing__(self, labels: Labels) -> str:
        text = text_of(dict(labels)).decode()
        self._held += sys.getsizeof(text)
        if self._held > _ROOM:
            self.clear()
            self._held = sys.getsizeof(text)
        self[labels] = text
        return text


_METRICS = _Metrics()


def metrics_of(series: Sequence[Labels]) -> list[str]:
    """The JSON of each label set."""
    return list(map(_METRICS.__getitem__, series))


def result_of(result: PromResult, limit: int) -> Iterator[Piece]:
    """`"resultType": …, "result": …` without the braces around it, of at most `limit` series (0: all), part by part."""
    yield b'"resultType":"%s","result":' % result.type.encode()
    if result.type == "scalar":
        yield b'[%s,"%s"]' % (second(int(result.times[0])).encode(), number(float(result.values[0])).encode())
        return
    if result.type == "string":
        yield b"[%s,%s]" % (second(int(result.times[0])).encode(), text_of(result.text))
        return
    count = min(len(result), limit) if limit else len(result)
    if not count:
        yield b"[]"
        return
    key, (opening, closing) = ("values", ("[[", '"]]}')) if result.type == "matrix" else ("value", ("[", '"]}'))
    for low in range(0, int(result.offsets[count]), PART):
        part = _part(result, low, min(low + PART, int(result.offsets[count])), f',"{key}":{opening}', f"{closing},")
        # what ends the series before it comes before each series, but there is none before the first
        if not low:
            yield b"["
            part = part[len(closing) + 1 :]
        yield part
    yield closing.encode() + b"]"


def _part(result: PromResult, low: int, high: int, opening: str, closing: str) -> Piece:
    """Samples [low, high) of all, and what comes before each."""
    first, last = np.searchsorted(result.offsets[:-1], [low, high]).tolist()
    begins = result.offsets[first:last] - low
    metrics = metrics_of(result.series[first:last])
    if high - low <= _FEW:
        heads = dict(zip(begins.tolist(), metrics, strict=True))
        return _short(result.times[low:high], result.values[low:high], heads, opening, closing)
    distinct, codes = _distinct(result.times[low:high], last - first)
    # the text of a value that stays is made once
    bits = result.values[low:high].view(np.int64)
    changed = np.concatenate(([True], bits[1:] != bits[:-1]))
    picked = codes[begins]
    few = len(picked) <= len(distinct)
    firsts = _joined(
        f'{closing}{{"metric":',
        pa.array(metrics, pa.large_string()),
        opening,
        seconds(distinct[picked]) if few else seconds(distinct).take(pa.array(picked)),
        ',"',
    )
    pieces = [firsts, seconds(distinct, '"],[', ',"'), numbers(result.values[low:high][changed])]
    order = np.empty((len(bits), 2), np.int64)
    order[:, 0] = codes + len(firsts)
    order[begins, 0] = np.arange(len(firsts))
    np.cumsum(changed, out=order[:, 1])
    order[:, 1] += len(firsts) + len(distinct) - 1
    row = pa.concat_arrays(pieces).take(pa.array(order.ravel()))
    _, offsets, data = row.buffers()
    return memoryview(data)[: np.frombuffer(offsets, np.int64)[len(row)]]


def _short(times: Ints, values: Floats, heads: dict[int, str], opening: str, closing: str) -> bytes:
    """The same of samples that are so few that arrays would take longer than a loop."""
    texts = []
    for place, (time, value) in enumerate(zip(times.tolist(), values.tolist(), strict=True)):
        metric = heads.get(place)
        before = '"],[' if metric is None else f'{closing}{{"metric":{metric}{opening}'
        texts.append(f'{before}{second(time)},"{shown(value)}')
    return "".join(texts).encode()


def _distinct(times: Ints, series: int) -> tuple[Ints, Ints]:
    """Distinct times, and which of them each is."""
    if series <= 1:
        return times, np.arange(len(times))
    stamps = pc.dictionary_encode(pa.array(times, pa.int64()))
    return stamps.dictionary.to_numpy(), stamps.indices.to_numpy()


def _joined(*parts: pa.Array | str) -> pa.Array:
    """Texts side by side, large ones: those of one part may be more than 2 GiB together."""
    large = [
        pa.scalar(part, pa.large_string()) if isinstance(part, str) else part.cast(pa.large_string()) for part in parts
    ]
    return pc.binary_join_element_wise(*large, pa.scalar("", pa.large_string()))
