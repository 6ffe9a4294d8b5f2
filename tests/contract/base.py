"""What every part of the suite stands on: how an engine is opened, written to and brought into another state.

A new engine inherits the parts (`Values`, `Scans`, …) in one test class and overrides `open`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kymograph.engine.interface import Engine
from kymograph.model.schema import TableSchema, table_schema
from tests.rows import batch_of

Open = Callable[..., Engine]

SIMPLE = table_schema("t", ["host", "unit"], {"value": "float64", "count": "int64"})


class Suite:
    """Base of all parts."""

    def open(self, folder: Path, **options: Any) -> Engine:
        """A new or existing store of this engine; `options` are fields of StoreOptions."""
        raise NotImplementedError

    def after_write(self, engine: Engine) -> None:
        """Called after each append; a variant seals here, so that the same tests run over another state."""

    def settle(self, engine: Any) -> None:
        """Everything an engine may do by itself in the background, now."""
        for name in ("seal", "compact"):
            if hasattr(engine, name):
                getattr(engine, name)()

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[Engine]:
        engine = self.open(tmp_path / "store")
        yield engine
        engine.close()

    def create(self, engine: Engine, schema: TableSchema = SIMPLE) -> TableSchema:
        engine.create_table(schema)
        return schema

    def append(self, engine: Engine, table: str, data: Any) -> int:
        accepted = engine.append(table, batch_of(engine.tables()[table], data))
        self.after_write(engine)
        return accepted

    def put(self, engine: Engine, rows: Mapping[tuple[Any, Any, int], float | None], table: str = "t") -> None:
        """Rows of SIMPLE as {(host, unit, time): value}."""
        keys = list(rows)
        columns = {
            "time": [time for _, _, time in keys],
            "host": [host for host, _, _ in keys],
            "unit": [unit for _, unit, _ in keys],
            "value": list(rows.values()),
            "count": None,
        }
        if keys:
            self.append(engine, table, columns)
