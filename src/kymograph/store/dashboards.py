"""Dashboards: JSON documents by slug, kept as documents of kind "dashboard"."""

from __future__ import annotations

import json
import re
import time as clock
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from kymograph.engine.interface import Engine
from kymograph.errors import InvalidInput, LimitExceeded, NotFound

DOCUMENT = "dashboard"
MAX_BYTES = 256 * 2**10
MAX_DASHBOARDS = 1000
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}", re.ASCII)


def save(engine: Engine, document: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Keep a dashboard under its `slug`, or under one made from its `title`; what was there is replaced.

    Args:
        document: any JSON object that has one of them.

    Returns:
        It as it is kept, with `slug` and `updated` (µs), and whether there was none of that slug.

    Raises:
        InvalidInput: neither slug nor title, a slug that is none, or more than 256 KiB.
        LimitExceeded: there are too many.
    """
    slug = document.get("slug")
    if slug is None:
        slug = _slug_of(document.get("title"))
    if not isinstance(slug, str) or not _SLUG.fullmatch(slug):
        raise InvalidInput(
            f"{str(slug)[:60]!r} is no slug", hint="small letters, digits, - and _, at most 100; or give a title"
        )
    kept = {**document, "slug": slug, "updated": clock.time_ns() // 1000}
    try:
        size = len(json.dumps(kept, allow_nan=False).encode())
    except (ValueError, TypeError, RecursionError) as problem:
        raise InvalidInput(f"the dashboard is no JSON: {str(problem)[:200]}") from None
    if size > MAX_BYTES:
        raise InvalidInput(f"the dashboard takes {size:,} bytes", hint=f"at most {MAX_BYTES:,}")
    present = engine.documents(DOCUMENT)
    if slug not in present and len(present) >= MAX_DASHBOARDS:
        raise LimitExceeded(f"there are {len(present)} dashboards", hint="delete some first")
    engine.put_document(DOCUMENT, slug, kept)
    return kept, slug not in present


def _slug_of(title: Any) -> str:
    """`GPU-Übersicht 2` becomes `gpu-ubersicht-2`."""
    if not isinstance(title, str):
        raise InvalidInput("a dashboard needs a slug or a title")
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:100]


def get(engine: Engine, slug: str) -> dict[str, Any]:
    """One dashboard. Raises NotFound."""
    found: dict[str, Any] | None = engine.get_document(DOCUMENT, slug)
    if found is None:
        raise NotFound(f"there is no dashboard {slug[:100]!r}", hint="GET /dashboards lists them")
    return found


def list(engine: Engine) -> Sequence[dict[str, Any]]:  # noqa: A001  read as dashboards.list(…)
    """Slug, title and time of the last change (µs) of every dashboard, by slug."""
    found = sorted(engine.documents(DOCUMENT).items())
    return [{"slug": slug, "title": one.get("title", slug), "updated": one["updated"]} for slug, one in found]


def remove(engine: Engine, slug: str) -> None:
    """Forget a dashboard. Raises NotFound."""
    get(engine, slug)
    engine.put_document(DOCUMENT, slug, None)
