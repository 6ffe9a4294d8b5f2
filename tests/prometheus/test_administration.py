"""Prometheus' API for administrators: deleting series, copying the store."""

from __future__ import annotations

from pathlib import Path

import kymograph
from tests.prometheus.envelope import data, failure
from tests.prometheus.hosts import COUNT, START, fill, fill_many
from tests.server.running import running


class TestAdministration:
    def test_delete_series(self) -> None:
        with running(prepare=fill) as server, server.client() as client:
            path = "/api/v1/admin/tsdb/delete_series"
            asked = {"match[]": ['m{host="a"}', 'm{host="b"}'], "start": START + 60, "end": START + 120}
            assert client.post(path, params=asked).status_code == 204
            left = data(client.get("/api/v1/query", params={"query": "count_over_time(m[1h])", "time": START + 700}))
            assert {one["metric"]["host"]: one["value"][1] for one in left["result"]} == {
                "a": "35",
                "b": "35",
                "c": "40",
            }
            assert client.post(path, data={"match[]": "m"}).status_code == 204
            assert data(client.get("/api/v1/query", params={"query": "m[1h]", "time": START + 700}))["result"] == []
            assert "no match[] parameter" in failure(client.post(path), 400, "bad_data")
            assert "the table room" in failure(client.post(path, data={"match[]": "room_temp"}), 400, "bad_data")
            failure(client.post(path, data={"match[]": "{}"}), 400, "bad_data")

    def test_snapshot(self, tmp_path: Path) -> None:
        with running(tmp_path / "store", prepare=fill_many) as server, server.client() as client:
            inner = server.state.slot.get().create_namespace("solar")
            inner.gauge("watts", 5.0, time=START * 10**6)
            server.state.slot.get().seal()
            server.state.slot.get().gauge("late", 1.0, time=START * 10**6)
            name = data(client.post("/api/v1/admin/tsdb/snapshot"))["name"]
            server.state.slot.get().gauge("later", 1.0, time=START * 10**6)
            copy = tmp_path / "store" / "snapshots" / name
            with kymograph.connect(copy) as store:
                assert not store.check().damages
                assert [about["name"] for about in store.metrics()] == ["http.requests", "late", "m", "many"]
                assert store.promql(
                    "sum(count_over_time(many[2d]))", time=(START + 90_000) * 10**6
                ).values.tolist() == [200 * COUNT]
                assert store.scan("room").num_rows == 1
                assert store.namespace("solar").promql("watts", time=START * 10**6).values.tolist() == [5.0]
                # the copy is its own: what is deleted there stays here
                store.drop_table("room")
            assert server.state.slot.get().scan("room").num_rows == 1

    def test_a_store_in_memory_has_no_folder_to_copy(self) -> None:
        with running() as server, server.client() as client:
            assert "not kept in files" in failure(client.post("/api/v1/admin/tsdb/snapshot"), 400, "bad_data")
