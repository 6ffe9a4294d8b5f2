"""Opening a store: the one place that knows every engine."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kymograph.errors import InvalidInput, MissingDependency, NotFound, StorageError
from kymograph.options import StoreOptions, parse_duration, parse_size
from kymograph.store.namespaces import Bounds, check_namespace

if TYPE_CHECKING:
    from kymograph.engine.interface import Engine
    from kymograph.store.store import Store

NAMESPACES = "namespaces"
_SIZES = ("cap", "head_bytes", "cache_bytes")
_DURATIONS = ("age", "seal_after", "prune_every")


def connect(
    target: str | os.PathLike[str],
    *,
    namespace: str | None = None,
    read_only: bool = False,
    options: StoreOptions | None = None,
    **overrides: Any,
) -> Store:
    """Open a store; safe to use from many threads.

    Args:
        target: `"memory:"`, or a folder (created when missing, unless read-only).
        namespace: open the store of this name inside the folder, which shares nothing with the others there but the
            folder; each namespace has one writing process of its own. `options` are those of the namespace.
        read_only: open beside a writing process; every committed row is seen, nothing is written.
        options: how the store behaves; None takes the defaults of `StoreOptions`.
        **overrides: single fields of `StoreOptions` on top; sizes and durations also as text
            (`cap="500MB"`, `age="90d"`, `prune_every="5m"`).

    Raises:
        InvalidInput: a target, a namespace or an option that is none.
        NotFound: read-only, and there is no such folder or namespace.
        StoreLocked: another process writes there; the message names it.
        Corrupt, StorageError: the folder cannot be opened.
    """
    chosen = _options(options, overrides)
    if read_only:
        chosen = replace(chosen, read_only=True)
    if namespace is not None:
        if target == "memory:":
            raise InvalidInput("a namespace in memory is made with create_namespace()")
        target = _folder(target) / NAMESPACES / check_namespace(namespace)
        return _store(_engine(target, chosen), chosen, _place(target))
    engine = _engine(target, chosen)
    return _store(engine, chosen, _place(target), _Place(target, chosen, engine))


def _store(engine: Engine, options: StoreOptions, path: str, place: _Place | None = None) -> Store:
    """A store over an engine, which is closed where that fails: whoever tries again must not find it in the way."""
    from kymograph.store.store import Store

    try:
        return Store(engine, options, path, place)
    except BaseException:
        engine.close()
        raise


class _Place:
    """Where a store's namespaces are: folders in its folder; with the engine in memory, nowhere but there."""

    def __init__(self, target: str | os.PathLike[str], options: StoreOptions, engine: Engine) -> None:
        self._target = target
        self._options = options
        self._engine = engine

    def open(self, name: str, bounds: Bounds) -> Store:
        caps = [cap for cap in (bounds["cap"], self._options.cap) if cap is not None]
        options = replace(self._options, cap=min(caps, default=None), age=bounds["age"])
        if self._target == "memory:":
            return _store(_engine("memory:", options), options, "memory:")
        folder = _folder(self._target) / NAMESPACES / check_namespace(name)
        return _store(_engine(folder, options, self._engine), options, str(folder))

    def names(self) -> list[str]:
        if self._target == "memory:":
            return []
        folder = _folder(self._target) / NAMESPACES
        return sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def _options(options: StoreOptions | None, overrides: dict[str, Any]) -> StoreOptions:
    known = [field.name for field in fields(StoreOptions)]
    parsed: dict[str, Any] = {}
    for name, value in overrides.items():
        if name not in known:
            raise InvalidInput(f"there is no option {name!r}", hint="one of " + ", ".join(known))
        if value is not None and name in _SIZES:
            value = parse_size(value)
        elif value is not None and name in _DURATIONS:
            value = parse_duration(value)
        parsed[name] = value
    try:
        return replace(options or StoreOptions(), **parsed)
    except TypeError as problem:
        raise InvalidInput(f"an option has a value that is none: {problem}") from None


def _engine(target: str | os.PathLike[str], options: StoreOptions, within: Engine | None = None) -> Engine:
    if isinstance(target, str) and target.startswith("memory:"):
        from kymograph.engine.memory import MemoryEngine

        if target != "memory:":
            raise InvalidInput(f"{target!r} is not a target", hint='the memory engine is "memory:"')
        return MemoryEngine(options)
    if isinstance(target, str) and target.startswith(("postgresql://", "postgres://")):
        raise MissingDependency(
            "this version of Kymograph has no PostgreSQL engine yet",
            hint="it comes with a later version; give a folder, or memory:",
        )
    if isinstance(target, str) and "://" in target:
        raise InvalidInput(f"{target!r} is not a target", hint="give a folder, or memory:")
    path = _folder(target)
    if options.read_only and not path.is_dir():
        raise NotFound(f"there is no folder {path}", hint="open it for writing once, and it is created")
    from kymograph.local.engine import LocalEngine

    return LocalEngine(path, options, within=within if isinstance(within, LocalEngine) else None)


def _folder(target: str | os.PathLike[str]) -> Path:
    if not isinstance(target, (str, os.PathLike)):
        raise InvalidInput(f"{target!r} is not a target", hint="give a folder, or memory:")
    text = os.fspath(target)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise InvalidInput(f"{target!r} is not a folder's name")
    path = Path(text).expanduser()
    try:
        if path.exists() and not path.is_dir():
            raise InvalidInput(f"{path} is a file, not a folder")
    except OSError as problem:  # a name that is too long, a folder above it that may not be looked into
        raise StorageError(f"{text[:200]}: {problem.strerror or problem}") from problem
    return path


def _place(target: str | os.PathLike[str]) -> str:
    return "memory:" if target == "memory:" else str(_folder(target).absolute())
