"""One TimeSeries of remote write, of either version, taken apart field by field: slow, strict, and seldom needed."""

from __future__ import annotations

from dataclasses import dataclass, field

from kymograph.errors import InvalidInput
from kymograph.wire.protobuf import (
    BYTES,
    FIXED64,
    VARINT,
    Malformed,
    behind,
    fields,
    must_be,
    packed,
    signed,
    span,
    tag_at,
    text,
    varint,
)

NAME = "__name__"
# what fits into the word that is read at its place
_SHORT = 8

Labels = tuple[tuple[str, str], ...]


@dataclass
class Parsed:
    """What one TimeSeries holds, mostly as places in the message.

    Attributes:
        labels: places of the Label messages (version 1).
        refs: numbers of the symbols of its labels (version 2).
        key_end: end of the bytes that say which series it is, None when those are not all at its beginning.
        values, times: places of each sample's float64 and varint, -1 where it is absent or does not fit a word.
        odd: numbers of the samples whose times do not fit a word, and their milliseconds.
        histograms: how many there are.
        exemplars: places of the Exemplar messages.
        about: place of the metadata (version 2), or None.
    """

    labels: list[tuple[int, int]] = field(default_factory=list)
    refs: list[int] = field(default_factory=list)
    key_end: int | None = None
    values: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    odd: list[tuple[int, int]] = field(default_factory=list)
    histograms: int = 0
    exemplars: list[tuple[int, int]] = field(default_factory=list)
    about: tuple[int, int] | None = None


def series_v1(data: bytes, at: int, end: int) -> Parsed:
    """prometheus.TimeSeries in [at, end). Raises Malformed."""
    found = Parsed(key_end=at)
    others = False
    while at < end and data[at] == 10 and data[at + 1] < 128 and at + 2 + data[at + 1] <= end:
        # labels shorter than 128 bytes at the beginning, as nearly all are
        first = at + 2
        at = first + data[at + 1]
        found.labels.append((first, at))
        found.key_end = at
    for number, kind, first, last in fields(data, at, end):
        if number > 4:
            others = True
            continue
        must_be(kind, BYTES, "TimeSeries", number)
        if number == 1:
            found.labels.append((first, last))
            found.key_end = None if others or found.key_end is None else last
            continue
        others = True
        if number == 2:
            _sample(found, data, first, last)
        elif number == 3:
            found.exemplars.append((first, last))
        else:
            found.histograms += 1
    return found


def series_v2(data: bytes, at: int, end: int) -> Parsed:
    """io.prometheus.write.v2.TimeSeries in [at, end). Raises Malformed."""
    found = Parsed(key_end=at)
    for number, kind, first, last in fields(data, at, end):
        if number == 1:
            if kind == VARINT:
                found.refs.append(first & 0xFFFFFFFF)
                found.key_end = None
            else:
                must_be(kind, BYTES, "TimeSeries", number)
                whole = not found.refs and found.key_end == at
                found.refs += packed(data, first, last)
                found.key_end = last if whole and _begins(data, at, first, last) else None
        elif number in (2, 3, 4, 5):
            must_be(kind, BYTES, "TimeSeries", number)
            if number == 2:
                _sample(found, data, first, last)
            elif number == 3:
                found.histograms += 1
            elif number == 4:
                found.exemplars.append((first, last))
            else:
                found.about = (first, last)
    if found.key_end == at:
        found.key_end = None
    return found


def _begins(data: bytes, at: int, first: int, last: int) -> bool:
    """Whether the field with content [first, last) is the one at `at`."""
    return data[at] == 10 and varint(data, at + 1, last)[1] == first


def _sample(found: Parsed, data: bytes, at: int, end: int) -> None:
    value_at = time_at = -1
    odd: int | None = None
    while at < end:
        tag, at = tag_at(data, at, end)
        if tag == 1 << 3 | FIXED64:
            value_at, at = span(data, at, end, FIXED64)
        elif tag == 2 << 3 | VARINT:
            first = at
            number, at = varint(data, at, end)
            time_at, odd = (first, None) if at - first <= _SHORT else (-1, signed(number))
        elif tag >> 3 in (1, 2):
            raise Malformed(f"a Sample's field {tag >> 3} has the wire type {tag & 7}")
        else:
            at = behind(data, at, end, tag)
    if odd is not None:
        found.odd.append((len(found.times), odd))
    found.values.append(value_at)
    found.times.append(time_at)


def labels_v1(data: bytes, places: list[tuple[int, int]]) -> tuple[str, Labels]:
    """Name and labels of the Label messages at these places; see `identity`."""
    return identity([_label(data, at, end) for at, end in places])


def _label(data: bytes, at: int, end: int) -> tuple[str, str]:
    """Name and value of the Label in [at, end). Nearly all are two texts shorter than 128 bytes in this order."""
    if end - at > 3 and data[at] == 10 and data[at + 1] < 128:
        middle = at + 2 + data[at + 1]
        if middle + 1 < end and data[middle] == 18 and data[middle + 1] < 128 and middle + 2 + data[middle + 1] == end:
            return text(data, at + 2, middle), text(data, middle + 2, end)
    name = value = ""
    for number, kind, first, last in fields(data, at, end):
        if number in (1, 2):
            must_be(kind, BYTES, "Label", number)
            if number == 1:
                name = text(data, first, last)
            else:
                value = text(data, first, last)
    return name, value


def labels_v2(symbols: list[str], refs: list[int]) -> tuple[str, Labels]:
    """Name and labels of references into the symbols; see `identity`."""
    if len(refs) % 2:
        raise Malformed(f"a series has {len(refs)} references, which are no pairs of names and values")
    if refs and max(refs) >= len(symbols):
        raise Malformed(f"a series refers to the symbol {max(refs)}, and there are {len(symbols)}")
    texts = [symbols[ref] for ref in refs]
    return identity(list(zip(texts[::2], texts[1::2], strict=True)))


def identity(pairs: list[tuple[str, str]]) -> tuple[str, Labels]:
    """Metric name, and the other labels sorted by name without those that are empty.

    Raises:
        InvalidInput: no metric name, a label without a name or one that is there twice.
    """
    labels = dict(pairs)
    if len(labels) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"a series has the label {twice[:80]!r} twice: {_short(pairs)}")
    if "" in labels:
        raise InvalidInput(f"a series has a label without a name: {_short(pairs)}")
    name = labels.pop(NAME, "")
    if not name:
        raise InvalidInput(f"a series has no metric name: {_short(pairs)}", hint=f"the label {NAME} holds it")
    return name, tuple(sorted(pair for pair in labels.items() if pair[1]))


def _short(pairs: list[tuple[str, str]]) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in pairs)
    return "{" + (shown if len(shown) <= 200 else shown[:197] + "…") + "}"
