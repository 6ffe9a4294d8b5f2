"""A process with everything imported that forks a child per run, so that 200 crashes need no 200 imports.

The child gets a pipe and the name of a scenario; its end is seen by the end of the pipe, however it died.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Child:
    """One forked run. Lines it reports arrive in order; the last one may be cut by its death."""

    def __init__(self, forks: Forks, pid: int, pipe: int) -> None:
        self._forks, self.pid = forks, pid
        self._pipe = os.fdopen(pipe, "rb")
        self.status: int | None = None

    def line(self) -> str:
        """The next whole line, or "" at the end."""
        raw = self._pipe.readline()
        return raw.decode().rstrip("\n") if raw.endswith(b"\n") else ""

    def rest(self) -> list[str]:
        """All lines until it ends."""
        lines = []
        while line := self.line():
            lines.append(line)
        return lines

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """The exit status, negative for a signal; call it once the lines have ended or after `kill`."""
        if self.status is None:
            self.status = int(self._forks.ask({"wait": self.pid}))
            self._pipe.close()
        return self.status


@dataclass(frozen=True)
class Ended:
    """How a child came to its end: what it reported, and whether it was killed before it was done."""

    lines: list[str]
    killed: bool

    @property
    def done(self) -> int:
        """How many of its operations it reported as done."""
        return sum(line.startswith("done") for line in self.lines)


class Forks:
    """The process that forks; single-threaded, so that a fork copies no lock in an odd state."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.forks", str(theirs.fileno())], cwd=ROOT, pass_fds=[theirs.fileno()]
            )

    def ask(self, request: dict[str, Any], *fds: int) -> str:
        socket.send_fds(self._socket, [json.dumps(request).encode()], fds)
        return self._socket.recv(65_536).decode()

    def run(self, scenario: str, **arguments: Any) -> Child:
        """Fork and call `tests.crash.scenarios.<scenario>(report, **arguments)`; arguments travel as JSON."""
        ours, theirs = os.pipe()
        pid = int(self.ask({"run": scenario, "arguments": arguments}, theirs))
        os.close(theirs)
        return Child(self, pid, ours)

    def ended(self, scenario: str, **arguments: Any) -> Ended:
        """As `run`, to the end, which comes by itself or by a kill and in no other way."""
        child = self.run(scenario, **arguments)
        lines = child.rest()
        status = child.wait()
        assert status in (0, 137), lines
        return Ended(lines, status == 137)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(120)


def serve(handle: int) -> None:
    """The forking process: answers requests until its socket closes."""
    scenarios = importlib.import_module("tests.crash.scenarios")
    asked = socket.socket(fileno=handle)
    while True:
        raw, fds, _, _ = socket.recv_fds(asked, 65_536, 1)
        if not raw:
            return
        request = json.loads(raw)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            asked.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            asked.close()
            _child(getattr(scenarios, request["run"]), fds[0], request["arguments"])
        os.close(fds[0])
        asked.send(str(pid).encode())


def _child(scenario: Any, pipe: int, arguments: dict[str, Any]) -> None:
    try:
        scenario(lambda line: os.write(pipe, f"{line}\n".encode()), **arguments)
        os._exit(0)
    except BaseException:
        text = traceback.format_exc().replace("\n", " | ")
        os.write(pipe, f"error {text[-3000:]}\n".encode())
        os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
