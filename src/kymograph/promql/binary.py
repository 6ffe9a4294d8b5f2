"""Binary operators: on scalars, on vectors that find each other by labels, and the set operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kymograph.errors import QueryError
from kymograph.promql import ast
from kymograph.promql.ast import Matching
from kymograph.promql.frame import Frame, empty, settled, single
from kymograph.promql.instant import ARITHMETIC, COMPARE
from kymograph.promql.labels import NAME, Bools, Labels, dropped, kept, labels_of, shown, sort_key, unnamed
from kymograph.promql.limits import Meter
from kymograph.promql.source import Floats

Key = Callable[[Labels], Labels]
_NONE = np.zeros(0, np.int64)
_MANY_TO_ONE = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"


def scalars(operator: str, left: Floats, right: Floats) -> Floats:
    if operator in ("default", "if", "ifnot"):  # NaN stands for no value
        value, there = (
            (right, ~np.isnan(left)) if operator == "default" else (np.nan, np.isnan(right) ^ (operator == "if"))
        )
        return np.where(there, left, value)
    found: Any = (ARITHMETIC.get(operator) or COMPARE[operator])(left, right)
    return np.asarray(found, np.float64)


def with_scalar(node: ast.Binary, frame: Frame, scalar: Floats, *, scalar_first: bool) -> Frame:
    """Vector and scalar [T]. A comparison without `bool` keeps the vector's values where it holds."""
    left, right = (scalar, frame.values) if scalar_first else (frame.values, scalar)
    if node.operator in ARITHMETIC:
        found = Frame(frame.labels, ARITHMETIC[node.operator](left, right), frame.present)
    else:
        holds = COMPARE[node.operator](left, right)
        if not node.returns_bool:
            return Frame(frame.labels, frame.values, frame.present & holds)
        found = Frame(frame.labels, holds.astype(np.float64), frame.present)
    return found if node.keep_names else found.unnamed()


def _key(matching: Matching) -> Key:
    if matching.on:
        names = frozenset(matching.labels)
        return lambda labels: kept(labels, names)
    if not matching.labels:
        return unnamed
    ignored = frozenset((*matching.labels, NAME))
    return lambda labels: dropped(labels, ignored)


class _Sides:
    """Two frames whose rows were grouped by the labels that are to match.

    Attributes:
        keys: the distinct matching label sets of both.
        many, one: frames; at most one row of `one` per key and step.
        of_many, of_one: key number of each row.
    """

    def __init__(self, many: Frame, one: Frame, matching: Matching) -> None:
        self.many, self.one = many, one
        key, found = _key(matching), dict[Labels, int]()
        self.of_many = np.array([found.setdefault(key(one), len(found)) for one in many.labels], np.int64)
        self.of_one = np.array([found.setdefault(key(one), len(found)) for one in one.labels], np.int64)
        self.keys = list(found)

    def present(self, frame: Frame, of: Any) -> Bools:
        """Whether any row of a key is there: bool [keys, T]."""
        found = np.zeros((len(self.keys), frame.values.shape[1]), np.bool_)
        if len(set(of.tolist())) == len(of):
            found[of] = frame.present
        else:
            np.logical_or.at(found, of, frame.present)
        return found

    def pairs(self) -> tuple[Any, Any]:
        """Row numbers of many and one, every pair with the same key."""
        if not len(self.of_many) or not len(self.of_one):
            return _NONE, _NONE
        order = np.argsort(self.of_one, kind="stable")
        ranked = self.of_one[order]
        low = np.searchsorted(ranked, self.of_many, side="left")
        count = np.searchsorted(ranked, self.of_many, side="right") - low
        many = np.repeat(np.arange(len(self.of_many)), count)
        place = np.arange(len(many)) - np.repeat(np.cumsum(count) - count, count)
        return many, order[np.repeat(low, count) + place]

    def check_one(self, side: str) -> None:
        """Raises QueryError where two rows of the one side have the same key at the same step."""
        if len(set(self.of_one.tolist())) == len(self.of_one):
            return
        count = np.zeros((len(self.keys), self.one.values.shape[1]), np.int64)
        np.add.at(count, self.of_one, self.one.present.astype(np.int64))
        twice = np.argwhere((count > 1) & self.many.present.any(axis=0))
        if not len(twice):
            return
        number, step = twice[0]
        rows = np.flatnonzero((self.of_one == number) & self.one.present[:, step])
        pair = sorted((self.one.labels[row] for row in rows[:2].tolist()), key=sort_key)
        raise QueryError(
            f"found duplicate series for the match group {shown(self.keys[number])} on the {side} hand-side of the "
            f"operation: [{shown(pair[0])}, {shown(pair[1])}];many-to-many matching not allowed: matching labels must "
            "be unique on one side"
        )


def _overlap(codes: list[Any], present: Bools) -> bool:
    places: dict[Any, int] = {}
    rows = [places.setdefault(code, len(places)) for code in codes]
    if len(places) == len(codes):
        return False
    count = np.zeros((len(places), present.shape[1]), np.int64)
    np.add.at(count, rows, present.astype(np.int64))
    return bool((count > 1).any())


def vectors(node: ast.Binary, left: Frame, right: Frame, meter: Meter) -> Frame:
    """Arithmetic or comparison of two vectors.

    Raises:
        QueryError: series that do not find each other one to one, or many to one where the query says so.
        LimitExceeded: too many pairs.
    """
    matching = node.matching
    swapped = matching.card == "one-to-many"
    sides = _Sides(*((right, left) if swapped else (left, right)), matching)
    sides.check_one("left" if swapped else "right")
    many, one = sides.pairs()
    meter.room(len(many) * left.values.shape[1])
    there = sides.many.present[many] & sides.one.present[one]
    labels = _result_labels(node, sides, many, one)
    # also of what a comparison leaves out, so that a query does not fail only now and then
    if matching.card == "one-to-one":
        if _overlap(sides.of_many[many].tolist(), there):
            raise QueryError(_MANY_TO_ONE)
    elif _overlap(list(zip(sides.of_many[many].tolist(), labels, strict=True)), there):
        raise QueryError("multiple matches for labels: grouping labels must ensure unique matches")
    of_many, of_one = sides.many.values[many], sides.one.values[one]
    operands = (of_one, of_many) if swapped else (of_many, of_one)
    parts = [_applied(node, labels, operands, there)]
    fills = (matching.fill_right, matching.fill_left)
    for value, mine in zip(reversed(fills) if swapped else fills, (True, False), strict=True):
        if value is not None:
            parts.append(_filled(node, sides, value, of_many=mine, left=mine != swapped))
    if len(parts) == 1:
        return settled(parts[0].labels, parts[0].values, parts[0].present)
    return settled(
        [one for part in parts for one in part.labels],
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
    )


def _applied(node: ast.Binary, labels: list[Labels], operands: tuple[Floats, Floats], there: Bools) -> Frame:
    left, right = operands
    if node.operator in ARITHMETIC:
        return Frame(labels, ARITHMETIC[node.operator](left, right), there)
    holds = COMPARE[node.operator](left, right)
    if node.returns_bool:
        return Frame(labels, holds.astype(np.float64), there)
    return Frame(labels, left, there & holds)


def _filled(node: ast.Binary, sides: _Sides, value: float, *, of_many: bool, left: bool) -> Frame:
    """Rows of one side where the other has no partner, with a value in its place; `left` says which side they are."""
    frame, of = (sides.many, sides.of_many) if of_many else (sides.one, sides.of_one)
    other = sides.present(*((sides.one, sides.of_one) if of_many else (sides.many, sides.of_many)))
    there = frame.present & ~other[of]
    if node.matching.card == "one-to-one" and _overlap(of.tolist(), there):
        raise QueryError(_MANY_TO_ONE)
    rows = np.arange(len(frame.labels))
    if of_many:
        labels = [_result(node, one, ()) for one in frame.labels]
    else:
        labels = [_result(node, sides.keys[code], frame.labels[row]) for row, code in zip(rows, of, strict=True)]
    filler = np.full(frame.values.shape, value)
    return _applied(node, labels, (frame.values, filler) if left else (filler, frame.values), there)


def _result_labels(node: ast.Binary, sides: _Sides, many: Any, one: Any) -> list[Labels]:
    matching = node.matching
    if not matching.given and node.operator in ARITHMETIC and not node.keep_names:
        return [unnamed(sides.many.labels[row]) for row in many.tolist()]
    pairs = zip(many.tolist(), one.tolist(), strict=True)
    return [_result(node, sides.many.labels[row], sides.one.labels[other]) for row, other in pairs]


def _result(node: ast.Binary, many: Labels, one: Labels) -> Labels:
    matching = node.matching
    if (node.operator in ARITHMETIC or node.returns_bool) and not node.keep_names:
        many = unnamed(many)
    if matching.card == "one-to-one":
        names = frozenset(matching.labels)
        return kept(many, names) if matching.on else dropped(many, names)
    if not matching.include:
        return many
    pairs, other = dict(many), dict(one)
    for name in matching.include:
        pairs[name] = other.get(name, "")
    return labels_of(pairs)


def sets(node: ast.Binary, left: Frame | Floats, right: Frame | Floats) -> Frame:
    """`and`, `or`, `unless`, and MetricsQL's `if`, `ifnot`, `default`; a scalar counts as a series without labels."""
    # MetricsQL: one series without labels is as good as a scalar where nothing else matches
    if node.operator in ("if", "ifnot", "default") and isinstance(right, Frame) and right.labels == [()]:
        right = np.where(right.present[0], right.values[0], np.nan)
    scalar = not isinstance(right, Frame)
    left = left if isinstance(left, Frame) else single(left, ~np.isnan(left))
    right = right if isinstance(right, Frame) else single(right, ~np.isnan(right))
    operator = node.operator
    if operator in ("if", "ifnot", "default") and scalar:
        there = right.present[0]
        if operator == "default":
            rows = left if left.labels else Frame([()], right.values * 0, right.present & False)
            return Frame(rows.labels, np.where(rows.present, rows.values, right.values[0]), rows.present | there)
        return Frame(left.labels, left.values, left.present & (there if operator == "if" else ~there))
    sides = _Sides(left, right, node.matching)
    partner = sides.present(right, sides.of_one)
    if operator in ("and", "if"):
        return Frame(left.labels, left.values, left.present & partner[sides.of_many])
    if operator in ("unless", "ifnot"):
        return Frame(left.labels, left.values, left.present & ~partner[sides.of_many])
    if operator == "default":
        left, rest = (_defaulted(sides), empty(right.values.shape[1])) if left.labels else (left, right)
    else:
        own = sides.present(left, sides.of_many)
        rest = Frame(right.labels, right.values, right.present & ~own[sides.of_one])
    rest, left = rest.pruned(), left.pruned()
    if not rest.labels and not left.labels:
        return empty(left.values.shape[1])
    return settled(
        [*left.labels, *rest.labels],
        np.concatenate([left.values, rest.values]),
        np.concatenate([left.present, rest.present]),
    )


def _defaulted(sides: _Sides) -> Frame:
    values, present = sides.many.values.copy(), sides.many.present.copy()
    for row, other in zip(*(side.tolist() for side in sides.pairs()), strict=True):
        gaps = sides.one.present[other] & ~present[row]
        values[row, gaps] = sides.one.values[other, gaps]
        present[row] |= gaps
    return Frame(sides.many.labels, values, present)
