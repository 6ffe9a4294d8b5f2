"""Topic templates and payloads of MQTT: what a message says, as samples."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from kymograph.errors import InvalidInput
from kymograph.wire.names import plain_label, plain_name

_CAPTURE = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}", re.ASCII)
_WORDS = {"on": 1.0, "true": 1.0, "online": 1.0, "open": 1.0, "off": 0.0, "false": 0.0, "offline": 0.0, "closed": 0.0}
METRIC = "metric"
MAX_PAYLOAD = 256 * 2**10
_DEPTH = 8
_MAX_VALUES = 1000
Found = tuple[str, dict[str, str], float]


class Template:
    """`home/{room}/{metric}`: levels in braces become labels, `{metric}` names the metric.

    `+` stands for any level and `#` at the end for all further ones. Without `{metric}` the levels that are given
    literally name it.

    Attributes:
        filter: what to subscribe to.

    Raises:
        InvalidInput: a template that is none.
    """

    def __init__(self, text: str) -> None:
        levels = text.split("/")
        hint = "write it like home/{room}/{metric}"
        if not text or "\0" in text or len(text) > 1000:
            raise InvalidInput(f"{text[:80]!r} is no topic", hint=hint)
        self.text = text
        self._parts: list[tuple[str, str]] = []
        for place, level in enumerate(levels):
            capture = _CAPTURE.fullmatch(level)
            if capture is not None:
                self._parts.append(("label", capture[1]))
            elif level == "+" or (level == "#" and place == len(levels) - 1):
                self._parts.append((level, ""))
            elif any(c in level for c in "+#{}"):
                raise InvalidInput(f"{level[:80]!r} cannot be a level of a topic", hint=hint)
            else:
                self._parts.append(("", level))
        names = [name for what, name in self._parts if what == "label"]
        if len(set(names)) < len(names):
            raise InvalidInput(f"the topic {text[:80]!r} has a name twice", hint=hint)
        self.filter = "/".join(what if what in "+#" and what else "+" if what else name for what, name in self._parts)
        self._literal = plain_name("_".join(name for what, name in self._parts if not what)) or "mqtt"

    def match(self, topic: str) -> tuple[str, dict[str, str]] | None:
        """Metric name and labels of a topic; None where it is of another template. The name is "" if unusable."""
        levels = topic.split("/")
        rest = self._parts[-1][0] == "#"
        if len(levels) < len(self._parts) - rest or (len(levels) > len(self._parts) and not rest):
            return None
        name, labels = self._literal, {}
        for (what, wanted), level in zip(self._parts, levels, strict=False):
            if not what and level != wanted:
                return None
            if what == "label" and wanted == METRIC:
                name = plain_name(level)
            elif what == "label":
                labels[wanted] = level
        return name, labels


def samples_of(templates: Sequence[Template], topic: str, payload: bytes) -> list[Found]:
    """Name, labels and value of everything numeric in a message.

    A plain number, or one of on/off, true/false, online/offline, open/closed, is the metric. Of a JSON object each
    number and truth is a metric of its own, `<metric>_<key>`, inner objects joined likewise; texts, lists and nulls
    are passed over.

    Raises:
        ValueError: it holds nothing that can be recorded.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"the message has {len(payload):,} bytes")
    found = next((place for template in templates if (place := template.match(topic)) is not None), None)
    if found is None or not found[0]:
        raise ValueError("its topic names no metric")
    name, labels = found
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    if text.lower() in _WORDS:
        return [(name, labels, _WORDS[text.lower()])]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is neither a number nor JSON") from None
    samples = [(key, labels, number) for key, number in _numbers(name, value, 0)]
    if not samples or len(samples) > _MAX_VALUES:
        raise ValueError("it holds no number" if not samples else f"it holds more than {_MAX_VALUES} numbers")
    return samples


def _numbers(name: str, value: Any, depth: int) -> Iterator[tuple[str, float]]:
    if isinstance(value, bool):
        yield name, float(value)
    elif isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError:
            return
        if math.isfinite(number):
            yield name, number
    elif isinstance(value, dict) and depth < _DEPTH:
        for key, inner in value.items():
            label = plain_label(key)
            if label:
                yield from _numbers(f"{name}_{label}"[:255], inner, depth + 1)
