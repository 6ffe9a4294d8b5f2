"""Runs one function in a fresh process, so that its peak memory and its caches are its own."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def peak_rss(process: int | str = "self") -> int:
    """Highest resident set of a process so far, bytes (`VmHWM`, which starts anew with the program)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def run(function: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    """`function(*args)` in a spawned process: what it returned, and that process's peak RSS in bytes.

    Raises:
        RuntimeError: the process ended without an answer, or the function raised.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, function, args))
    process.start()
    there.close()
    try:
        result, peak, problem = here.recv()
    except EOFError:
        result, peak, problem = None, 0, "it ended without an answer"
    process.join()
    if problem:
        raise RuntimeError(f"{function.__module__}.{function.__name__}: {problem}")
    return result, peak


def _answer(pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = function(*args)
    except Exception as problem:
        pipe.send((None, 0, f"{type(problem).__name__}: {problem}"))
    else:
        pipe.send((result, peak_rss(), ""))
