"""The background thread that runs a store's recurring jobs and keeps their history."""

from __future__ import annotations

import contextlib
import threading
import time as clock
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kymograph.engine.interface import Engine
from kymograph.errors import KymographError, StoreClosed

DOCUMENT = "job"
KEPT = 100
# a process that is restarted more often than the pause must still get its jobs done
_FIRST_AFTER = 30 * 10**6


@dataclass(frozen=True)
class Job:
    """Something to run again and again.

    Attributes:
        name: what the history calls it.
        every: pause between two runs, µs.
        run: does it and returns one line that says what was done.
    """

    name: str
    every: int
    run: Callable[[], str]


class Jobs:
    """Runs jobs one after the other in one daemon thread; the last `KEPT` runs stay as documents of the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: list[Job] = []
        self._stopped = False
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._failures: dict[str, str] = {}
        self._due: dict[str, int] = {}
        self._keys: deque[str] | None = None
        self._thread: threading.Thread | None = None

    def add(self, job: Job) -> None:
        """Run a job from now on; the first run comes after its pause, or 30 s when that is longer.

        A job of the same name is replaced.
        """
        with self._lock:
            self._jobs = [*(one for one in self._jobs if one.name != job.name), job]
            self._due[job.name] = now_micros() + min(job.every, _FIRST_AFTER)
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._loop, name="kymograph-jobs", daemon=True)
                self._thread.start()
        self._wake.set()

    def remove(self, name: str) -> None:
        """Run a job no more; a run in progress ends by itself."""
        with self._lock:
            self._jobs = [one for one in self._jobs if one.name != name]
            self._due.pop(name, None)
            self._failures.pop(name, None)

    def stop(self) -> None:
        """Wait for the run in progress and end; no job starts after this returns. May be called twice."""
        with self._lock:
            self._stopped = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def next_run(self, name: str) -> int | None:
        """When a job is due, µs; None when it is not run here."""
        with self._lock:
            return self._due.get(name) if self._thread is not None else None

    def failure(self) -> str | None:
        """What the last run of some job died of; None when all went well."""
        with self._lock:
            return next(iter(self._failures.values()), None)

    def history(self) -> list[dict[str, Any]]:
        """The runs kept, oldest first: job, started and finished (µs), ok, detail."""
        documents = self._engine.documents(DOCUMENT)
        return [documents[key] for key in sorted(documents)]

    def _loop(self) -> None:
        while True:
            self._wake.clear()
            if self._stopped:  # after the clearing, which may have taken away what woke us to stop
                return
            with self._lock:
                job = min(self._jobs, key=lambda job: self._due[job.name], default=None)
                pause = 60_000_000 if job is None else self._due[job.name] - now_micros()
            if job is None or pause > 0:
                # at most a minute, so that a clock that is set back cannot put a job off for long
                self._wake.wait(min(pause / 1e6, 60.0))
            else:
                self._run(job)

    def _run(self, job: Job) -> None:
        started = now_micros()
        try:
            detail, ok = job.run(), True
        except StoreClosed:
            # nobody may be left to call stop(), and the job would be due again at once
            self._stopped = True
            return
        except KymographError as problem:
            detail, ok = str(problem), False
        except Exception as problem:  # whatever it is, the thread goes on and the history names it
            detail, ok = f"{type(problem).__name__}: {problem}", False
        with self._lock:
            if ok:
                self._failures.pop(job.name, None)
            else:
                self._failures[job.name] = f"job {job.name}: {detail}"
            if job.name in self._due:
                self._due[job.name] = now_micros() + job.every
        entry = {"job": job.name, "started": started, "finished": now_micros(), "ok": ok, "detail": detail}
        # a full disk must not end the thread: the next run is tried and reported all the same
        with contextlib.suppress(KymographError):
            self._keep(f"{started:020d} {job.name}", entry)

    def _keep(self, key: str, entry: dict[str, Any]) -> None:
        if self._keys is None:
            self._keys = deque(sorted(self._engine.documents(DOCUMENT)))
        self._engine.put_document(DOCUMENT, key, entry)
        self._keys.append(key)
        while len(self._keys) > KEPT:
            self._engine.put_document(DOCUMENT, self._keys.popleft(), None)


def now_micros() -> int:
    return clock.time_ns() // 1000
