"""Background work of several parts, each of which is done though others fail."""

from __future__ import annotations

from collections.abc import Callable

from kymograph.errors import KymographError


class Attempts:
    """What failed of it."""

    def __init__(self) -> None:
        self.problems: list[KymographError] = []

    def run(self, work: Callable[..., object], *given: object) -> bool:
        """Do one part. Returns whether it went well."""
        try:
            work(*given)
        except KymographError as problem:
            self.problems.append(problem)
            return False
        return True

    def end(self) -> None:
        """Raise the first problem there was."""
        if self.problems:
            raise self.problems[0]
