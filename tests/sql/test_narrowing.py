"""Narrowing a scan by WHERE never changes an answer: random predicates against the same hidden from the planner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kymograph.engine.interface import Engine
from kymograph.engine.memory import MemoryEngine
from kymograph.local.engine import LocalEngine
from kymograph.model.batch import conform, to_table
from kymograph.model.schema import table_schema
from kymograph.options import StoreOptions
from kymograph.sql.session import SqlSession

HOSTS = ["a", "b", "", None, "it's", "z"]
SCHEMA = table_schema("t", ["host", "rack"], {"v": "int64", "f": "float64"}, partition="1m")
SECOND = 1_000_000


@pytest.fixture(scope="module", params=["memory", "local"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlSession]:
    path: Path = tmp_path_factory.mktemp("narrowing") / "store"
    engine: Engine = MemoryEngine() if request.param == "memory" else LocalEngine(path, StoreOptions())
    engine.create_table(SCHEMA)
    rows = [
        (i * 7 * SECOND, host, f"r{k % 3}" if k else None, i * k, [None, float("nan"), 0.5 * i][(i + k) % 3])
        for i in range(-10, 15)
        for k, host in enumerate(HOSTS)
    ]
    for at in range(0, len(rows), 40):  # several batches, so that blocks and hot rows mix
        columns = dict(zip(SCHEMA.columns, map(list, zip(*rows[at : at + 40], strict=True)), strict=True))
        engine.append("t", conform(to_table(columns), SCHEMA))
        if at == 40 and isinstance(engine, LocalEngine):
            engine.seal("t")
    yield SqlSession(engine)
    engine.close()


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


hosts = st.sampled_from([h for h in HOSTS if h is not None] + ["nobody"]).map(quoted)
times = st.integers(-80, 110).map(
    lambda s: f"TIMESTAMP '{'1969-12-31T23:' if s < 0 else '1970-01-01T00:'}{(s % 3600) // 60:02}:{s % 60:02}Z'"
)
comparisons = st.sampled_from(["=", "<", "<=", ">", ">=", "<>"])
leaves = st.one_of(
    st.builds("{}host = {}".format, st.just(""), hosts),
    st.builds("{} = host".format, hosts),
    st.builds("host <> {}".format, hosts),
    st.builds("rack IN ('r0', {})".format, st.sampled_from(["'r1'", "'x'", "''"])),
    st.lists(hosts, min_size=1, max_size=6).map(lambda values: f"host IN ({', '.join(values)})"),
    st.lists(hosts, min_size=1, max_size=5).map(lambda values: f"host NOT IN ({', '.join(values)})"),
    st.sampled_from(
        ["host IS NULL", "rack IS NOT NULL", "host LIKE '%s'", "v > 20", "f > 1", "f <= 2", "v = 0", "host < rack"]
    ),
    st.builds("time {} {}".format, comparisons, times),
    st.builds("{} {} time".format, times, comparisons),
    st.builds("time BETWEEN {} AND {}".format, times, times),
    st.builds("time_bucket('10s', time) {} {}".format, comparisons, times),
)
predicates = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("(NOT {})".format, inner),
    ),
    max_leaves=6,
)


def hidden(predicate: str) -> str:
    """The same predicate where neither our narrowing nor a pushed filter can see it."""
    return f"CASE WHEN random() < 2 THEN {predicate} ELSE false END"


def same(session: SqlSession, form: str, *written: str) -> None:
    narrowed = session.query(form.format(*written)).rows()
    full = session.query(form.format(*map(hidden, written))).rows()
    assert repr(narrowed) == repr(full), form.format(*written)


LIMITS = settings(max_examples=60, suppress_health_check=list(HealthCheck))


@given(predicates)
@LIMITS
def test_one_scan(session: SqlSession, predicate: str) -> None:
    same(session, "SELECT time, host, v, f FROM t WHERE {} ORDER BY time, host, rack, v", predicate)


@given(predicates, st.integers(0, 12), st.sampled_from(["DESC", "ASC"]))
@LIMITS
def test_first_rows(session: SqlSession, predicate: str, rows: int, order: str) -> None:
    form = f"SELECT v, host FROM t WHERE {{}} ORDER BY time {order}, host, rack, v LIMIT {rows}"
    same(session, form, predicate)


@given(predicates, predicates)
@settings(LIMITS, max_examples=40)
def test_two_scans_of_one_table(session: SqlSession, left: str, right: str) -> None:
    same(
        session,
        "WITH l AS (SELECT * FROM t WHERE {}), r AS (SELECT * FROM t WHERE {})"
        " SELECT (SELECT count(*) FROM l) AS n, (SELECT sum(v) FROM r) AS s, count(*) AS m"
        " FROM l JOIN r ON l.time = r.time",
        left,
        right,
    )
