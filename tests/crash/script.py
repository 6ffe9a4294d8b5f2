"""Short scripts of operations that any engine can run, and the whole visible state of an engine to compare."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.engine.memory import MemoryEngine
from kymograph.engine.rings import Ring
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA, table_schema
from kymograph.model.time import MINUTE, SECOND
from kymograph.options import Retention
from tests.rows import batch_of, ordered, rows_of, scanned

Operation = tuple[Any, ...]
State = tuple[Any, ...]

SCHEMA = table_schema(
    "t", ["host"], {"number": "int64", "bits": "float64", "s": "string"}, "overwrite", "4m", Retention("8m")
)
HOSTS = ["a", "b", "", None, "ü"]

# what concerns rings; without the table `samples`, or the series, they do nothing
_RING_KINDS = ("samples", "ring", "slots", "resize", "unring")

SHORT: Sequence[Operation] = (
    ("create",),
    ("append", 1, 0, 40, 3),
    ("document", "k", 1),
    ("append", 2, 20, 40, 3),
    ("seal",),
    ("series", "x"),
    ("samples",),
    ("ring", 0, 1, 70),
    ("slots", 0, 100, 90),
    ("append", 3, 10, 60, 7),  # late rows that overwrite sealed ones
    ("seal",),
    ("delete", "a", 30 * 3_000_000, None),  # the newest rows of a series go
    ("label", "later"),
    ("append", 4, 55, 30, 5),  # over rows from before the label
    ("seal",),
    ("compact",),
    ("extend", "more"),
    ("slots", 0, 150, 40),
    ("resize", 0, 3, 40),
    ("append", 5, 200, 30, 5),
    ("unring", 0),
    ("prune", 12 * MINUTE),
    ("document", "k", None),
    ("append", 6, 300, 10, 1),
)


def random_script(seed: int, length: int) -> list[Operation]:
    """Operations on a table that is there already; rows overlap earlier ones now and then."""
    dice = random.Random(seed)
    script: list[Operation] = []
    for number in range(length):
        kind = dice.choices(
            [*("append", "seal", "compact", "delete", "document", "series", "prune"), *_RING_KINDS],
            [60, 14, 6, 6, 5, 5, 4, 2, 3, 10, 2, 1],
        )[0]
        ring = dice.randrange(4)
        step = dice.randrange(250)
        script.append(
            {
                "append": ("append", seed * 1000 + number, step, dice.randrange(1, 60), dice.choice([1, 3, 7])),
                "delete": ("delete", dice.choice([*HOSTS, "*"]), step * 3_000_000, (step + 20) * 3_000_000),
                "document": ("document", dice.choice("abc"), dice.choice([None, number])),
                "series": ("series", f"s{dice.randrange(50)}"),
                "prune": ("prune", dice.randrange(8, 14) * MINUTE),
                "ring": ("ring", ring, dice.choice([1, 3, 10]), dice.choice([5, 60, 200])),
                "slots": ("slots", ring, step, dice.randrange(1, 100)),
                "resize": ("resize", ring, dice.choice([1, 4]), dice.choice([1, 61, 150])),
                "unring": ("unring", ring),
            }.get(kind, (kind,))
        )
    return script


def apply(engine: Any, operation: Operation) -> None:
    """Run one operation; what only engines with blocks can do is skipped elsewhere."""
    kind, *rest = operation
    if kind == "create":
        engine.create_table(SCHEMA)
    elif kind == "append":
        engine.append("t", batch(engine, *rest))
    elif kind in ("seal", "compact"):
        if hasattr(engine, kind):
            getattr(engine, kind)()
    elif kind == "delete":
        host, start, end = rest
        matchers = [] if host == "*" else [Matcher("host", "=", host or "")]
        engine.delete("t", matchers, start, end)
    elif kind == "document":
        engine.put_document("kind", *rest)
    elif kind == "series":
        engine.register_series([("metric", {"label": rest[0]}), ("metric", {"label": rest[0], "b": "c"})])
    elif kind == "extend":
        engine.alter_table(engine.tables()["t"].extended([(rest[0], pa.int8())]))
    elif kind == "label":
        engine.alter_table(engine.tables()["t"].extended(labels=[rest[0]]))
    elif kind == "prune":
        engine.prune(now=rest[0], force=True)
    elif kind == "samples":
        engine.create_table(SAMPLES_SCHEMA)
    elif kind in _RING_KINDS:
        ring(engine, kind, *rest)
    else:
        raise AssertionError(kind)


def ring(engine: Any, kind: str, number: int, *rest: int) -> None:
    """Something done to the ring of the n-th series; samples are numbered by the second."""
    series = list(engine.series())
    if SAMPLES not in engine.tables() or number >= len(series):
        return
    one, rings = series[number], engine.rings
    if kind == "ring" and one not in rings.all():
        rings.define({one: Ring(rest[0] * SECOND, rest[1])})
    elif kind == "slots" and one in rings.all():
        seconds = np.arange(rest[0], rest[0] + rest[1])
        rings.write(np.full(len(seconds), one), seconds * SECOND, seconds + 0.5)
    elif kind == "resize" and one in rings.all():
        rings.resize(one, rest[0] * SECOND, rest[1])
    elif kind == "unring":
        rings.drop([one])


def batch(engine: Engine, number: int, first: int, rows: int, stride: int) -> pa.RecordBatch:
    """`rows` rows, three seconds apart, hosts in turn; every row carries the number of its batch."""
    times = [(first + step) * 3_000_000 for step in range(rows)]
    bits = pa.array([0x7FF0_0000_0000_0002 + number * 1000 + step for step in range(rows)], pa.uint64())
    columns = {
        "time": times[::-1],
        "host": pa.array([HOSTS[(step // stride) % len(HOSTS)] for step in range(rows)], pa.string()),
        "number": number,
        "bits": bits.view(pa.float64()),
        "s": f"batch {number}",
    }
    schema = engine.tables()["t"]
    columns |= {label: pa.array([("x", None)[step % 2] for step in range(rows)]) for label in schema.labels[1:]}
    return batch_of(schema, columns)


def state(engine: Engine) -> State:
    """Everything a user can see; two engines with the same history have equal states."""
    found: list[Any] = [dict(engine.tables()), dict(engine.documents("kind"))]
    found.append(sorted((name, sorted(labels.items())) for name, labels in engine.series().values()))
    if "t" in engine.tables():
        numbers = engine.statistics("t")
        found += [
            scanned(engine, "t"),
            ordered(rows_of(engine.latest("t"))),
            (numbers.rows, numbers.series, numbers.oldest, numbers.newest, numbers.partitions),
        ]
    found.append((dict(engine.rings.all()), [column.tolist() for column in engine.rings.read()]))
    return tuple(found)


class History:
    """The states a store may be in: `states[n]` after the first n operations of a script."""

    def __init__(self, script: Sequence[Operation], before: Engine | None = None) -> None:
        self.script = script
        oracle = copied(before)
        self.states = [state(oracle)]
        for operation in script:
            apply(oracle, operation)
            self.states.append(state(oracle))

    def check(self, engine: Engine, done: int, where: str) -> State:
        """After `done` acknowledged operations the one under way may have happened or not. Returns the state."""
        found = state(engine)
        before, after = self.states[done], self.states[min(done + 1, len(self.states) - 1)]
        if found in (before, after):
            return found
        # pruning takes its victims one after the other, and what it has taken may be gone
        pruning = done < len(self.script) and self.script[done][0] == "prune"
        if pruning and found[:3] == before[:3] and set(after[3]) <= set(found[3]) <= set(before[3]):
            before = state(copied(engine))
        assert found == before, f"{where}: {difference(before, found)}"
        return found


def copied(engine: Engine | None) -> MemoryEngine:
    """An oracle with the content of another engine."""
    oracle = MemoryEngine()
    if engine is None:
        return oracle
    for schema in engine.tables().values():
        oracle.create_table(schema)
    oracle.register_series(list(engine.series().values()))
    oracle.rings.define(engine.rings.all())
    for schema in engine.tables().values():
        for batch in engine.scan(schema.name).batches():
            oracle.append(schema.name, batch)
    for key, value in engine.documents("kind").items():
        oracle.put_document("kind", key, value)
    return oracle


def difference(expected: State, found: State) -> str:
    """The first thing in which two states differ, short enough to read."""
    names = ("tables", "documents", "series", "rows", "latest", "numbers", "rings")
    for name, one, other in zip(names, expected, found, strict=False):
        if one != other:
            if isinstance(one, list):
                missing = [row for row in one if row not in other][:3]
                extra = [row for row in other if row not in one][:3]
                return f"{name}: {len(one)} expected, {len(other)} found; missing {missing}, extra {extra}"
            return f"{name}: expected {one}, found {other}"
    return f"{len(expected)} parts expected, {len(found)} found"
