"""What the ring face answers: ranges, buckets, /query."""

from __future__ import annotations

import httpx

from tests.server.rings import ask, ingest


def test_ranges_are_closed(http: httpx.Client) -> None:
    number = ingest(http, "gauge", [{"name": "closed", "ts": t / 2, "value": t, "step": 0.5} for t in range(20)])
    ids = number["metric_ids"]
    rows = ask(http, "SELECT ts, value FROM samples ORDER BY value", metric_ids=ids, start_ts=2, end_ts=3)["rows"]
    assert [(row["ts"], row["value"]) for row in rows] == [(2, 4), (2, 5), (3, 6), (3, 7)]
    for given, expected in (
        ({"start_ts": 2.1, "end_ts": 3.9}, 2), ({"start_ts": 9}, 2), ({"end_ts": 0}, 2), ({"start_ts": 5, "end_ts": 5}, 2),
        ({"start_ts": 9.5}, 0), ({}, 20),
    ):  # fmt: skip
        assert ask(http, "SELECT * FROM samples", metric_ids=ids, **given)["count"] == expected
        if given:
            series = http.get(f"/metrics/{ids[0]}/series", params=given).json()
            assert series["count"] == expected
    ask(http, "SELECT 1", 400, start_ts=5, end_ts=4)
    ask(http, "SELECT 1", 400, start_ts=1e300)
    assert http.get(f"/metrics/{ids[0]}/series?start_ts=nan").status_code == 400


def test_buckets(http: httpx.Client) -> None:
    ids = {}
    for kind, field in (("gauge", "value"), ("counter", "raw_value")):
        body = [{"name": f"b_{kind}", "ts": t, field: v} for t, v in [(-1, 5), (0, 1), (1, 3), (59, 2), (120, 9)]]
        ids[kind] = ingest(http, kind, body)["metric_ids"][0]
    for kind, value in (("gauge", 2.0), ("counter", 2.0)):
        series = http.get(f"/metrics/{ids[kind]}/series?bucket=60").json()
        assert [row["ts"] for row in series["rows"]] == [-60, 0, 120]
        assert series["rows"][1] == {"ts": 0, "value": value, "min": 1.0, "max": 3.0, "count": 3}
        assert series["bucket"] == 60
    by_two = [http.get(f"/metrics/{ids[kind]}/series?bucket=2&start_ts=0&end_ts=1").json() for kind in ids]
    assert [series["rows"][0]["value"] for series in by_two] == [2.0, 3.0]
    for bucket in ("0", "-1", "nan", "inf", "x", "1e300"):
        assert http.get(f"/metrics/{ids['gauge']}/series?bucket={bucket}").status_code == 400


def test_queries(http: httpx.Client) -> None:
    for name, factor in (("sent", 3.0), ("received", 1.0)):
        body = [{"name": name, "tags": {"if": nic}, "ts": t, "value": t * factor} for t in range(10) for nic in "ab"]
        ingest(http, "gauge", body)
    selectors = [
        {"metric": m, "tags": {"if": "a"}, "alias": alias} for m, alias in (("sent", "tx"), ("received", "rx 1"))
    ]
    found = ask(
        http,
        """SELECT ts, series_sub(max(CASE WHEN metric_id = {{tx}} THEN value END),
                                 max(CASE WHEN metric_id = {{ rx 1 }} THEN value END)) AS net
           FROM samples GROUP BY ts ORDER BY ts""",
        selectors=selectors, start_ts=1, end_ts=3,
    )  # fmt: skip
    assert found == {"rows": [{"ts": t, "net": 2.0 * t} for t in (1, 2, 3)], "count": 3}
    joined = ask(
        http,
        """SELECT m.name, t.value AS nic, count(*) AS n FROM samples s JOIN metrics m ON m.metric_id = s.metric_id
           JOIN metric_tags t ON t.metric_id = s.metric_id AND t.key = 'if' GROUP BY 1, 2 ORDER BY 1, 2""",
        selectors=selectors,
    )
    assert joined["rows"] == [{"name": "received", "nic": "a", "n": 10}, {"name": "sent", "nic": "a", "n": 10}]
    ids = [http.post("/metrics/lookup", json={"name": "sent", "tags": {"if": nic}}).json()["metric_id"] for nic in "ab"]
    assert ask(http, "SELECT count(*) AS n FROM samples", metric_ids=ids)["rows"] == [{"n": 20}]
    assert ask(http, "SELECT count(*) AS n FROM samples", metric_ids=ids[:1], selectors=selectors)["rows"] == [
        {"n": 20}
    ]
    assert ask(http, "SELECT name FROM metrics WHERE name = 'sent'")["count"] == 2


def test_queries_that_cannot_be(http: httpx.Client) -> None:
    ingest(http, "gauge", [{"name": "ambiguous", "tags": {"n": n}, "ts": 1, "value": 1} for n in "ab"])
    one = {"metric": "ambiguous", "tags": {"n": "a"}, "alias": "x"}
    assert "2 metrics" in ask(http, "SELECT 1", 400, selectors=[{"metric": "ambiguous"}])["error"]["message"]
    ask(http, "SELECT 1", 404, selectors=[{"metric": "nowhere", "alias": "x"}])
    ask(http, "SELECT 1", 404, selectors=[{**one, "tags": {"n": "c"}}])
    ask(http, "SELECT 1", 400, selectors=[one, {**one, "tags": {"n": "b"}}])
    ask(http, "SELECT {{y}}", 400, selectors=[one])
    ask(http, "SELECT {{}}", 400)
    ask(http, "SELECT 1", 404, metric_ids=[10**9])
    assert http.post("/metrics/lookup", json={"name": "ambiguous"}).status_code == 400
    for sql in ("DROP TABLE samples", "DELETE FROM samples", "SELECT * FROM nothing", "", "SELECT", "\0"):
        assert set(ask(http, sql, 400)["error"]) == {"code", "message", "hint"}
    for body in ({}, {"sql": 5}, {"sql": "SELECT 1", "x": 1}, {"sql": "SELECT 1", "metric_ids": ["1"]}, []):
        assert http.post("/query", json=body).status_code == 400
