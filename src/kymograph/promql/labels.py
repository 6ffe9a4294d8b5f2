"""Label sets as tuples of pairs, and what names, matchers and regexes mean for them.

The metric name, where there is one, is the first pair; the others follow sorted by name. Empty values are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.promql.ast import LabelMatcher

Labels = tuple[tuple[str, str], ...]
NAME = "__name__"
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def labels_of(pairs: Mapping[str, str]) -> Labels:
    """A label set from a mapping; `__name__` and all."""
    name = pairs.get(NAME)
    rest = sorted((key, value) for key, value in pairs.items() if value and key != NAME)
    return ((NAME, name), *rest) if name else tuple(rest)


def unnamed(labels: Labels) -> Labels:
    return labels[1:] if labels and labels[0][0] == NAME else labels


def name_of(labels: Labels) -> str:
    return labels[0][1] if labels and labels[0][0] == NAME else ""


# the same series are put into the same groups by every query of a dashboard
@lru_cache(maxsize=131_072)
def kept(labels: Labels, names: frozenset[str]) -> Labels:
    return _one(tuple([pair for pair in labels if pair[0] in names]))


@lru_cache(maxsize=131_072)
def dropped(labels: Labels, names: frozenset[str]) -> Labels:
    return _one(tuple([pair for pair in labels if pair[0] not in names]))


@lru_cache(maxsize=65_536)
def _one(labels: Labels) -> Labels:
    """The same tuple for equal label sets: one that is in the processor's cache is quicker to hash."""
    return labels


def sort_key(labels: Labels) -> Any:
    """Prometheus' order of label sets: pairs sorted by name, compared one by one."""
    return labels if not labels or labels[0][0] != NAME or labels[-1][0] > NAME else sorted(labels)


def shown(labels: Labels) -> str:
    """As Prometheus prints a label set in its messages."""
    pairs = [f"{key if _PLAIN.fullmatch(key) else quoted(key)}={quoted(value)}" for key, value in sorted(labels)]
    return "{" + ", ".join(pairs) + "}"


_PLAIN = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")


def quoted(text: str) -> str:
    """Go's %q for what occurs in labels: bytes that are no UTF-8 as \\x.."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + re.sub("[\udc80-\udcff]", lambda m: f"\\x{ord(m[0]) - 0xDC00:02x}", plain) + '"'


def is_label_name(text: str) -> bool:
    """Any UTF-8 text that is not empty, as Prometheus 3 has it."""
    return bool(text) and not any(0xD800 <= ord(c) < 0xE000 for c in text)


def anchored(pattern: str) -> str:
    return f"^(?s:{pattern})$"


@lru_cache(maxsize=512)
def _problem(pattern: str) -> str:
    try:
        pc.match_substring_regex(pa.array([""]), anchored(pattern))
    except (pa.ArrowInvalid, UnicodeEncodeError) as problem:
        said = str(problem).removeprefix("Invalid regular expression: ").partition(": ^(?s:")[0]
        return said.replace("missing )", "missing closing )") + f": `{anchored(pattern)}`"
    return ""


def bad_regex(matcher: LabelMatcher) -> str:
    """What is wrong with the matcher's regex, or ""."""
    return _problem(matcher.value) if matcher.operator in ("=~", "!~") else ""


def regex_mask(values: Sequence[str] | pa.Array, pattern: str) -> Bools:
    """Which of the texts match the whole pattern; RE2, as Prometheus."""
    array = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    if _TEXTS.fullmatch(pattern):
        return _bools(pc.is_in(array, pa.array(pattern.split("|"), pa.string())))
    around = _AROUND.fullmatch(pattern)
    if around is not None:
        look = pc.match_substring if around[2] else pc.ends_with
        return _bools(look(array, around[1]))
    prefix = _prefix(pattern)
    if not prefix:
        return _bools(pc.match_substring_regex(array, anchored(pattern)))
    found = _bools(pc.starts_with(array, prefix))
    places = np.flatnonzero(found)
    found[places] = _bools(pc.match_substring_regex(array.take(pa.array(places)), anchored(pattern)))
    return found


# what means itself in a regex, also in a row separated by |
_TEXTS = re.compile(r"[^\\.+*?()|\[\]{}^$]*(?:\|[^\\.+*?()|\[\]{}^$]*)*")
# the same with anything before it, and perhaps after it
_AROUND = re.compile(r"\.\*([^\\.+*?()|\[\]{}^$]+)(\.\*)?")
_LITERAL = re.compile(r"[^\\.+*?()|\[\]{}^$]*")


def _prefix(pattern: str) -> str:
    """What every match starts with: cheap to look for, before the regex runs on what is left."""
    if "|" in pattern:
        return ""
    found = _LITERAL.match(pattern)
    assert found is not None
    # a quantifier makes the last character optional
    return found[0][:-1] if pattern[found.end() : found.end() + 1] in ("*", "?", "{", "+") else found[0]


def _bools(array: pa.Array) -> Bools:
    found: Bools = array.to_numpy(zero_copy_only=False).astype(np.bool_)
    return found


def matcher_mask(matcher: LabelMatcher, values: pa.Array) -> Bools:
    """Which of the label values satisfy the matcher."""
    if matcher.operator in ("=~", "!~"):
        found = regex_mask(values, matcher.value)
        return found if matcher.operator == "=~" else ~found
    equal = _bools(pc.equal(values, matcher.value))
    return equal if matcher.operator == "=" else ~equal


def matches_empty(matcher: LabelMatcher) -> bool:
    return bool(matcher_mask(matcher, pa.array([""], pa.string()))[0])


def unique(labels: Iterable[Labels]) -> dict[Labels, int]:
    """Number of each distinct label set, in order of appearance."""
    distinct = dict.fromkeys(labels)
    return dict(zip(distinct, range(len(distinct)), strict=True))
