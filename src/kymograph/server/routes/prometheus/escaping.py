"""Label names of any UTF-8 text within a path: `U__` and the code points of what a plain name has not."""

from __future__ import annotations

import re

_PART = re.compile(r"__|_([0-9a-fA-F]{1,6})_|([^_])")


def unescaped(name: str) -> str:
    """`U__http_2e_status` as `http.status`; a name that is not escaped so, or badly, as it is."""
    if not name.startswith("U__"):
        return name
    found = []
    at = 3
    while at < len(name):
        match = _PART.match(name, at)
        if match is None:
            return name
        code, plain = match.groups()
        if code is not None:
            number = int(code, 16)
            if number >= 0x110000 or 0xD800 <= number < 0xE000:
                return name
            found.append(chr(number))
        else:
            found.append(plain or "_")
        at = match.end()
    return "".join(found)
