"""Remote write is read as Google's protobuf reads it, whatever is in a message and whatever came before it."""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kymograph.errors import InvalidInput, TimeError
from kymograph.wire.protobuf import Malformed, put_bytes, put_int, put_varint
from kymograph.wire.remote.decoder import V1, V2, Decoder
from kymograph.wire.remote.layout import PAD
from tests.unit.wire import messages
from tests.unit.wire.messages import write_v1, write_v2

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
NOW = 1_772_409_600_000
Rows = list[tuple[str, tuple[tuple[str, str], ...], int, int]]


def read(decoder: Decoder, message: bytes, version: str = V1) -> Rows:
    """(name, labels, µs, bits of the value) of every sample."""
    found = decoder.read(message + bytes(PAD), version)
    bits = found.values.view(np.uint64).tolist()
    rows = zip(found.slots.tolist(), found.times.tolist(), bits, strict=True)
    return [(*decoder.series[slot], time, value) for slot, time, value in rows]


def oracle(message: bytes, version: str = V1) -> Rows:
    """The same by way of protobuf objects. Raises ValueError for what must not be taken."""
    kind = messages.V1["WriteRequest"] if version == V1 else messages.V2["Request"]
    request = kind.FromString(message)
    rows: Rows = []
    for series in request.timeseries:
        if version == V1:
            pairs = [(label.name, label.value) for label in series.labels]
        else:
            refs = list(series.labels_refs)
            if len(refs) % 2 or any(ref >= len(request.symbols) for ref in refs):
                raise ValueError("references")
            texts = [request.symbols[ref] for ref in refs]
            pairs = list(zip(texts[::2], texts[1::2], strict=True))
        labels = dict(pairs)
        name = labels.pop("__name__", "")
        if len(dict(pairs)) < len(pairs) or "" in labels or not name:
            raise ValueError("labels")
        identity = tuple(sorted((key, value) for key, value in labels.items() if value))
        for sample in series.samples:
            if abs(sample.timestamp) > 2**62 // 1000:
                raise ValueError("time")
            bits = struct.unpack("<Q", struct.pack("<d", sample.value))[0]
            rows.append((name, identity, sample.timestamp * 1000, bits))
    if version == V2 and request.symbols and request.symbols[0]:
        raise ValueError("symbols")
    return rows


def agree(decoder: Decoder, message: bytes, version: str = V1) -> None:
    """Ours and the oracle's answer are the same, or both refuse."""
    try:
        wanted: Any = oracle(message, version)
    except (DecodeError, ValueError):
        wanted = None
    try:
        found: Any = read(decoder, message, version)
    except InvalidInput:
        found = None
    assert found == wanted


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
values = st.one_of(
    st.floats(allow_nan=True), st.sampled_from([0.0, -0.0, 1.0, STALE, math.inf, -math.inf, 5e-324, 1e308])
)
times = st.one_of(
    st.integers(NOW, NOW + 10**6),
    st.sampled_from([0, 1, -1, 127, 128, 2**41, 2**42, 2**55, 2**56 - 1, -NOW, 2**62 // 1000, -(2**62 // 1000)]),
    st.integers(-(2**62 // 1000), 2**62 // 1000),
)
labels = st.dictionaries(texts, texts, max_size=4).map(lambda found: {**found, "__name__": "m" + str(len(found))})
series = st.tuples(labels, st.lists(st.tuples(times, values), max_size=3))
requests = st.lists(st.lists(series, max_size=6), min_size=1, max_size=5)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(requests, st.randoms(use_true_random=False))
def test_any_requests_one_after_the_other(several: list[Any], rng: random.Random) -> None:
    decoder = Decoder()
    for batch in several:
        rng.shuffle(batch)
        for _ in range(2):
            agree(decoder, write_v1(batch))
            agree(decoder, write_v2(batch), V2)


def hosts(count: int) -> list[dict[str, str]]:
    return [
        {"__name__": f"node_{i % 7}_total", "instance": f"host-{i // 7}:9100", "job": "node", "mode": "x" * (i % 150)}
        for i in range(count)
    ]


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("batch", [100, 333, 512])
def test_a_stream_of_scrapes(version: str, batch: int) -> None:
    """What a sender does for hours: the same series again and again, in batches that begin anywhere."""
    rng = np.random.default_rng(batch)
    sets, decoder = hosts(500), Decoder()
    write = write_v1 if version == V1 else write_v2
    queue: list[tuple[dict[str, str], list[tuple[int, float]]]] = []
    for scrape in range(12):
        values = rng.integers(0, 9, len(sets)) / 4  # one in nine is 0 and takes no bytes at all
        queue += [
            (one, [(NOW + 15_000 * scrape + i % 3, value)])
            for i, (one, value) in enumerate(zip(sets, values.tolist(), strict=True))
        ]
        if scrape == 6:  # two targets go, one comes
            sets = [*sets[:100], *sets[250:], *[{**one, "instance": "new:1"} for one in sets[:20]]]
        while len(queue) >= batch:
            message = write(queue[:batch])
            assert read(decoder, message, version) == oracle(message, version)
            queue = queue[batch:]


def test_metadata_and_times_of_creation_in_batches_that_begin_anywhere() -> None:
    sets, decoder = hosts(70), Decoder()
    for first in range(0, 60, 7):
        rows = [(one, [(NOW + first, float(first))]) for one in sets[first : first + 30]]
        request = messages.V2["Request"].FromString(
            write_v2(rows, {"node_1_total": (1, f"help {first}", ""), "node_2_total": (2, "", "s")})
        )
        for number, one in enumerate(request.timeseries):
            one.created_timestamp = NOW * (number % 2)
        message = request.SerializeToString()
        for _ in range(3):
            assert read(decoder, message, V2) == oracle(message, V2)
        again = messages.V2["Request"].FromString(message)
        again.symbols.append("so that this is another table")
        about = decoder.read(again.SerializeToString() + bytes(PAD), V2).about
        assert about["node_1_total"].help == f"help {first}"
        assert (about["node_2_total"].kind, about["node_2_total"].unit) == ("gauge", "s")


def test_series_in_another_order_every_time() -> None:
    rng, sets, decoder = random.Random(3), hosts(300), Decoder()
    for scrape in range(10):
        rng.shuffle(sets)
        message = write_v1([(one, [(NOW + scrape, float(scrape))]) for one in sets])
        assert read(decoder, message) == oracle(message)


def test_the_order_of_labels_does_not_matter() -> None:
    decoder = Decoder()
    one = {"__name__": "up", "job": "a", "instance": "b"}
    other = dict(reversed(one.items()))
    rows = [read(decoder, write_v1([(labels, [(NOW, 1.0)])])) for labels in (one, other, one, other)]
    assert len({row[0][1] for row in rows}) == 1
    assert len(decoder.series) == 1
    assert read(decoder, write_v2([(other, [(NOW, 1.0)])]), V2) == rows[0]


def test_empty_values_are_absent_labels() -> None:
    decoder = Decoder()
    (row,) = read(decoder, write_v1([({"__name__": "up", "job": "", "a": "b"}, [(NOW, 1.0)])]))
    assert row[:2] == ("up", (("a", "b"),))


@pytest.mark.parametrize(
    ("pairs", "problem"),
    [
        ([("job", "a")], "no metric name"),
        ([("__name__", ""), ("job", "a")], "no metric name"),
        ([("__name__", "up"), ("job", "a"), ("job", "b")], "twice"),
        ([("__name__", "up"), ("__name__", "up")], "twice"),
        ([("__name__", "up"), ("", "a")], "without a name"),
        ([], "no metric name"),
    ],
)
def test_labels_that_name_no_series(pairs: list[tuple[str, str]], problem: str) -> None:
    good = write_v1([({"__name__": "up"}, [(NOW, 1.0)])])
    labels = b"".join(put_bytes(1, put_bytes(1, name.encode()) + put_bytes(2, value.encode())) for name, value in pairs)
    bad = put_bytes(1, labels + put_bytes(2, put_int(2, NOW)))
    for _ in range(2):  # a refused series is refused again
        with pytest.raises(InvalidInput, match=problem):
            read(Decoder(), good + bad)


@pytest.mark.parametrize("time", [2**62 // 1000 + 1, -(2**62 // 1000) - 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("version", [V1, V2])
def test_times_out_of_range(time: int, version: str) -> None:
    write = write_v1 if version == V1 else write_v2
    with pytest.raises(TimeError, match="out of range"):
        read(Decoder(), write([({"__name__": "up"}, [(NOW, 1.0), (time, 1.0)])]), version)


def test_invalid_utf8() -> None:
    broken = put_bytes(1, put_bytes(1, put_bytes(1, b"__name__") + put_bytes(2, b"\xff\xfe")))
    with pytest.raises(Malformed, match="UTF-8"):
        read(Decoder(), broken)
    surrogate = put_bytes(4, b"") + put_bytes(4, b"\xed\xa0\x80")
    with pytest.raises(Malformed, match="UTF-8"):
        read(Decoder(), surrogate, V2)


def whole(version: str) -> bytes:
    """A message with everything that its version knows."""
    if version == V1:
        request = messages.V1["WriteRequest"]()
        for number in range(3):
            one = request.timeseries.add()
            one.labels.add(name="__name__", value=f"metric_{number}")
            one.labels.add(name="job", value="j" * 130)
            one.samples.add(timestamp=NOW, value=number / 2)
            one.exemplars.add(value=1.5, timestamp=NOW).labels.add(name=b"trace_id", value=b"abc")
        request.metadata.add(type=1, metric_family_name="metric_1", help="what it is", unit="s")
        found: bytes = request.SerializeToString()
        return found
    return write_v2([(one, [(NOW, 1.0)]) for one in hosts(4)], {"node_1_total": (1, "help", "s")})


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("warm", [False, True])
def test_cut_off_at_every_byte(version: str, warm: bool) -> None:
    message, decoder = whole(version), Decoder()
    if warm:
        read(decoder, message, version)
    for end in range(len(message)):
        agree(decoder if warm else Decoder(), message[:end], version)
    assert read(decoder, message, version) == oracle(message, version)


@settings(max_examples=400)
@given(st.sampled_from([V1, V2]), st.data())
def test_any_byte_changed(version: str, data: st.DataObject) -> None:
    """Whatever a broken sender or an attacker makes of it: refused, or read as protobuf reads it."""
    message, decoder = whole(version), Decoder()
    for _ in range(data.draw(st.integers(0, 3))):  # never met, met once, remembered
        read(decoder, message, version)
    broken = bytearray(message)
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(decoder, bytes(broken), version)
    except InvalidInput:
        return  # Google's takes a known field of another wire type for an unknown one; here it is refused
    assert found == oracle(bytes(broken), version)


@given(st.binary(max_size=200), st.sampled_from([V1, V2]))
def test_garbage(data: bytes, version: str) -> None:
    try:
        found = read(Decoder(), data, version)
    except InvalidInput:
        return
    assert found == oracle(data, version)


def unknown_fields(rng: random.Random) -> bytes:
    """Fields that no version has, of every wire type, a group among them."""
    kinds = [
        put_int(90, rng.getrandbits(60) + 1),
        put_bytes(91, rng.randbytes(rng.randrange(200))),
        put_varint(92 << 3 | 1) + rng.randbytes(8),
        put_varint(93 << 3 | 5) + rng.randbytes(4),
        put_varint(94 << 3 | 3) + put_int(1, 7) + put_bytes(2, b"x") + put_varint(94 << 3 | 4),
    ]
    return rng.choice(kinds)


def test_unknown_fields_anywhere_and_fields_in_any_order() -> None:
    rng, decoder = random.Random(5), Decoder()
    for _ in range(200):
        fields = []
        for number in range(rng.randrange(4)):
            sample = [put_varint(9) + struct.pack("<d", rng.random()), put_int(2, NOW + number), unknown_fields(rng)]
            rng.shuffle(sample)
            label = [put_bytes(1, b"__name__"), put_bytes(2, b"m%d" % number), unknown_fields(rng)]
            rng.shuffle(label)
            parts = [put_bytes(1, b"".join(label)), put_bytes(2, b"".join(sample)), unknown_fields(rng)]
            parts.append(put_bytes(1, put_bytes(1, b"a") + put_bytes(2, b"b")))
            rng.shuffle(parts)
            fields.append(put_bytes(1, b"".join(parts)))
        fields += [unknown_fields(rng) for _ in range(rng.randrange(3))]
        rng.shuffle(fields)
        message = b"".join(fields)
        assert read(decoder, message) == oracle(message)
        assert read(decoder, message) == oracle(message)


def test_symbols_behind_the_series_that_use_them() -> None:
    request = messages.V2["Request"]()
    request.timeseries.add(labels_refs=[1, 2]).samples.add(timestamp=NOW, value=2.0)
    late = request.SerializeToString() + b"".join(put_bytes(4, text) for text in (b"", b"__name__", b"up"))
    early = put_bytes(4, b"") + late
    decoder = Decoder()
    assert read(decoder, late, V2) == oracle(late, V2)
    with pytest.raises(InvalidInput):  # the references mean other symbols now
        read(decoder, early, V2)


def test_unpacked_references() -> None:
    symbols = b"".join(put_bytes(4, text) for text in (b"", b"__name__", b"up", b"a", b"b"))
    refs = b"".join(put_varint(1 << 3) + put_varint(ref) for ref in (1, 2)) + put_bytes(1, bytes([3, 4]))
    message = symbols + put_bytes(5, refs + put_bytes(2, put_int(2, NOW)))
    assert read(Decoder(), message, V2) == oracle(message, V2) == [("up", (("a", "b"),), NOW * 1000, 0)]


@pytest.mark.parametrize(
    ("symbols", "refs", "problem"),
    [
        ([b"", b"__name__", b"up"], [1], "no pairs"),
        ([b"", b"__name__", b"up"], [1, 3], "refers to the symbol 3"),
        ([b"", b"__name__", b"up"], [1, 2**32 - 1], "refers to the symbol"),
        ([b"x", b"__name__", b"up"], [1, 2], "first symbol"),
        ([], [0, 0], "refers to the symbol 0"),
        ([b"", b"__name__", b"up"], [], "no metric name"),
    ],
)
def test_references_to_nothing(symbols: list[bytes], refs: list[int], problem: str) -> None:
    series = put_bytes(1, b"".join(map(put_varint, refs))) + put_bytes(2, put_int(2, NOW))
    message = b"".join(put_bytes(4, text) for text in symbols) + put_bytes(5, series)
    with pytest.raises(InvalidInput, match=problem):
        read(Decoder(), message, V2)


def test_a_message_of_the_other_version() -> None:
    series = [({"__name__": "up"}, [(NOW, 1.0)])]
    # the two versions share no field number, so that each is an empty message of the other
    assert read(Decoder(), write_v1(series), V2) == []
    assert read(Decoder(), write_v2(series), V1) == []


def test_histograms_are_counted() -> None:
    request = messages.V1["WriteRequest"]()
    one = request.timeseries.add()
    one.labels.add(name="__name__", value="up")
    one.histograms.add(count_int=3, timestamp=NOW)
    found = Decoder().read(request.SerializeToString() + bytes(PAD))
    assert (len(found.slots), found.histograms) == (0, 1)
    request = messages.V2["Request"](symbols=["", "__name__", "up"])
    series = request.timeseries.add(labels_refs=[1, 2])
    series.histograms.add(count_int=3)
    series.histograms.add(count_int=4)
    found = Decoder().read(request.SerializeToString() + bytes(PAD), V2)
    assert (len(found.slots), found.histograms) == (0, 2)


def test_metadata() -> None:
    request = messages.V1["WriteRequest"]()
    request.metadata.add(type=1, metric_family_name="requests_total", help="how many", unit="")
    request.metadata.add(type=99, metric_family_name="odd")
    found = Decoder().read(request.SerializeToString() + bytes(PAD)).about
    assert (found["requests_total"].kind, found["requests_total"].help) == ("counter", "how many")
    assert found["odd"].kind == "untyped"
    rows = [({"__name__": name}, [(NOW, 1.0)]) for name in ("took_seconds_bucket", "took_seconds_sum", "level")]
    about = {"took_seconds_bucket": (3, "duration", "seconds"), "level": (2, "", "")}
    decoder = Decoder()
    found = decoder.read(write_v2(rows, about) + bytes(PAD), V2).about
    assert {name: (one.kind, one.help, one.unit) for name, one in found.items()} == {
        "took_seconds": ("histogram", "duration", "seconds"),
        "level": ("gauge", "", ""),
    }


def test_known_series_cost_no_memory() -> None:
    decoder = Decoder()
    for scrape in range(40):
        # the same series in batches that are never the same
        sets = hosts(200)[scrape:]
        read(decoder, write_v1([(one, [(NOW + scrape, 1.0)]) for one in sets]))
    assert len(decoder.series) == 200
    once = Decoder()
    read(once, write_v1([(one, [(NOW, 1.0)]) for one in hosts(200)]))
    assert decoder.nbytes < 2 * once.nbytes


def test_new_symbol_tables_do_not_pile_up() -> None:
    decoder = Decoder()
    for number in range(300):
        read(decoder, write_v2([({"__name__": "up", "n": f"{number:0300d}"}, [(NOW, 1.0)])]), V2)
    tables = decoder.nbytes - 300 * 1000
    assert tables < 300_000
