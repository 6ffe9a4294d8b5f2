"""Reads and runs the `*.test` scripts of this folder; README.md describes their form."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kymograph.engine.interface import Engine
from kymograph.engine.rings import Ring
from kymograph.errors import KymographError
from kymograph.model.batch import conform, to_table
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA, table_schema
from kymograph.model.time import to_micros
from kymograph.options import QueryLimits, parse_duration
from kymograph.promql.source import Source
from kymograph.sql.result import Result
from kymograph.sql.session import SqlSession
from kymograph.store.metadata import Metadata
from kymograph.store.rings.metric import RingMetrics
from kymograph.store.rings.window import Selector, Window

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@dataclass
class Block:
    line: int
    kind: str
    title: str
    lines: list[str] = field(default_factory=list)


def blocks(path: Path) -> Iterator[Block]:
    block = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            if block:
                yield block
            block = None
        elif block is None:
            kind, _, title = line.partition(" ")
            block = Block(number, kind, title.strip())
        else:
            block.lines.append(line)
    if block:
        yield block


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def value_of(cell: str, kind: str | None = None) -> Any:
    """A cell as a Python value; without a type it is read by its looks."""
    if cell == "null":
        return None
    if cell.startswith('"'):
        return cell[1:-1]
    if kind in ("label", "string"):
        return cell
    if kind == "bool" or cell in ("true", "false"):
        return cell == "true"
    if kind and kind.startswith("float"):
        return float(cell)
    if kind and "int" in kind:
        return int(cell)
    if cell.startswith("["):
        return [value_of(part.strip()) for part in cell[1:-1].split(",") if part.strip()]
    if TIME.fullmatch(cell):
        return dt.datetime.fromisoformat(cell)
    for number in (int, float):
        try:
            return number(cell)
        except ValueError:
            pass
    return cell


def load(engine: Engine, block: Block) -> None:
    heads = [cell.split() for cell in cells(block.lines[0])]
    names, kinds = [h[0] for h in heads], [h[1] if len(h) > 1 else None for h in heads]
    rows = [[value_of(c, k) for c, k in zip(cells(line), kinds, strict=True)] for line in block.lines[1:]]
    if block.kind == "metrics":
        for row in rows:
            engine.put_document("metric", row[0], dict(zip(names[1:], row[1:], strict=True)))
        return
    if block.kind in ("samples", "ring"):
        ring = None
        if block.kind == "ring":
            step, slots = block.title.split()
            ring = Ring(parse_duration(step), int(slots))
        load_samples(engine, names, kinds, rows, ring)
        return
    labels = [n for n, k in zip(names, kinds, strict=True) if k == "label"]
    fields = {n: k for n, k in zip(names, kinds, strict=True) if k not in (None, "label")}
    schema = table_schema(block.title, labels, fields)
    engine.create_table(schema)
    if rows:
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        engine.append(block.title, conform(to_table(columns), schema))


def load_samples(
    engine: Engine, names: list[str], kinds: list[str | None], rows: list[list[Any]], ring: Ring | None = None
) -> None:
    if SAMPLES not in engine.tables():
        engine.create_table(SAMPLES_SCHEMA)
    labels = [n for n, k in zip(names, kinds, strict=True) if k == "label"]
    ids = []
    for row in rows:
        given = dict(zip(names, row, strict=True))
        mine = {label: given[label] for label in labels if given[label] is not None}
        ids += engine.register_series([(given["metric"], mine)])
    if ring is not None:
        engine.rings.define(dict.fromkeys(ids, ring))
    value = names.index("value")
    if "ts" in names:
        times: list[Any] = [round(r[names.index("ts")] * 1_000_000) for r in rows]
    else:
        times = [r[names.index("time")] for r in rows]
    columns = {"time": times, "series_id": ids, "value": [float(r[value]) for r in rows]}
    engine.append(SAMPLES, conform(to_table(columns), SAMPLES_SCHEMA))


def ask(session: SqlSession, block: Block) -> None:
    at = next(i for i, line in enumerate(block.lines) if line.startswith("expect"))
    given = [line for line in block.lines[:at] if line.startswith("given ")]
    text = "\n".join(line for line in block.lines[:at] if not line.startswith("given "))
    pairs = [line.removeprefix("given ").partition("=") for line in given]
    params = {name.strip(): value_of(value.strip()) for name, _, value in pairs}
    answer(block, at, lambda: session.query(text, params))


def ask_window(engine: Engine, session: SqlSession, block: Block) -> None:
    """A statement of the ring face: `selector ALIAS = METRIC label=value …` and `range START END` come before it."""
    at = next(i for i, line in enumerate(block.lines) if line.startswith("expect"))
    text, selectors, bounds = [], [], [None, None]
    for line in block.lines[:at]:
        word, _, rest = line.partition(" ")
        if word == "selector":
            alias, _, metric = rest.partition("=")
            name, *labels = metric.split()
            selectors.append(Selector(name, dict(label.split("=") for label in labels), alias.strip()))
        elif word == "range":
            bounds = [value_of(part) for part in rest.split()]
        else:
            text.append(line)
    window = Window(engine, RingMetrics(engine, Source(engine), Metadata(engine)), session)
    answer(block, at, lambda: window.ask("\n".join(text), *bounds, (), selectors, QueryLimits()))


def answer(block: Block, at: int, asked: Callable[[], Result]) -> None:
    expected = block.lines[at].removeprefix("expect").strip()
    if expected.startswith("error"):
        with pytest.raises(KymographError) as caught:
            asked()
        assert expected.removeprefix("error").strip() in str(caught.value)
        return
    result = asked()
    if expected == "nothing":
        assert result.rows() == []
        return
    wanted = [cells(line) for line in block.lines[at + 1 :]]
    compare(result, wanted[0], [[value_of(c) for c in row] for row in wanted[1:]], ordered=expected != "unordered")


def compare(result: Result, names: list[str], wanted: list[list[Any]], *, ordered: bool) -> None:
    assert result.schema.names == names
    got = [list(row.values()) for row in result.rows()]
    if not ordered:
        got, wanted = sorted(got, key=repr), sorted(wanted, key=repr)
    assert len(got) == len(wanted), f"{len(got)} rows, not {len(wanted)}: {got}"
    for number, (mine, theirs) in enumerate(zip(got, wanted, strict=True), 1):
        assert all(map(same, mine, theirs)), f"row {number} is {mine}, not {theirs}"


def same(got: Any, wanted: Any) -> bool:
    if isinstance(got, dt.datetime) and isinstance(wanted, dt.datetime):
        return to_micros(got) == to_micros(wanted)
    number = isinstance(got, (int, float)) and isinstance(wanted, (int, float))
    if number and isinstance(got, bool) == isinstance(wanted, bool):
        both_nan = isinstance(got, float) and math.isnan(got) and math.isnan(wanted)
        return both_nan or math.isclose(got, wanted, rel_tol=1e-9)
    if isinstance(got, str) and not isinstance(wanted, str):
        return got == str(wanted)  # a text column whose value looks like a number
    return bool(got == wanted and type(got) is type(wanted))


def run(path: Path, engine: Engine) -> None:
    session = SqlSession(engine)
    for block in blocks(path):
        try:
            if block.kind == "query":
                ask(session, block)
            elif block.kind == "window":
                ask_window(engine, session, block)
            else:
                load(engine, block)
        except BaseException as problem:
            problem.add_note(f"in {path.name}, line {block.line}: {block.kind} {block.title}")
            raise
