"""Names of protocols that divide with dots, dashes and slashes, as names that PromQL takes without quotes."""

from __future__ import annotations

import re

_NOT_PLAIN = re.compile(r"[^a-zA-Z0-9_:]+")
_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]+")
MAX_NAME = 255


def plain_name(text: str) -> str:
    """`web.page-views` is `web_page_views`; "" when nothing is left."""
    return _led(_NOT_PLAIN.sub("_", text).strip("_"))


def plain_label(text: str) -> str:
    """The same for the name of a label, which has no colon either."""
    return _led(_NOT_IN_LABELS.sub("_", text).strip("_"))


def _led(name: str) -> str:
    return f"_{name}"[:MAX_NAME] if name[:1].isdigit() else name[:MAX_NAME]
