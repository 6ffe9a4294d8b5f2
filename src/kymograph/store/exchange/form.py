"""The forms rows are exchanged in, and how a file name tells its form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from kymograph.errors import InvalidInput

Form = Literal["csv", "json", "parquet", "arrow", "arrows"]
# arrow is the IPC file format, arrows the IPC stream format; whoever reads takes either for the other
FORMS: tuple[Form, ...] = ("csv", "json", "parquet", "arrow", "arrows")
_BY_SUFFIX: dict[str, Form] = {
    "csv": "csv",
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "parquet": "parquet",
    "arrow": "arrow",
    "feather": "arrow",
    "ipc": "arrow",
    "arrows": "arrows",
}
_COMPRESSED = {"gz": "gzip", "zst": "zstd", "bz2": "bz2"}


def form_of(name: str, given: str | None = None) -> Form:
    """The form that was asked for, or that a file name such as `gpu.csv.gz` tells.

    Raises:
        InvalidInput: an unknown form, or a name that tells none.
    """
    if given is not None:
        found = _BY_SUFFIX.get(given.lower())
        if found is None:
            raise InvalidInput(f"{given!r} is not a format", hint="one of " + ", ".join(FORMS))
        return found
    for suffix in _suffixes(name):
        if suffix in _BY_SUFFIX:
            return _BY_SUFFIX[suffix]
        if suffix not in _COMPRESSED:
            break
    raise InvalidInput(f"the name {name} does not tell its format", hint="say --format csv|json|parquet|arrow")


def compression_of(name: str) -> str | None:
    """What a text file is compressed with, by the end of its name."""
    return _COMPRESSED.get(next(iter(_suffixes(name)), ""))


def _suffixes(name: str) -> Iterable[str]:
    return reversed(name.lower().split(".")[1:])
