"""Dashboards over HTTP: documents under slugs."""

from __future__ import annotations

import httpx


def test_dashboards(http: httpx.Client) -> None:
    document = {"title": "GPU-Übersicht 2", "panels": [{"sql": "SELECT 1", "größe": 1.5}], "slug": None}
    made = http.post("/dashboards", json={k: v for k, v in document.items() if v})
    assert made.status_code == 201
    assert made.json()["slug"] == "gpu-ubersicht-2"
    assert http.get("/dashboards/gpu-ubersicht-2").json() == made.json()
    assert http.post("/dashboards", json={"slug": "gpu-ubersicht-2", "panels": []}).status_code == 200
    assert http.get("/dashboards/gpu-ubersicht-2").json()["panels"] == []
    http.post("/dashboards", json={"slug": "a", "title": "First"})
    listed = http.get("/dashboards").json()
    assert [(one["slug"], one["title"]) for one in listed] == [("a", "First"), ("gpu-ubersicht-2", "gpu-ubersicht-2")]
    assert listed[0]["updated"].endswith("Z")
    for bad in ([], 5, {}, {"slug": ""}, {"slug": "../x"}, {"slug": "A"}, {"slug": 5}, {"title": "!!"}, {"title": 1},
                {"slug": "big", "x": "y" * 300_000}):  # fmt: skip
        assert http.post("/dashboards", json=bad).status_code == 400
    for body in (b"", b"{", b'{"slug": "n", "x": NaN}', b"[" * 100_000):
        assert http.post("/dashboards", content=body).status_code == 400
    for slug in ("a", "gpu-ubersicht-2"):
        assert http.delete(f"/dashboards/{slug}").status_code == 204
        assert http.get(f"/dashboards/{slug}").status_code == 404
        assert http.delete(f"/dashboards/{slug}").status_code == 404
    assert http.get("/dashboards").json() == []
