"""Reads and runs PromQL test scripts: `load`, `clear` and `eval` as Prometheus' own test language has them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.engine.memory import MemoryEngine
from kymograph.errors import KymographError
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA
from kymograph.model.time import TIME_TYPE
from kymograph.options import parse_duration
from kymograph.promql import ast
from kymograph.promql.engine import query_instant, query_range
from kymograph.promql.labels import labels_of, matcher_mask
from kymograph.promql.lexer import tokens
from kymograph.promql.parse import parse
from kymograph.promql.result import PromResult
from kymograph.promql.source import STALE, Source

Points = list[float | None]
_STALE = np.array([STALE], np.int64).view(np.float64)[0]
_NUMBER = r"[+-]?(?:[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+\.|inf|nan|Inf|NaN|stale)"
_RUN = re.compile(rf"({_NUMBER}|_)(?:([+-])({_NUMBER}))?(?:x([0-9]+))?")
_EVAL = re.compile(
    r"eval(?:_(?P<old>fail|warn|info|ordered))?\s+(?:instant\s+at\s+(?P<at>\S+)"
    r"|range\s+from\s+(?P<start>\S+)\s+to\s+(?P<end>\S+)\s+step\s+(?P<step>\S+))\s+(?P<query>.+)",
    re.DOTALL,
)


# what is wrong with an eval that selects native histograms, which Kymograph does not have
NATIVE = "needs native histograms"


@dataclass
class Expectation:
    """What an eval is to give. `series` is by label set; a number alone is the label set None."""

    line: int
    query: str
    at: int = 0
    span: tuple[int, int, int] | None = None
    series: dict[object, Points] = field(default_factory=dict)
    directives: list[tuple[str, str]] = field(default_factory=list)
    matrix: tuple[int, int, int] | None = None
    native: bool = False


@dataclass
class Load:
    step: int
    series: list[tuple[dict[str, str], Points | None]]
    nhcb: bool = False


def micros(text: str) -> int:
    """`5m`, `1h30m`, or seconds."""
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("+-")
    return sign * (round(float(text) * 1e6) if re.fullmatch("[0-9.]+", text) else parse_duration(text))


def points(text: str) -> Points | None:
    """The values of a line in series notation, None for a gap; None in all for native histograms."""
    if "{{" in text:
        return None
    found: Points = []
    for word in text.split():
        match = _RUN.fullmatch(word)
        assert match, word
        start, sign, step, times = match.groups()
        count = int(times or 0) + 1
        if start == "_":
            found += [None] * (count - bool(times))
        else:
            value = _STALE if start == "stale" else float(start)
            for _ in range(count):
                found.append(value)
                value = value + (float(step) if sign == "+" else -float(step)) if step else value
    return found


def labels(text: str) -> dict[str, str]:
    node = parse(text) if text != "{}" else None
    return {m.name: m.value for m in node.matchers if m.value} if isinstance(node, ast.Selector) else {}


def _split(line: str) -> tuple[str, str]:
    """A series and the rest of its line."""
    quote, depth = "", 0
    for at, char in enumerate(line):
        if quote:
            quote = "" if char == quote and line[at - 1] != "\\" else quote
        elif char in "\"'`":
            quote = char
        elif char in "{}":
            depth += 1 if char == "{" else -1
        elif char.isspace() and not depth:
            return line[:at], line[at:].strip()
    return line, ""


def commands(path: Path) -> Iterator[Load | Expectation | str]:
    """What a script says, in order."""
    blocks: list[tuple[int, list[str]]] = []
    for number, raw in enumerate(path.read_text().splitlines(), 1):
        if not raw.strip() or raw.lstrip().startswith("#"):
            continue
        if raw[0].isspace():
            blocks[-1][1].append(raw.strip())
        else:
            blocks.append((number, [raw.strip()]))
    for number, (head, *body) in blocks:
        if head.startswith("load"):
            pairs = [_split(line) for line in body]
            yield Load(micros(head.split()[1]), [(labels(name), points(rest)) for name, rest in pairs], "nhcb" in head)
        elif head.startswith("eval"):
            yield _expectation(number, head, body)
        else:
            yield head.strip()


def _expectation(number: int, head: str, body: list[str]) -> Expectation:
    match = _EVAL.fullmatch(head)
    assert match, head
    found = Expectation(number, match["query"].strip())
    if match["at"]:
        found.at = micros(match["at"])
    else:
        found.span = (micros(match["start"]), micros(match["end"]), micros(match["step"]))
    if match["old"]:
        found.directives.append((match["old"], ""))
    for line in body:
        if line.startswith("expect range vector"):
            words = line.split()
            found.matrix = (micros(words[4]), micros(words[6]), micros(words[8]))
        elif line.startswith(("expect ", "expected_fail")):
            kind, _, rest = (
                line.replace("expected_fail_message", "expect fail msg:")
                .replace("expected_fail_regexp", "expect fail regex:")
                .removeprefix("expect ")
                .partition(" ")
            )
            found.directives.append((kind, rest.strip()))
        else:
            series, rest = _split(line)
            found.native |= "{{" in rest or "{count:" in series
            found.series[labels_of(labels(series)) if rest else None] = points(rest or series) or []
    return found


class Runner:
    """Runs one script. Every eval yields its line and what is wrong with its answer, "" when nothing is."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._engine: Engine = MemoryEngine()
        self._engine.create_table(SAMPLES_SCHEMA)
        self._source = Source(self._engine)
        self._native: list[dict[str, str]] = []

    def run(self, path: Path) -> Iterator[tuple[Expectation, str]]:
        for command in commands(path):
            if isinstance(command, Load):
                self._load(command)
            elif isinstance(command, Expectation):
                problem = self._check(command)
                native = problem and (command.native or self._touches_native(command.query))
                yield command, NATIVE if native else problem
            elif command == "clear":
                self._clear()
            else:
                raise AssertionError(f"{path.name}: {command}")

    def _load(self, load: Load) -> None:
        for pairs, values in load.series:
            if load.nhcb and pairs["__name__"].endswith("_bucket"):
                rest = {k: v for k, v in pairs.items() if k != "le"}
                self._native.append({**rest, "__name__": pairs["__name__"].removesuffix("_bucket")})
            if values is None:
                self._native.append(pairs)
                continue
            rest = {k: v for k, v in pairs.items() if k != "__name__"}
            number = self._engine.register_series([(pairs.get("__name__", ""), rest)])[0]
            there = [(i * load.step, value) for i, value in enumerate(values) if value is not None]
            columns = [
                pa.array([time for time, _ in there], TIME_TYPE),
                pa.array([number] * len(there), pa.int64()),
                pa.array(np.array([value for _, value in there], np.float64)),
            ]
            self._engine.append(SAMPLES, pa.RecordBatch.from_arrays(columns, schema=SAMPLES_SCHEMA.arrow))

    def _check(self, wanted: Expectation) -> str:
        ways = [("", wanted.query, wanted.at)]
        if wanted.span is None and wanted.matrix is None:
            fixed = pinned(wanted.query, wanted.at)
            ways += [("with @: ", fixed, wanted.at + 7_777_000_000)] if fixed else []
        for name, query, at in ways:
            problem = self._one(wanted, query, at, as_range=False)
            if problem:
                return name + problem
        as_range = wanted.span is None and wanted.matrix is None and "step()" not in wanted.query
        if as_range and not any(k == "string" for k, _ in wanted.directives):
            problem = self._one(wanted, wanted.query, wanted.at, as_range=True)
            return f"as a range: {problem}" if problem else ""
        return ""

    def _touches_native(self, query: str) -> bool:
        try:
            selectors = list(_selectors(parse(query)))
        except KymographError:
            return False
        return any(
            all(matcher_mask(m, pa.array([pairs.get(m.name, "")]))[0] for m in selector.matchers)
            for selector in selectors
            for pairs in self._native
        )

    def _one(self, wanted: Expectation, query: str, at: int, *, as_range: bool) -> str:
        failing = [rest for kind, rest in wanted.directives if kind == "fail"]
        try:
            if wanted.span or as_range:
                start, end, step = wanted.span or (at, at, 60_000_000)
                result = query_range(self._source, query, start, end, step)
            else:
                result = query_instant(self._source, query, at)
        except KymographError as problem:
            if failing:
                return "" if all(_says(rest, [str(problem)]) for rest in failing) else f"failed with {problem}"
            return f"failed: {problem}"
        if failing:
            return "did not fail"
        return _different(wanted, result, as_range=as_range)


def _selectors(node: ast.Node) -> Iterator[ast.Selector]:
    return (one for one in _nodes(node) if isinstance(one, ast.Selector))


def _nodes(node: ast.Node) -> Iterator[ast.Node]:
    yield node
    for value in vars(node).values():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, ast.Node):
                yield from _nodes(one)


_UNSAFE = {"time", "timestamp", "predict_linear", "minute", "hour", "month", "year", "day_of_week", "day_of_month",
           "day_of_year", "days_in_month", "lag", "start", "end", "range", "now"}  # fmt: skip


def pinned(query: str, at: int) -> str:
    """The query with `@` on every selector, "" where that would mean something else."""
    try:
        tree = parse(query)
    except KymographError:
        return ""
    nodes = list(_nodes(tree))
    if any(isinstance(n, ast.Subquery) or (isinstance(n, ast.Call) and n.function in _UNSAFE) for n in nodes):
        return ""
    if any(s.when.at is not None for s in _selectors(tree)) or "WITH" in query:
        return ""
    found = tokens(query)
    inserts = []
    for selector in _selectors(tree):
        place = next(i for i, token in enumerate(found) if token.position == selector.position)
        place += found[place].kind == "name"
        for opening, closing in (("{", "}"), ("[", "]")):
            if found[place].kind == "sign" and found[place].text == opening:
                while not (found[place].kind == "sign" and found[place].text == closing):
                    place += 1
                place += 1
        inserts.append(found[place].position)
    for position in sorted(inserts, reverse=True):
        query = f"{query[:position]} @ {at / 1e6:f} {query[position:]}"
    return query


def _says(rest: str, messages: list[str]) -> bool:
    if rest.startswith("msg:"):
        text = rest.removeprefix("msg:").strip()
        return any(text in message for message in messages)
    if rest.startswith("regex:"):
        return any(re.search(rest.removeprefix("regex:").strip(), message) for message in messages)
    return bool(messages)


def _different(wanted: Expectation, result: PromResult, *, as_range: bool) -> str:
    for kind, rest in wanted.directives:
        messages = {"warn": result.warnings, "info": result.infos}.get(kind.removeprefix("no_"), [])
        if kind in ("warn", "info") and not _says(rest, messages):
            return f"expected {kind} {rest}, got {messages}"
        if kind in ("no_warn", "no_info") and messages and not (as_range and "sort is" in messages[0]):
            return f"unexpected {messages}"
        if kind == "string":
            text = parse(rest)
            assert isinstance(text, ast.String)
            return "" if result.text == text.value else f"got {result.text!r}"
    got = {labels_of(pairs): _grid(wanted, result, place) for place, pairs in enumerate(result.labels)}
    series = {(() if key is None else key): values for key, values in wanted.series.items()}
    if None in wanted.series and not as_range and wanted.span is None and result.type != "scalar":
        return f"a {result.type}, not a scalar"
    if set(got) != set(series):
        return f"series {sorted(got)}, not {sorted(series)}"
    for key, values in series.items():
        if not _equal(values, got[key]):
            return f"{key}: got {got[key]}, not {values}"
    ordered = any(kind == "ordered" for kind, _ in wanted.directives)
    if ordered and not as_range and list(got) != list(series):
        return f"order {list(got)}"
    return ""


def _grid(wanted: Expectation, result: PromResult, place: int) -> Points:
    times, values = result.samples_of(place)
    span = wanted.span or wanted.matrix
    if span is None:
        return values.tolist()
    found: Points = [None] * ((span[1] - span[0]) // span[2] + 1)
    for time, value in zip(times.tolist(), values.tolist(), strict=True):
        at, rest = divmod(time - span[0], span[2])
        if rest or not 0 <= at < len(found):
            return [math.inf, time / 1e6]  # a sample where there should be none
        found[at] = value
    return found


def _equal(wanted: Points, got: Points) -> bool:
    wanted = wanted + [None] * (len(got) - len(wanted))
    return len(wanted) == len(got) and all(_close(a, b) for a, b in zip(wanted, got, strict=True))


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or math.isclose(a, b, rel_tol=1e-6)
