"""A real client of the API: promtool asks a real Prometheus and Kymograph, and prints the same."""

from __future__ import annotations

import subprocess

import httpx
import pytest

from tests.prometheus import data
from tests.prometheus.servers import needed
from tests.server.running import Running

AT = str(data.START + 4007)


@pytest.mark.parametrize(
    "command",
    [
        ["instant", "--time", AT, "URL", "sum by (job) (requests_total)"],
        ["instant", "--time", AT, "URL", "up[1m]"],
        ["instant", "--time", AT, "URL", "1 + 1"],
        ["instant", "--time", AT, "URL", 'hard{kind=~"nan|inf|tiny|large"}'],
        ["instant", "--time", AT, "URL", "sum("],
        ["range", "--start", AT, "--end", str(data.START + 4607), "--step", "1m", "URL", "max(temperature_celsius)"],
        ["series", "--match", "up", "--start", str(data.START), "--end", str(data.END), "URL"],
        ["labels", "--start", str(data.START), "--end", str(data.END), "URL", "room"],
    ],
    ids=lambda command: " ".join(command[:1] + command[-1:]),
)
def test_promtool(command: list[str], prometheus: httpx.Client, kymograph: Running) -> None:
    tool = needed("promtool")
    said = []
    for url in (str(prometheus.base_url), kymograph.url):
        words = [url.rstrip("/") if word == "URL" else word for word in command]
        done = subprocess.run([tool, "query", *words], check=False, capture_output=True, text=True, timeout=60)
        said.append((done.returncode, sorted(done.stdout.splitlines()), done.stderr.replace(url, "")))
    assert said[0] == said[1]
    assert said[0][1] or said[0][0]
