"""Sends bodies from a process of its own, one connection per shard, and says how long it took."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench.metrics.bodies import read_file

# requests that one shard may be ahead of the slowest: Prometheus' head takes no samples an hour old
_AHEAD = 8


def send(url: str, path: str, headers: dict[str, str], file: Path) -> tuple[int, float, str]:
    """(samples, seconds, the first answer that was no success). Run it with `bench.child.run`."""
    shards = read_file(file)
    race = _Race(url, path, headers, len(shards))
    start = time.perf_counter()
    threads = [threading.Thread(target=race.run, args=(number, bodies)) for number, bodies in enumerate(shards)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return race.samples, time.perf_counter() - start, race.problem


class _Race:
    def __init__(self, url: str, path: str, headers: dict[str, str], connections: int) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{told}Content-Length: ".encode()
        self._turn = threading.Condition()
        self._done = [0] * connections
        self.samples = 0
        self.problem = ""

    def run(self, number: int, bodies: list[tuple[int, bytes]]) -> None:
        try:
            with socket.create_connection(self._address) as door, door.makefile("rb") as answers:
                door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for samples, body in bodies:
                    with self._turn:
                        self._turn.wait_for(lambda: self._done[number] < min(self._done) + _AHEAD)
                    door.sendall(self._head + b"%d\r\n\r\n" % len(body) + body)
                    problem = _answer(answers)
                    with self._turn:
                        self._done[number] += 1
                        self.samples += 0 if problem else samples
                        self.problem = self.problem or problem
                        self._turn.notify_all()
        except (OSError, ValueError) as error:
            self.problem = self.problem or repr(error)
        finally:
            with self._turn:
                self._done[number] = 2**62
                self._turn.notify_all()


def _answer(answers: object) -> str:
    """Read one answer; "" for a success."""
    readline, read = answers.readline, answers.read  # type: ignore[attr-defined]
    status = readline()
    size = 0
    while (line := readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    body = read(size) if size else b""
    return "" if status[9:10] == b"2" else (status + body)[:300].decode("utf-8", "replace")
