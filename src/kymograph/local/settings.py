"""DIR/settings.jsonl: what users have set up, a second time, for the day that catalog.db is lost (docs/format/settings.md)."""

from __future__ import annotations

import contextlib
import json
import stat
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kymograph.engine.interface import Damage
from kymograph.engine.rings import Ring
from kymograph.errors import KymographError, StorageError
from kymograph.local.files import storage_errors
from kymograph.model.schema import TableSchema
from kymograph.model.stream import StreamSchema

if TYPE_CHECKING:
    from kymograph.local.folder import Folder

VERSION = 1
NAME = "settings.jsonl"
# the background leaves at least so many times as long between two writings as one takes
_REST = 20


@dataclass(frozen=True)
class Kept:
    """What the file says.

    Attributes:
        rings: name, labels and ring by id of the series.
        problem: what is wrong with it, in words; what is here was read with a good checksum all the same.
    """

    documents: dict[tuple[str, str], Any] = field(default_factory=dict)
    tables: list[TableSchema] = field(default_factory=list)
    streams: dict[int, StreamSchema] = field(default_factory=dict)
    rings: dict[int, tuple[str, dict[str, str], Ring]] = field(default_factory=dict)
    problem: str = ""

    def __len__(self) -> int:
        return len(self.documents) + len(self.tables) + len(self.streams) + len(self.rings)

    def take(self, what: str, *told: Any) -> None:
        """Take one line. Raises where it is none: KymographError, ValueError, TypeError, KeyError."""
        if what == "document":
            kind, key, value = told
            self.documents[kind, key] = value
        elif what == "table":
            self.tables.append(TableSchema.from_json(json.dumps(told[0])))
        elif what == "stream":
            self.streams[told[0]] = StreamSchema.from_json(told[1])
        elif what == "ring":
            number, name, labels, step, slots, kind = told
            self.rings[number] = (name, dict(labels), Ring(step, slots, kind))
        else:
            raise ValueError(what)


def read(folder: Path) -> Kept:
    """What is in the file of a folder; nothing where there is none.

    Raises:
        StorageError: it is of another version, or cannot be read at all.
    """
    try:
        with storage_errors(folder / NAME):
            raw = (folder / NAME).read_bytes()
    except StorageError:
        if (folder / NAME).exists():
            raise
        return Kept()
    kept, bad, expected = Kept(), 0, None
    for text in raw.split(b"\n")[:-1] or [b""]:
        try:
            crc, _, rest = text.partition(b" ")
            if zlib.crc32(rest) != int(crc, 16):
                raise ValueError("checksum")
            told = json.loads(rest)
            if told[0] == "settings":
                expected = _expected(folder, *told[1:])
            else:
                kept.take(*told)
        except StorageError:
            raise
        except (KymographError, ValueError, TypeError, KeyError, IndexError):
            bad += 1
    missing = bad if expected is None else max(bad, expected - len(kept))
    if missing or expected is None:
        return Kept(kept.documents, kept.tables, kept.streams, kept.rings, f"{missing} lines are damaged or missing")
    return kept


def _expected(folder: Path, version: int, lines: int) -> int:
    if version != VERSION:
        raise StorageError(
            f"{folder / NAME} is of version {version}, this release reads {VERSION}",
            hint="open it with the release that wrote it, or a newer one",
        )
    return lines


def line(told: list[Any]) -> str:
    """One line of the file."""
    text = json.dumps(told)
    return f"{zlib.crc32(text.encode()):08x} {text}\n"


class Settings:
    """Keeps the file of an open folder in step with its catalog. Safe for many threads.

    Attributes:
        bytes: size of the file.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._path = folder.path / NAME
        self._saving = threading.Lock()
        # `catalog.configured` as of the last writing; none yet, or it failed
        self._saved = -1
        # the lines of what follows in the background, as of the last writing
        self._following: list[str] = []
        self._next = 0.0
        self.bytes = 0
        with contextlib.suppress(OSError):
            self.bytes = self._path.stat().st_size

    def save(self) -> None:
        """Write the file, unless it says all that the catalog does already. Durable when it returns.

        Raises:
            DiskFull, StorageError: the file is as it was.
        """
        with self._saving:
            now, began = self._folder.catalog.configured, time.monotonic()
            if now == self._saved:
                return
            self._following = list(map(line, self._settings()))
            self._write()
            self._saved = now
            self._next = time.monotonic() + _REST * (time.monotonic() - began)

    def follow(self) -> None:
        """As `save`, in the background: not more often than it can be afforded."""
        if time.monotonic() >= self._next:
            self.save()

    def save_now(self, kind: str) -> None:
        """A document of a kind was put durably: put it here too. What the disk refuses, the background tries again."""
        catalog = self._folder.catalog
        if kind in catalog.PASSING or kind in catalog.FOLLOWING:
            return
        with contextlib.suppress(StorageError), self._saving:
            saved, self._saved = self._saved, -1
            if saved < 0:
                saved, self._following = catalog.configured, list(map(line, self._settings()))
            self._write()
            self._saved = saved

    def _write(self) -> None:
        catalog = self._folder.catalog
        documents = self._folder.registry.listed(catalog.PASSING | catalog.FOLLOWING)
        lines = [*(line(["document", *each]) for each in documents), *self._following]
        text = (line(["settings", VERSION, len(lines)]) + "".join(lines)).encode()
        with storage_errors(self._path):
            present = self._path.read_bytes() if self._path.exists() else None
            mode = stat.S_IMODE(catalog.path.stat().st_mode)
            if text != present and (lines or present is not None):
                sync = self._folder.options.sync == "full"
                self._folder.files.replace(self._path, memoryview(text), sync=sync, mode=mode)
            elif present is not None:
                self._path.chmod(mode)
        self.bytes = len(text)

    def _settings(self) -> list[list[Any]]:
        """Everything that follows in the background."""
        folder = self._folder
        catalog = folder.catalog
        with catalog.reading():
            tables = catalog.load_tables()
            streams = folder.streams.room.ledger.load_streams()
            rings = folder.rings.rows.rings()
        series = folder.registry.series()
        found: list[list[Any]] = [
            ["document", *each] for each in folder.registry.listed(catalog.PASSING, catalog.FOLLOWING)
        ]
        found += [["table", json.loads(schema.to_json())] for schema in sorted(tables.values(), key=lambda t: t.name)]
        found += [["stream", number, schema.to_json()] for number, schema in sorted(streams.items())]
        found += [
            ["ring", number, *series[number], ring.step, ring.slots, ring.kind]
            for number, ring in sorted(rings.items())
            if number in series
        ]
        return found

    def check(self, repair: bool) -> list[Damage]:
        """What is wrong with the file; a repair writes it anew."""
        problem = read(self._folder.path).problem
        if problem and repair:
            self._saved = -1
            self.save()
        return [Damage("", NAME, problem, None, repair)] if problem else []
