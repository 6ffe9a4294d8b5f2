"""`kymo serve` hands its options on."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from tests.cli.test_failures import start
from tests.server.running import eventually


def test_limits_on_series(tmp_path: Path) -> None:
    process = start("serve", tmp_path / "s", "--port", 0, "--max-series", 1000, "--max-new-series", 300)
    assert process.stdout is not None
    try:
        found = re.search(rb"http://\S+", process.stdout.readline())
        assert found is not None
        with httpx.Client(base_url=found[0].decode(), timeout=60, trust_env=False) as http:

            def post(name: str, series: int) -> httpx.Response:
                page = "".join(f'{name}{{i="{i}"}} 1\n' for i in range(series))
                return http.post("/api/v1/import/prometheus", content=page)

            assert eventually(lambda: post("few", 100).status_code == 204)
            refused = post("too_many", 300)
            assert refused.status_code == 422
            assert re.match(
                "metric too_many would add 300 series: .* the limit is 300$", refused.json()["error"]["message"]
            )
            flags = http.get("/api/v1/status/flags").json()["data"]
            assert (flags["store.max-series"], flags["store.max-new-series"]) == ("1000", "300")
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
