"""Functions that change or order labels: label_replace, label_join, sort_by_label, absent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import QueryError
from kymograph.promql import ast
from kymograph.promql.ast import Node
from kymograph.promql.frame import Frame, settled
from kymograph.promql.labels import NAME, Labels, anchored, is_label_name, labels_of, quoted, regex_mask

_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})", re.ASCII)
_GROUP = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?P?<(?P<name>\w+)>)?(?P<silent>\?)?", re.DOTALL)


def _relabelled(frame: Frame, name: str, values: Sequence[str | None]) -> Frame:
    """With the label set to each series' value, removed for "", left for None."""
    labels = [
        one if value is None else labels_of({**dict(one), name: value})
        for one, value in zip(frame.labels, values, strict=True)
    ]
    return settled(labels, frame.values, frame.present)


def replaced(frame: Frame, target: str, template: str, origin: str, pattern: str) -> Frame:
    """`label_replace`: where the whole of a label matches, another label becomes the expanded template."""
    if not is_label_name(target):
        raise QueryError(f"invalid destination label name in label_replace(): {target}")
    try:
        regex_mask([""], pattern)
    except pa.ArrowInvalid:
        raise QueryError(f"invalid regular expression in label_replace(): {pattern}") from None
    texts = [dict(one).get(origin, "") for one in frame.labels]
    distinct = list(dict.fromkeys(texts))
    hits = regex_mask(distinct, pattern)
    new = dict(zip(distinct, _expanded(distinct, template, pattern), strict=True))
    matched = {text for text, hit in zip(distinct, hits, strict=True) if hit}
    return _relabelled(frame, target, [new[text] if text in matched else None for text in texts])


def _expanded(texts: list[str], template: str, pattern: str) -> list[str]:
    """Go's template (`$1`, `${name}`, `$$`) as RE2's, applied to every text."""
    groups = [m["name"] for m in _GROUP.finditer(pattern) if m[0].startswith("(") and not m["silent"]]

    def number(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        word = match[1] or match[2]
        place = int(word) if word.isdigit() else groups.index(word) + 1 if word in groups else -1
        # RE2 counts to 9 in a replacement
        return f"\\{place}" if 0 <= place <= min(9, len(groups)) else ""

    rewritten = _REFERENCE.sub(number, template.replace("\\", "\\\\"))
    array = pa.array(texts, pa.string())
    found: list[str] = pc.replace_substring_regex(array, anchored(pattern), rewritten, max_replacements=1).to_pylist()
    return found


def joined(frame: Frame, target: str, separator: str, origins: Sequence[str]) -> Frame:
    """`label_join`: a label becomes others' values in a row."""
    for name in origins:
        if not is_label_name(name):
            raise QueryError(f"invalid source label name in label_join(): {name}")
    if not is_label_name(target):
        raise QueryError(f"invalid destination label name in label_join(): {target}")
    values = []
    for one in frame.labels:
        pairs = dict(one)
        values.append(separator.join([pairs.get(name, "") for name in origins]))
    return _relabelled(frame, target, values)


def with_label(labels: Labels, name: str, value: str) -> Labels:
    if not is_label_name(name):
        raise QueryError(f"invalid label name {quoted(name)}")
    return labels_of({**dict(labels), name: value})


def natural(text: str) -> Any:
    """Sorts "9" before "10" within texts; a number and a text are both texts to each other."""
    # only the first character tells a number from a text; more than 18 digits are no number to Prometheus either
    return [
        (1, int(part) if len(part) <= 18 else 10**18, part) if "0" <= part[0] <= "9" else (2 * (part[0] > "9"), 0, part)
        for part in re.split(r"([0-9]+)", text)
        if part
    ]


def absent_labels(node: Node) -> Labels:
    """The labels of `absent(selector)`: those the selector states once by `=`, and in no other way after that."""
    node = ast.bare(node)
    if not isinstance(node, ast.Selector):
        return ()
    found: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in node.matchers:
        if matcher.name == NAME:
            continue
        if matcher.operator == "=" and matcher.name not in seen:
            found[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            found.pop(matcher.name, None)
    return labels_of(found)


def told_apart(parts: Mapping[str, Frame], label: str) -> Frame:
    """Frames of the same series as one, told apart by a label; without metric names."""
    labels = [with_label(one, label, text) for text, frame in parts.items() for one in frame.labels]
    values = np.concatenate([frame.values for frame in parts.values()])
    present = np.concatenate([frame.present for frame in parts.values()])
    return settled(labels, values, present).unnamed()
