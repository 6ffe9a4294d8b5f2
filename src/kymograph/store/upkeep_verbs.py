"""The verbs of keeping house: bounds, sealing, compaction, checks, numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kymograph.engine.interface import CheckReport, Copyable, Maintained, PruneReport
from kymograph.errors import InvalidInput
from kymograph.store.base import StoreBase
from kymograph.store.report import describe_store

Progress = Callable[[int, int], None]


class UpkeepVerbs(StoreBase):
    """Housekeeping of a store; see `Store`."""

    def prune(self, *, dry_run: bool = False, force: bool = False) -> PruneReport:
        """Apply age, byte and cap bounds now; report what went, or with `dry_run` what would go.

        Whole partitions go once all of their rows are out of bounds. With `force` the age bound is applied to the
        microsecond: rows beyond it inside a younger partition go too.
        """
        return self._pruned(dry_run=dry_run, force=force)

    def seal(self, table: str | None = None) -> int:
        """Turn hot rows into blocks now. Returns rows sealed; 0 on an engine that has no blocks."""
        engine = self.engine
        return self._written(lambda: engine.seal(table)) if isinstance(engine, Maintained) else 0

    def compact(self, progress: Progress | None = None) -> int:
        """Merge small blocks; `progress(done, total)` counts blocks. Returns blocks removed net."""
        engine = self.engine
        return self._written(lambda: engine.compact(progress)) if isinstance(engine, Maintained) else 0

    def snapshot(self, target: str | os.PathLike[str]) -> Path:
        """Copy the store as it is now into a new folder, which `kymograph.connect` opens; writing goes on meanwhile.

        Blocks are hard links where the file system has them, so that it is quick and takes little room until they go
        from the store itself.

        Returns:
            The folder's absolute path.

        Raises:
            AlreadyExists: something is there. DiskFull, StorageError: nothing is left behind.
            InvalidInput: the store is in memory.
        """
        engine, path = self.engine, Path(target).absolute()
        if not isinstance(engine, Copyable):
            raise InvalidInput(f"{self.path} is not kept in files", hint="export its tables instead")
        engine.copy_to(path)
        return path

    def check(self, repair: bool = False, progress: Progress | None = None) -> CheckReport:
        """Verify everything stored; `repair` salvages every undamaged row of what is damaged."""
        engine = self.engine
        return engine.check(repair=repair, progress=progress) if isinstance(engine, Maintained) else CheckReport()

    def info(self) -> dict[str, Any]:
        """What is stored and how it is kept.

        Keys: path, engine, version, tables (by name: rows, series, oldest, newest, hot_rows, hot_bytes, sealed_bytes,
        bytes_per_value, blocks, partitions), rows, series, oldest, newest, usage_bytes, cap_bytes, age, next_prune,
        jobs (newest last: job, started, finished, ok, detail), notes (what was noticed at opening). Times are int µs,
        durations int µs, sizes bytes; None where there is no such thing.
        """
        return describe_store(self.engine, self.options, self.path, self._jobs)
