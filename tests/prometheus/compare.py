"""Whether two answers of Prometheus' API say the same; where they do not, what differs."""

from __future__ import annotations

import math
import re
from typing import Any

import httpx

# of two numbers whose texts differ: Go and NumPy add and take powers in another order
CLOSE = 1e-9
# which of several series an error names first is up to the order of a map
_SERIES = re.compile(r"\[\{.*\}\]")


def asked(client: httpx.Client, path: str, parameters: dict[str, Any]) -> tuple[int, Any]:
    answer = client.get(f"/api/v1/{path}", params=parameters)
    return answer.status_code, answer.json()


def difference(path: str, theirs: tuple[int, Any], ours: tuple[int, Any], *, ordered: bool = False) -> str:
    """What differs, "" where nothing does. Annotations are not looked at: Prometheus 2 has none."""
    if theirs[0] != ours[0]:
        return f"status {theirs[0]} {theirs[1].get('error')}, ours {ours[0]} {ours[1].get('error')}"
    if theirs[1]["status"] != ours[1]["status"]:
        return f"{theirs[1]} != {ours[1]}"
    if theirs[1]["status"] == "error":
        told = [(one["errorType"], _SERIES.sub("[…]", one["error"])) for one in (theirs[1], ours[1])]
        return "" if told[0] == told[1] else f"{told[0]} != {told[1]}"
    a, b = theirs[1]["data"], ours[1]["data"]
    if path not in ("query", "query_range"):
        return "" if a == b else f"{a} != {b}"
    if a["resultType"] != b["resultType"]:
        return f"{a['resultType']} != {b['resultType']}"
    if a["resultType"] in ("scalar", "string"):
        return _points([a["result"]], [b["result"]])
    if ordered and [one["metric"] for one in a["result"]] != [one["metric"] for one in b["result"]]:
        return "another order"
    return _series(a["result"], b["result"])


def _series(theirs: Any, ours: Any) -> str:
    a, b = ({tuple(sorted(one["metric"].items())): one for one in each} for each in (theirs, ours))
    assert len(b) == len(ours), "a label set is there twice"
    if a.keys() != b.keys():
        return f"series only theirs {sorted(a.keys() - b.keys())[:3]}, only ours {sorted(b.keys() - a.keys())[:3]}"
    for key, one in a.items():
        problem = _points(*((each["values"] if "values" in each else [each["value"]]) for each in (one, b[key])))
        if problem:
            return f"{dict(key)}: {problem}"
    return ""


def _points(theirs: Any, ours: Any) -> str:
    if [time for time, _ in theirs] != [time for time, _ in ours]:
        return f"{len(theirs)} points from {theirs[:1]}, ours {len(ours)} from {ours[:1]}"
    for (time, a), (_, b) in zip(theirs, ours, strict=True):
        if a != b and not math.isclose(float(a), float(b), rel_tol=CLOSE, abs_tol=1e-12):
            return f"at {time}: {a} != {b}"
    return ""
