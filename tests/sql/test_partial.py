"""Sums before SQL never change an answer: random statements against the same with the table behind a sub-select.

A sub-select in place of a table is what `kymograph.sql.partial` does not look through, so that side is DataFusion's own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kymograph.engine.interface import Engine
from kymograph.engine.memory import MemoryEngine
from kymograph.local.engine import LocalEngine
from kymograph.model.batch import conform, to_table
from kymograph.model.schema import TableSchema, table_schema
from kymograph.options import StoreOptions
from kymograph.sql.partial import source
from kymograph.sql.result import Result
from kymograph.sql.session import SqlSession

SECOND = 1_000_000
FIELDS = {
    "v": "int64",
    "w": "uint64",
    "u": "int64",
    "b": "int8",
    "f": "float64",
    "g": "float32",
    "n": "float64",
    "s": "string",
    "flag": "bool",
}
SCHEMA = table_schema("t", ["host", "rack"], FIELDS, partition="1m")
HIDDEN = '(SELECT * FROM t) AS "t"'
INF, NAN = math.inf, math.nan
# What is averaged is of one size, so that an order of addition shows in the last digits only. n alone holds NaN.
VALUES: dict[str, list[Any]] = {
    "v": [None, 0, 1, -7, 2**63 - 1, -(2**63), 2**62],
    "w": [None, 0, 5, 2**64 - 1, 2**63],
    "u": [None, 4, -900_000, 123_456],
    "b": [None, -128, 127, 3],
    "f": [None, INF, -INF, 0.0, 1.5, -2.25, 1e3, 0.1],
    "g": [None, 0.1, 3.0, -7.5, 1e3],
    "n": [None, NAN, INF, 1.0, 2.5],
    "s": [None, "", "x"],
    "flag": [None, True, False],
}


def fill(engine: Engine, seed: int) -> None:
    """Six batches of rows, late ones and ones written twice among them; three times what is there is sealed."""
    chosen = random.Random(seed)
    engine.create_table(SCHEMA)
    regular = seed % 2 == 0
    # some fields without nulls, as most are
    values = {
        name: [v for v in kinds if v is not None or chosen.random() < 0.6] for name, kinds in sorted(VALUES.items())
    }
    for k in range(6):
        rows = chosen.choice([3, 40, 200])
        # by steps of 3 s, or anywhere; before 1970 too
        times = [((i % 50) * 3 if regular else chosen.randrange(-90, 200)) * SECOND + k % 2 for i in range(rows)]
        columns = {
            "time": times,
            "host": [chosen.choice(["a", "b", "", None, "it's"]) for _ in times],
            "rack": [chosen.choice(["r0", "r1", None]) for _ in times],
            **{name: [chosen.choice(kinds) for _ in times] for name, kinds in values.items()},
        }
        engine.append("t", conform(to_table(_typed(columns)), SCHEMA))
        if isinstance(engine, LocalEngine) and k in (0, 2, 3):
            engine.seal("t")


def _typed(columns: dict[str, list[Any]]) -> dict[str, Any]:
    """Columns whose values are all null have no type of their own."""
    import pyarrow as pa

    arrow = SCHEMA.arrow
    kinds = {name: pa.string() if name in SCHEMA.labels else arrow.field(name).type for name in columns}
    return {name: values if name == "time" else pa.array(values, kinds[name]) for name, values in columns.items()}


SEEDS = range(8)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SqlSession]]:
    path: Path = tmp_path_factory.mktemp("partial")
    engines: list[Engine] = [LocalEngine(path / str(seed), StoreOptions()) for seed in SEEDS[1:]]
    engines.append(MemoryEngine())
    for seed, engine in zip(SEEDS, engines, strict=True):
        fill(engine, seed)
    yield [SqlSession(engine) for engine in engines]
    for engine in engines:
        engine.close()


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever rows are summed up before SQL."""
    calls: list[int] = []
    real = source.summed

    def counting(*arguments: Any) -> Any:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(source, "summed", counting)
    return calls


numbers = st.sampled_from(["v", "w", "u", "b", "f", "g"])
averaged = st.sampled_from(["u", "b", "f", "g"])
aggregates = st.one_of(
    st.builds("{}({})".format, st.sampled_from(["sum", "min", "max", "count"]), numbers),
    st.builds("{}(t.{})".format, st.sampled_from(["SUM", "Max"]), numbers),
    st.builds("avg({})".format, averaged),
    st.sampled_from(["count(*)", "count(1)", "count(s)", "count(flag)", "sum(n)", "avg(n)", "count(n)"]),
    st.sampled_from(["min(time)", "max(time)", "count(DISTINCT rack)"]),
)
expressions = st.one_of(
    aggregates,
    st.builds("{} / {}".format, st.builds("avg({})".format, averaged), st.builds("count({})".format, numbers)),
    st.builds("round(avg({}), 3)".format, averaged),
    st.builds("CASE WHEN {} > 3 THEN 'many' ELSE 'few' END".format, aggregates.filter(lambda a: "time" not in a)),
)
keys = st.lists(
    st.sampled_from(["host", "rack", "t.rack", "bucket"]), unique_by=lambda k: k.removeprefix("t."), max_size=3
)
widths = st.sampled_from(["1 second", "10s", "45 seconds", "1 minute", "7m", "1 month"])
conditions = st.sampled_from(
    [
        "",
        "WHERE host = 'a'",
        "WHERE host IN ('a', 'b') AND time >= TIMESTAMP '1970-01-01T00:00:31Z'",
        "WHERE time < TIMESTAMP '1970-01-01T00:01:07Z'",
        "WHERE time >= TIMESTAMP '1970-01-01T00:00:31Z' AND time < TIMESTAMP '1970-01-01T00:02:00Z'",
        "WHERE v > 0 AND host <> 'b'",
        "WHERE f > 1 OR rack IS NULL",
        "WHERE host LIKE '%s'",
        "WHERE time_bucket('10s', time) > TIMESTAMP '1970-01-01T00:00:30Z'",
        "WHERE host = 'nobody'",
        "WHERE host = ''",
    ]
)
havings = st.sampled_from(["", "", "HAVING count(*) > 2", "HAVING max(v) >= 0 AND sum(b) < 100"])


@st.composite
def blocks(draw: st.DrawFn) -> str:
    """One SELECT with `{}` for its table; its columns are the keys, then a, b, …"""
    chosen, width = draw(keys), draw(widths)
    items = [f"time_bucket('{width}', time) AS bucket" if key == "bucket" else key for key in chosen]
    items += [f"{e} AS {chr(97 + k)}" for k, e in enumerate(draw(st.lists(expressions, min_size=1, max_size=3)))]
    group = f"GROUP BY {', '.join(str(k + 1) for k in range(len(chosen)))}" if chosen else ""
    return f"SELECT {', '.join(items)} FROM {{}} {draw(conditions)} {group} {draw(havings)}"


LIMITS = settings(max_examples=80, suppress_health_check=list(HealthCheck))


def compare(session: SqlSession, form: str) -> None:
    ours, plain = session.query(form.replace("{}", "t")), session.query(form.replace("{}", HIDDEN))
    assert ours.schema.names == plain.schema.names, form
    assert ours.schema.types == plain.schema.types, form
    left, right = ordered(ours), ordered(plain)
    assert len(left) == len(right), form
    for one, other in zip(left, right, strict=True):
        assert all(map(same, one, other)), f"{form}\n{one}\n{other}"


def ordered(result: Result) -> list[tuple[Any, ...]]:
    rows = [tuple(row.values()) for row in result.rows()]
    return sorted(rows, key=place)


def place(row: tuple[Any, ...]) -> list[tuple[int, str, float]]:
    """Floats come last, so that two which differ in their last digits do not part rows that are alike otherwise."""
    floats = [v for v in row if isinstance(v, float)]
    others = [(0, repr(v), 0.0) for v in row if not isinstance(v, float)]
    return others + [(1, "NaN", 0.0) if math.isnan(v) else (1, "", v) for v in floats]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-7)
    return type(one) is type(other) and bool(one == other)


@given(st.sampled_from(SEEDS), blocks())
@LIMITS
def test_one_select(sessions: list[SqlSession], seed: int, block: str) -> None:
    compare(sessions[seed], block)


@given(st.sampled_from(SEEDS), blocks(), blocks())
@settings(LIMITS, max_examples=30)
def test_two_selects(sessions: list[SqlSession], seed: int, one: str, other: str) -> None:
    form = f"WITH l AS ({one}), r AS ({other}) SELECT x.a, (SELECT count(*) FROM r) AS n FROM l AS x"
    compare(sessions[seed], form + " UNION ALL SELECT y.a, -1 FROM l AS y")


@given(st.sampled_from(SEEDS), numbers, conditions)
@settings(LIMITS, max_examples=50)
def test_windows_over_buckets(sessions: list[SqlSession], seed: int, field: str, condition: str) -> None:
    compare(
        sessions[seed],
        f"WITH means AS (SELECT host, rack, time_bucket('20s', time) AS bucket, max({field}) AS most, count(*) AS n"
        f" FROM {{}} {condition} GROUP BY host, rack, bucket)"
        " SELECT host, rack, bucket, most, n - lag(n) OVER (PARTITION BY host, rack ORDER BY bucket) AS step"
        " FROM means",
    )


FITTING = [
    "SELECT host, avg(f) AS mean FROM {} GROUP BY host ORDER BY avg(f), host LIMIT 3",
    "SELECT avg(f), count(*), max(t.v) FROM {}",
    "SELECT host, time_bucket('10s', time) AS time, sum(v) AS v FROM {} GROUP BY 1, 2 ORDER BY 2, 1 NULLS FIRST",
    "SELECT time_bucket('10s', time), rack, max(b) most FROM {} GROUP BY 1, t.rack",
    "SELECT host FROM (SELECT host, sum(v) AS total FROM {} GROUP BY host) AS sums WHERE total > 0",
    "SELECT upper(host) AS host, min(g) AS least FROM (SELECT host, min(g) AS g FROM {} GROUP BY host) AS x GROUP BY 1",
    "SELECT count(DISTINCT host) AS hosts, max(time) AS latest FROM {} WHERE v IS NOT NULL",
    "SELECT sum(b) AS b FROM {} HAVING sum(b) > -10000",
]
# what must go the plain way, or would be wrong if it did not
UNFIT = [
    "SELECT host, stddev(f) AS d, avg(f) AS a FROM {} GROUP BY host",
    "SELECT host, sum(v) FILTER (WHERE b > 0) AS p FROM {} GROUP BY host",
    "SELECT host, sum(DISTINCT b) AS p FROM {} GROUP BY host",
    "SELECT time, max(v) AS most FROM {} GROUP BY time",
    "SELECT time_bucket('10s', time) AS time, max(v) AS most FROM {} GROUP BY time",
    "SELECT v, count(*) AS rows FROM {} GROUP BY v",
    "SELECT b AS host, count(*) AS rows FROM {} GROUP BY b",
    "SELECT host, max(v + 1) AS most FROM {} WHERE v < 5 GROUP BY host",
    "SELECT host, max(s) AS most, min(flag) AS flag FROM {} GROUP BY host",
    "SELECT host, count(rack) AS racks FROM {} GROUP BY host",
    "SELECT array_length(array_agg(host)) AS hosts, sum(b) AS b FROM {}",
    "SELECT time_bucket('10s', time) AS x, time_bucket('1m', time) AS y, sum(v) AS v FROM {} GROUP BY 1, 2",
    "SELECT date_trunc('minute', time) AS x, sum(v) AS v FROM {} GROUP BY 1",
    "SELECT time_bucket('10s', time) + INTERVAL '1 second' AS x, sum(v) AS v FROM {} GROUP BY 1",
    "SELECT host, sum(b) AS b FROM {} GROUP BY ROLLUP (host)",
    "SELECT x.host, sum(x.b) AS b FROM {} JOIN t AS x ON x.host = t.host AND x.time = t.time GROUP BY x.host",
    "SELECT DISTINCT count(*) OVER (PARTITION BY host) AS n FROM {}",
    "WITH u AS (SELECT host, b FROM {}) SELECT host, sum(b) AS b FROM u GROUP BY host",
    "SELECT host, (SELECT sum(b) FROM {} WHERE t.host = o.host) AS b FROM (SELECT DISTINCT host FROM t) AS o",
]


@pytest.mark.parametrize("form", FITTING)
def test_statements_that_fit(sessions: list[SqlSession], summed: list[int], form: str) -> None:
    for session in sessions:
        compare(session, form)
    assert summed


@pytest.mark.parametrize("form", UNFIT)
def test_statements_that_do_not_fit(sessions: list[SqlSession], form: str) -> None:
    for session in sessions:
        compare(session, form)


def test_a_with_query_hides_a_table_of_its_name(sessions: list[SqlSession]) -> None:
    for name in ("t", '"t"', "T"):
        rows = sessions[0].query(f"WITH {name} AS (SELECT 'a' AS host, 1 AS v) SELECT max(v) AS most FROM t").rows()
        assert rows == [{"most": 1}]
    assert sessions[0].query("WITH t (v) AS (SELECT 1) SELECT max(v) AS most FROM t").rows() == [{"most": 1}]


def test_errors_are_those_of_the_statement_as_written(sessions: list[SqlSession]) -> None:
    for form in ("SELECT rack, sum(b) AS b FROM {} GROUP BY host", "SELECT sum(b) AS b FROM {} WHERE nothing = 1"):
        problems = []
        for table in ("t", HIDDEN):
            with pytest.raises(Exception, match=r"t\.rack|nothing") as caught:
                sessions[0].query(form.replace("{}", table))
            problems.append(type(caught.value))
            assert "__partial" not in str(caught.value)
        assert problems[0] is problems[1]


def test_extremes_among_which_nan_is_go_the_plain_way() -> None:
    engine = MemoryEngine()
    engine.create_table(table_schema("t", ["host"], {"n": "float64", "m": "float64"}))
    columns = {"time": [0, 1, 2], "host": ["a"] * 3, "n": [1.0, NAN, 0.5], "m": [3.0, None, 4.0]}
    engine.append("t", conform(to_table(columns), engine.tables()["t"]))
    session = SqlSession(engine)
    form = "SELECT host, max(n) AS n, min(m) AS m FROM {} GROUP BY host"
    ours, plain = (session.query(form.replace("{}", table)).rows() for table in ("t", HIDDEN))
    assert repr(ours) == repr(plain)


def test_means_of_extremes_are_means_of_doubles(sessions: list[SqlSession]) -> None:
    form = "SELECT host, avg(v) AS v, avg(w) AS w FROM {} GROUP BY host ORDER BY host"
    for session in sessions:
        ours, plain = (session.query(form.replace("{}", table)).rows() for table in ("t", HIDDEN))
        for one, other in zip(ours, plain, strict=True):
            assert one["host"] == other["host"]
            # sums of 1e20 as doubles, in any order
            assert one["v"] == pytest.approx(other["v"], abs=1e6)
            assert one["w"] == pytest.approx(other["w"], abs=1e6)


def test_as_many_runs_as_rows_go_the_plain_way(summed: list[int]) -> None:
    schema: TableSchema = table_schema("t", ["host"], {"n": "float64"})
    engine = MemoryEngine()
    engine.create_table(schema)
    rows = 60_000
    columns = {"time": np.arange(rows) * SECOND, "host": ["a"] * rows, "n": np.arange(rows) * 0.5}
    engine.append("t", conform(to_table(columns), schema))
    form = (
        "SELECT count(*) AS n, sum(s) AS s FROM (SELECT time_bucket('1s', time) AS b, sum(n) AS s FROM {} GROUP BY 1) x"
    )
    assert SqlSession(engine).query(form.replace("{}", "t")).rows() == [
        {"n": rows, "s": pytest.approx(0.25 * rows * (rows - 1))}
    ]
    assert summed
