"""Topic templates, and what a payload holds."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kymograph.collect.topics import Template, samples_of
from kymograph.errors import InvalidInput


@pytest.mark.parametrize(
    ("template", "filter", "topic", "found"),
    [
        ("home/{room}/{metric}", "home/+/+", "home/kitchen/temp", ("temp", {"room": "kitchen"})),
        ("home/{room}/{metric}", "home/+/+", "home/kitchen", None),
        ("home/{room}/{metric}", "home/+/+", "home/a/b/c", None),
        ("home/{room}/{metric}", "home/+/+", "work/a/b", None),
        ("tele/{device}/SENSOR", "tele/+/SENSOR", "tele/plug-1/SENSOR", ("tele_SENSOR", {"device": "plug-1"})),
        ("a/+/{metric}/#", "a/+/+/#", "a/x/power", ("power", {})),
        ("a/+/{metric}/#", "a/+/+/#", "a/x/power/now/really", ("power", {})),
        ("#", "#", "any/thing", ("mqtt", {})),
        ("{a}", "+", "é/x", None),
        ("{a}", "+", "é", ("mqtt", {"a": "é"})),
        ("/{metric}", "/+", "/x y", ("x_y", {})),
    ],
)
def test_templates(template: str, filter: str, topic: str, found: object) -> None:
    made = Template(template)
    assert made.filter == filter
    assert made.match(topic) == found


@pytest.mark.parametrize(
    "text", ["", "a/{b", "a/b}", "a/{b c}", "a/x{b}", "a/#/b", "a+/b", "{a}/{a}", "a\0b", "x" * 1001]
)
def test_no_templates(text: str) -> None:
    with pytest.raises(InvalidInput):
        Template(text)


HOME = [Template("home/{room}/{metric}"), Template("tele/{device}/SENSOR")]


@pytest.mark.parametrize(
    ("payload", "values"),
    [
        ("21.5", {"temp": 21.5}), (" -3 ", {"temp": -3}), ("1e3", {"temp": 1000}), ("true", {"temp": 1}),
        ("OFF", {"temp": 0}), ("online", {"temp": 1}),
        ('{"value": 1, "unit": "C", "ok": true, "none": null, "list": [1, 2]}', {"temp_value": 1, "temp_ok": 1}),
        ('{"ENERGY": {"Power": 5, "Total.kWh": 2.5}, "Time": "2026"}', {"temp_ENERGY_Power": 5, "temp_ENERGY_Total_kWh": 2.5}),
        ('{"a": 1e999, "b": 2}', {"temp_b": 2}),
    ],
)  # fmt: skip
def test_payloads(payload: str, values: dict[str, float]) -> None:
    found = samples_of(HOME, "home/kitchen/temp", payload.encode())
    assert {name: value for name, _, value in found} == values
    assert all(labels == {"room": "kitchen"} for _, labels, _ in found)


@pytest.mark.parametrize(
    "payload",
    [b"", b"hello", b"\xff\xfe", b"{", b'"text"', b"[1]", b"null", b"NaN", b"{}", b'{"a": "b"}', b"[" * 100_000,
     b"1" * 300_000, json.dumps({f"k{n}": n for n in range(2000)}).encode()],
)  # fmt: skip
def test_payloads_of_nothing(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"it |bytes"):
        samples_of(HOME, "home/kitchen/temp", payload)


def test_deep_payloads_end_somewhere() -> None:
    deep = {"x": 1}
    for _ in range(20):
        deep = {"a": deep, "b": 1}  # type: ignore[dict-item]
    assert 5 < len(samples_of(HOME, "home/kitchen/t", json.dumps(deep).encode())) < 12


def test_topics_of_no_template_or_metric() -> None:
    for topic in ("else/where", "home/kitchen/°"):
        with pytest.raises(ValueError, match="topic"):
            samples_of(HOME, topic, b"1")


@given(st.text(max_size=50), st.binary(max_size=80))
def test_anything_is_samples_or_a_value_error(topic: str, payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        for name, _, _ in samples_of([*HOME, Template("#")], topic, payload):
            assert name
