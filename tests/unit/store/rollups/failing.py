"""Work of an engine that the disk stops."""

from __future__ import annotations

from typing import Any

from kymograph.errors import StorageError


def failing(work: Any, left: list[int]) -> Any:
    def run(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise StorageError("the disk is gone")
        return work(*arguments, **named)

    return run
