"""Ages of some series: what goes, what stays, and that it is remembered."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph import Exemplar, Retention
from kymograph.errors import InvalidInput, KymographError, NotFound, QueryError, ReadOnly, StorageError
from kymograph.local.engine import LocalEngine
from kymograph.model.time import DAY, HOUR, MINUTE, SECOND
from kymograph.store.jobs import now_micros
from kymograph.store.retention import verbs
from kymograph.store.rollups import rollups as rollup_module
from kymograph.store.store import Store
from tests.folders import copied

JUNIORS = '{team="juniors"}'


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What retention takes for now; its first element may be changed."""
    moment = [now_micros()]
    for module in (verbs, rollup_module):
        monkeypatch.setattr(module, "now_micros", lambda: moment[0])
    return moment


def fill(store: Store, name: str, labels: dict[str, str], ages: Any, moment: int) -> None:
    """A sample so long before a moment, µs, for each of the ages."""
    number = store.series_ids([(name, labels)])[0]
    times = moment - np.asarray(ages, np.int64)
    store.append_samples(np.full(len(times), number), times, np.arange(len(times), dtype=np.float64))


def ages(store: Store, selector: str, moment: int) -> list[float]:
    """How old the samples of a metric are, in hours, the youngest first."""
    found = []
    for number, (name, labels) in store.engine.series().items():
        if dict(labels, __name__=name) in store.series(selector):
            times = store.scan("samples", {"series_id": [number]})["time"].cast("int64").to_numpy()
            found += [round((moment - time) / HOUR, 3) for time in times.tolist()]
    return sorted(found)


def test_what_a_selector_finds_goes(store: Store, clock: list[int]) -> None:
    moment = clock[0]
    every = np.arange(0, 240, 12) * HOUR + MINUTE
    for team in ("juniors", "seniors"):
        for name in ("a", "b"):
            fill(store, name, {"team": team}, every, moment)
    store.seal()
    store.set_retention("samples", Retention(age="3d"), series=JUNIORS)
    assert store.series_retention() == [{"series": JUNIORS, "age": 3 * DAY, "boundary": None, "matched": 2}]
    would = store.prune(dry_run=True)
    assert (would.dry_run, would.rows) == (True, 2 * 14)
    assert store.info()["tables"]["samples"]["rows"] == 80
    went = store.prune()
    assert went.victims == would.victims
    assert {(one.table, one.reason, one.bytes) for one in went.victims} == {("samples", f"age of {JUNIORS}", 0)}
    assert all(one.partition <= one.start < one.end <= one.partition + DAY for one in went.victims)
    assert ages(store, JUNIORS, moment) == sorted([*(every[:6] / HOUR).round(3)] * 2)
    assert len(ages(store, '{team="seniors"}', moment)) == 40
    assert store.prune().rows == 0
    assert store.series_retention()[0]["boundary"] == moment - 3 * DAY
    assert store.promql('count_over_time(a{team="juniors"}[10d])', time=moment).values[0] == 6


def test_series_without_samples_left_are_gone_from_answers(store: Store, clock: list[int]) -> None:
    moment = clock[0]
    fill(store, "old", {"team": "juniors"}, [5 * DAY, 4 * DAY], moment)
    fill(store, "new", {"team": "seniors"}, [5 * DAY, HOUR], moment)
    store.set_retention("samples", Retention(age="3d"), series=JUNIORS)
    store.prune()
    span: dict[str, Any] = {"start": moment - 10 * DAY, "end": moment}
    assert store.series(**span) == [{"__name__": "new", "team": "seniors"}]
    assert store.label_values("team", **span) == ["seniors"]
    assert store.latest("samples")["series_id"].to_pylist() == [2]
    # as where the retention of a table removes all that a series has
    assert [one["name"] for one in store.metrics()] == ["new", "old"]
    fill(store, "old", {"team": "juniors"}, [HOUR], moment)
    assert {one["__name__"] for one in store.series(**span)} == {"old", "new"}


def test_of_several_the_shortest_age_counts(store: Store, clock: list[int]) -> None:
    moment = clock[0]
    every = np.arange(24) * HOUR + MINUTE
    for labels in ({}, {"a": "1"}, {"b": "1"}, {"a": "1", "b": "1"}):
        fill(store, "m", labels, every, moment)
    store.set_retention("samples", Retention(age="20h"), series="m")
    store.set_retention("samples", Retention(age="10h"), series='{a="1"}')
    store.set_retention("samples", Retention(age="5h"), series='{b=~".+"}')
    would = store.prune(dry_run=True, force=True)
    assert would.rows == 4 + 14 + 19 + 19
    assert store.prune(force=True).rows == would.rows
    left = {text: len(ages(store, text, moment)) for text in ('m{a="",b=""}', 'm{a="1",b=""}', 'm{b="1"}')}
    assert left == {'m{a="",b=""}': 20, 'm{a="1",b=""}': 10, 'm{b="1"}': 10}
    store.set_retention("samples", None, series='{b=~".+"}')
    fill(store, "m", {"b": "1"}, [8 * HOUR, 21 * HOUR], moment)
    assert store.prune(force=True).rows == 1
    assert len(ages(store, 'm{a="",b="1"}', moment)) == 6


def test_the_bound_of_the_table_holds_all_the_same(store: Store, clock: list[int]) -> None:
    moment = clock[0]
    fill(store, "m", {"team": "juniors"}, [HOUR, 3 * DAY, 20 * DAY], moment)
    store.set_retention("samples", Retention(age="2d"))
    store.set_retention("samples", Retention(age="10d"), series=JUNIORS)
    assert store.tables()["samples"].retention == Retention(age="2d")
    store.prune(force=True)
    assert ages(store, "m", moment) == [1.0]


def test_a_selector_in_another_order_is_the_same(store: Store) -> None:
    store.set_retention("samples", Retention(age="3d"), series='m{a="1",b=~"x|y"}')
    store.set_retention("samples", Retention(age="4d"), series='  {b=~"x|y", __name__="m", a = "1"} ')
    assert [(one["series"], one["age"]) for one in store.series_retention()] == [('m{a="1",b=~"x|y"}', 4 * DAY)]
    store.set_retention("samples", Retention(), series='{a="1",b=~"x|y",__name__="m"}')
    assert store.series_retention() == []
    with pytest.raises(NotFound, match="there is no retention of m"):
        store.set_retention("samples", None, series="m")


BAD: list[tuple[str, Retention | str | None, Any]] = [
    ("samples", Retention(age="1d"), ""),
    ("samples", Retention(age="1d"), "{}"),
    ("samples", Retention(age="1d"), '{team=""}'),
    ("samples", Retention(age="1d"), '{team=~".*"}'),
    ("samples", Retention(age="1d"), '{team=~"("}'),
    ("samples", Retention(age="1d"), "up[5m]"),
    ("samples", Retention(age="1d"), "up offset 1h"),
    ("samples", Retention(age="1d"), "up and down"),
    ("samples", Retention(age="1d"), "sum(up)"),
    ("samples", Retention(age="1d"), '{team="juniors"'),
    ("samples", Retention(age="1d"), '{team="\ud800"} \x00'),
    ("samples", Retention(age="1d"), 7),
    ("samples", Retention(age="1d"), {"team": "juniors"}),
    ("samples", Retention(age="1d", bytes="1MB"), JUNIORS),
    ("samples", Retention(bytes="1MB"), JUNIORS),
    ("samples", "3d", JUNIORS),
    ("meter", Retention(age="1d"), JUNIORS),
    ("samples", None, JUNIORS),
]


@pytest.mark.parametrize(("table", "retention", "series"), BAD, ids=str)
def test_what_is_no_retention_of_series_is_refused(store: Store, table: str, retention: Any, series: Any) -> None:
    fill(store, "m", {"team": "juniors"}, [10 * DAY], now_micros())
    with pytest.raises((InvalidInput, QueryError, NotFound)) as caught:
        store.set_retention(table, retention, series=series)
    assert caught.value.message
    assert store.series_retention() == []
    assert store.prune(force=True).rows == 0


@pytest.mark.parametrize(
    ("selector", "gone"),
    [
        ('{team="jüniors\\n\\"日本\\""}', {1}),
        ('{"größe"=~"1|2"}', {2}),
        ('{"metric.ü"}', {3}),
        ('{__name__=~"debug_.*"}', {4, 5}),
        ('{__name__=~"debug_.*", team!~"b|c"}', {4}),
        ('{__name__=~".+",__name__!="m"}', {3, 4, 5}),
        ('m{team!=""}', {1}),
        ('{team="nobody"}', set()),
    ],
)
def test_every_kind_of_matcher(store: Store, selector: str, gone: set[int]) -> None:
    moment = now_micros()
    named: list[tuple[str, dict[str, str]]] = [
        ("m", {"team": 'jüniors\n"日本"'}), ("m", {"größe": "2"}), ("metric.ü", {}), ("debug_a", {}), ("debug_b", {"team": "b"}),
    ]  # fmt: skip
    for name, labels in named:
        fill(store, name, labels, [2 * DAY], moment)
    store.set_retention("samples", Retention(age="1d"), series=selector)
    store.prune()
    assert set(store.scan("samples")["series_id"].to_pylist()) == {1, 2, 3, 4, 5} - gone


def test_it_moves_by_an_eighth(store: Store, clock: list[int]) -> None:
    moment = clock[0]
    fill(store, "m", {}, np.arange(20) * DAY + HOUR, moment)
    store.set_retention("samples", Retention(age="16d"), series="m")
    assert store.prune().rows == 4
    clock[0] = moment + 2 * DAY - MINUTE
    assert (store.prune(dry_run=True).rows, store.prune().rows) == (0, 0)
    clock[0] = moment + 2 * DAY
    assert (store.prune(dry_run=True).rows, store.prune().rows) == (2, 2)
    clock[0] += DAY
    assert store.prune(dry_run=True).rows == 0
    assert store.prune(force=True).rows == 1
    # of a short age it is an eighth of the table's slice of a day, so that this is not rewritten all the time
    store.set_retention("samples", Retention(age="1h"), series="m")
    store.prune(force=True)
    fill(store, "m", {}, [30 * MINUTE], clock[0])
    clock[0] += 3 * HOUR - MINUTE
    assert store.prune().rows == 0
    clock[0] += MINUTE
    assert store.prune().rows == 1


def test_a_clock_that_is_set_back_removes_nothing_more(store: Store, clock: list[int]) -> None:
    moment = clock[0]
    fill(store, "m", {}, [HOUR, 30 * HOUR], moment)
    store.set_retention("samples", Retention(age="1d"), series="m")
    assert store.prune().rows == 1
    clock[0] = moment - 100 * DAY
    for force in (False, True):
        assert store.prune(force=force).rows == 0
    assert store.series_retention()[0]["boundary"] == moment - DAY
    clock[0] = moment
    assert store.prune(force=True).rows == 0
    assert ages(store, "m", moment) == [1.0]


def test_late_samples_go_with_the_next_move(store: Store, clock: list[int]) -> None:
    moment = clock[0]
    fill(store, "m", {}, [HOUR], moment)
    store.set_retention("samples", Retention(age="1d"), series="m")
    store.prune()
    fill(store, "m", {}, [100 * DAY, 50 * DAY, 25 * HOUR], moment)
    fill(store, "other", {}, [100 * DAY], moment)
    assert ages(store, "m", moment) == [1.0, 25.0, 1200.0, 2400.0]
    assert store.prune().rows == 0
    clock[0] += 3 * HOUR
    assert store.prune().rows == 3
    assert ages(store, "m", moment) == [1.0]
    assert ages(store, "other", moment) == [2400.0]


def test_rings_are_left_alone_and_exemplars_go(store: Store, clock: list[int]) -> None:
    moment = clock[0]
    store.ring("ring", "1h", 1000, labels={"team": "juniors"})
    fill(store, "ring", {"team": "juniors"}, np.arange(100) * HOUR, moment)
    for team in ("juniors", "seniors"):
        fill(store, "m", {"team": team}, [HOUR, 50 * HOUR], moment)
        for age in (50, 1):
            store.record_exemplars([Exemplar("m", {"t": str(age)}, 1.0, {"team": team}, moment - age * HOUR)])
    store.set_retention("samples", Retention(age="1d"), series=JUNIORS)
    assert store.series_retention()[0]["matched"] == 1
    went = store.prune(force=True)
    assert {(one.table, one.rows) for one in went.victims} == {("samples", 1), ("exemplars", 1)}
    assert store.promql("count_over_time(ring[1y])", time=moment).values[0] == 100
    assert [(one.series["team"], one.labels["t"]) for one in store.exemplars("m")] == [
        ("juniors", "1"),
        ("seniors", "50"),
        ("seniors", "1"),
    ]
    # what the newest was is known anew
    assert store.record_exemplars([Exemplar("m", {"t": "2"}, 1.0, {"team": "juniors"}, moment - 2 * HOUR)]) == [False]


def test_summaries_in_place_of_samples_go_too(store: Store, clock: list[int]) -> None:
    moment = clock[0] // HOUR * HOUR
    for team in ("juniors", "seniors"):
        fill(store, "m", {"team": team}, np.arange(1, 4 * 24 * 6) * 10 * MINUTE, moment)
    store.downsample("1d", "1h")
    store.set_retention("samples", Retention(age="2d"), series=JUNIORS)
    went = store.prune(force=True)
    assert {one.table for one in went.victims} == {"samples_1h"}
    assert went.rows == store.scan("samples_1h", {"series_id": [2]}, None, clock[0] - 2 * DAY).num_rows
    counts = dict(
        zip(
            [dict(one)["team"] for one in store.promql("count_over_time(m[10d])", time=moment).labels],
            store.promql("count_over_time(m[10d])", time=moment).values,
            strict=True,
        )
    )
    assert counts["seniors"] == 4 * 24 * 6 - 1
    assert 2 * 24 * 6 - 7 <= counts["juniors"] <= 2 * 24 * 6 + 7


QUERIES = ("avg_over_time(m[2h])", "max_over_time(m[2h])", "sum by (team) (count_over_time(m[4h]))", "rate(m[2h])")
SQL = (
    "SELECT series_id, time_bucket('2h', time) AS b, avg(value) AS v, count(*) AS n FROM samples"
    " WHERE time < $end GROUP BY 1, 2 ORDER BY 1, 2"
)


def answers(store: Store, start: int, end: int) -> list[Any]:
    found: list[Any] = [
        store.promql_range(q, start=start, end=end, step="2h").values.round(9).tolist() for q in QUERIES
    ]
    return [*found, store.sql(SQL, {"end": np.datetime64(end, "us").item()}).rows()]


def test_rollups_stay(store: Store, clock: list[int]) -> None:
    moment = clock[0] // (2 * HOUR) * 2 * HOUR
    start, end = moment - 4 * DAY, moment - 2 * HOUR
    for team in ("juniors", "interns", "seniors"):
        fill(store, "m", {"team": team}, np.arange(1, 4 * 24 * 10) * 6 * MINUTE + MINUTE, moment)
    store.create_rollup("m_30m", every="30m")
    store.create_rollup(
        "sums", query="SELECT team, time_bucket('1h', time) AS t, sum(value) AS s FROM metric.m GROUP BY 1, 2"
    )
    before, sums = answers(store, start + 4 * HOUR, end), store.scan("sums").sort_by("s").to_pydict()
    store.set_retention("samples", Retention(age="1d"), series=JUNIORS)
    store.set_retention("samples", Retention(age="2d"), series='{team="interns"}')
    assert store.prune(force=True).rows > 1000
    assert answers(store, start + 4 * HOUR, end) == before
    store.run_rollups()
    # late samples of others are made known, and cost nobody his summaries
    fill(store, "m", {"team": "seniors"}, [3 * DAY + SECOND], moment)
    fill(store, "m", {"team": "juniors"}, [3 * DAY + SECOND], moment)
    store.run_rollups()
    late = store.sql("SELECT series_id, sum(rows) AS n FROM m_30m GROUP BY 1 ORDER BY 1").rows()
    assert [one["n"] for one in late] == [959, 959, 960]
    assert set(sums["t"] if "t" in sums else sums["time"]) == set(store.scan("sums")["time"].to_pylist())
    assert store.scan("sums").num_rows == len(sums["s"])
    # and what has gone stays known when the age is taken away
    store.set_retention("samples", None, series=JUNIORS)
    assert [one["series"] for one in store.series_retention()] == ['{team="interns"}']
    store.delete("samples", {"series_id": [3]}, start, start + DAY)
    store.run_rollups()
    late = store.sql("SELECT series_id, sum(rows) AS n FROM m_30m GROUP BY 1 ORDER BY 1").rows()
    assert [one["n"] for one in late][:2] == [959, 959]
    span: dict[str, Any] = {"start": start + DAY, "end": start + 2 * DAY}
    assert {one["team"] for one in store.series("m", **span)} == {"juniors", "interns", "seniors"}


def test_samples_wait_for_their_rollups(store: Store, clock: list[int]) -> None:
    clock[0] = moment = clock[0] // DAY * DAY + 20 * HOUR
    fill(store, "m", {}, np.arange(1, 30 * 60) * MINUTE, moment)
    store.create_rollup("m_1d", every="1d")
    store.set_retention("samples", Retention(age="1h"), series="m")
    store.prune(force=True)
    # the bucket of today is not made yet
    assert len(ages(store, "m", moment)) == 20 * 60
    clock[0] = moment + 5 * HOUR
    store.prune(force=True)
    assert ages(store, "m", moment) == []
    assert store.sql("SELECT sum(rows) AS n FROM m_1d").rows() == [{"n": 30 * 60 - 1}]


def test_it_survives_a_restart_and_the_loss_of_the_catalog(folder: Path, clock: list[int]) -> None:
    moment = clock[0]
    with kymograph.connect(folder, sync="off") as store:
        for team in ("juniors", "seniors"):
            fill(store, "m", {"team": team}, np.arange(100) * HOUR + MINUTE, moment)
        store.create_rollup("m_1h", every="1h")
        store.set_retention("samples", Retention(age="2d"), series=JUNIORS)
        store.prune(force=True)
        told = store.series_retention()
        inner = store.create_namespace("solar")
        assert inner.series_retention() == []
        inner.set_retention("samples", Retention(age="1d"), series="m")
        assert len(store.series_retention()) == 1
    with kymograph.connect(folder, sync="off") as store:
        assert store.series_retention() == told
        assert [one["series"] for one in store.namespace("solar").series_retention()] == ["m"]
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (folder / name).unlink(missing_ok=True)
    with kymograph.connect(folder, sync="off") as store:
        assert store.series_retention() == told
        store.run_rollups()
        rows = store.sql("SELECT series_id, sum(rows) AS n FROM m_1h GROUP BY 1 ORDER BY 1").rows()
        assert rows[0]["n"] == rows[1]["n"] >= 99
        assert len(ages(store, JUNIORS, moment)) == 48
    assert not list(folder.glob("catalog.damaged*"))


def test_readers_look_and_do_not_touch(folder: Path, clock: list[int]) -> None:
    with kymograph.connect(folder, sync="off") as store:
        fill(store, "m", {}, [HOUR, 50 * HOUR, 60 * HOUR], clock[0])
        store.seal()
        store.set_retention("samples", Retention(age="1d"), series="m")
        with kymograph.connect(folder, read_only=True) as reader:
            assert reader.series_retention() == store.series_retention()
            assert reader.prune(dry_run=True).rows == 2
            for refused in (
                lambda: reader.set_retention("samples", Retention(age="1h"), series="m"),
                lambda: reader.set_retention("samples", None, series="m"),
                reader.prune,
            ):
                with pytest.raises(ReadOnly):
                    refused()
        assert store.prune().rows == 2


@pytest.mark.parametrize("where", ["samples", "exemplars", "document"])
def test_what_a_crash_leaves_goes_next(
    folder: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = now_micros()
    with kymograph.connect(folder, sync="off") as store:
        fill(store, "m", {}, np.arange(1, 100) * HOUR, moment)
        store.create_rollup("m_1h", every="1h")
        for age in (90, 80, 1):
            store.record_exemplars([Exemplar("m", {"t": str(age)}, 1.0, {}, moment - age * HOUR)])
        store.set_retention("samples", Retention(age="2d"), series="m")
        rollup = store.scan("m_1h").sort_by("time").to_pydict()
        delete, put = LocalEngine.delete, LocalEngine.put_documents
        puts = [0]

        def deleted(self: LocalEngine, table: str, *rest: Any, **named: Any) -> int:
            if table == where:
                raise StorageError("the disk is gone")
            return delete(self, table, *rest, **named)

        def kept(self: LocalEngine, kind: str, values: Any) -> None:
            puts[0] += kind == "retention"
            if where == "document" and puts[0] == 2:
                raise StorageError("the disk is gone")
            put(self, kind, values)

        with monkeypatch.context() as patch:
            patch.setattr(LocalEngine, "delete", deleted)
            patch.setattr(LocalEngine, "put_documents", kept)
            with pytest.raises(StorageError, match="the disk is gone"):
                store.prune()
        copied(folder, tmp_path / "crashed", ignore=shutil.ignore_patterns("LOCK"))
    for left in (folder, tmp_path / "crashed"):
        with kymograph.connect(left, sync="off") as store:
            store.run_rollups()
            store.prune()
            assert max(ages(store, "m", moment)) <= 48
            assert [one.labels["t"] for one in store.exemplars("m")] == ["1"]
            assert store.scan("m_1h").sort_by("time").to_pydict() == rollup
            assert store.prune().rows == 0


def test_writers_and_queries_beside_it(store: Store) -> None:
    moment = now_micros()
    series = [("m", {"team": team, "n": str(n)}) for team in ("juniors", "seniors") for n in range(8)]
    ids = store.series_ids(series)
    times = moment - np.arange(1, 200) * HOUR
    store.append_samples(np.repeat(ids, len(times)), np.tile(times, len(ids)), np.ones(len(times) * len(ids)))
    problems: list[BaseException] = []
    over = threading.Event()

    def write() -> None:
        step = 0
        while not over.is_set():
            step += 1
            store.append_samples(ids, np.full(len(ids), moment + step), np.ones(len(ids)))

    def ask() -> None:
        query = 'count_over_time(m{team="seniors"}[1y] offset -1h)'
        while not over.is_set():
            found = store.promql(query, time=moment)
            assert len(found.values) == 8
            assert found.values.min() >= 199
            store.promql("sum(count_over_time(m[1y]))", time=moment)

    def lines() -> None:
        while not over.is_set():
            store.set_retention("samples", Retention(age="1h"), series='{team="nobody"}')
            store.set_retention("samples", None, series='{team="nobody"}')

    def guarded(work: Any) -> None:
        try:
            work()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (write, ask, lines)]
    for thread in threads:
        thread.start()
    try:
        for age in ("150h", "100h", "50h", "10h"):
            store.set_retention("samples", Retention(age=age), series=JUNIORS)
            store.prune(force=True)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert problems == []
    left = store.sql("SELECT count(*) AS n FROM samples WHERE time < $t", {"t": np.datetime64(moment, "us").item()})
    assert left.rows() == [{"n": 8 * 199 + 8 * 9}]
    assert [one["series"] for one in store.series_retention()] == [JUNIORS]


def test_nothing_is_done_where_there_is_nothing(store: Store) -> None:
    store.set_retention("samples", Retention(age="1h"), series=JUNIORS)
    assert store.prune(force=True).rows == 0
    assert store.series_retention() == [{"series": JUNIORS, "age": HOUR, "boundary": None, "matched": 0}]
    store.close()
    with pytest.raises(KymographError):
        store.series_retention()
