"""A port for lines, TCP and UDP at once, from senders that are not trusted: lines, connections and memory are bounded."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque

from kymograph.errors import InvalidInput

MAX_LINE = 8 * 2**10
MAX_CONNECTIONS = 256
MAX_BYTES = 8 * 2**20
_READ = 64 * 2**10


def parse_address(text: str, default_port: int) -> tuple[str, int]:
    """`HOST:PORT`, `:PORT` or `PORT`; without a host it is loopback, without a port the default.

    Raises:
        InvalidInput: a port that is none.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        host, port = ("", text.strip()) if text.strip().isdigit() else (text.strip(), "")
    elif text.strip().endswith("]"):
        host, port = text.strip(), ""
    number = default_port if not port else int(port) if port.isascii() and port.isdigit() and len(port) < 6 else -1
    if not 0 <= number <= 65_535:
        raise InvalidInput(f"{text[:80]!r} is no address to listen on", hint="write it like 127.0.0.1:8125")
    return host.strip("[]") or "127.0.0.1", number


class LineListener:
    """Receives lines in a thread of its own; whoever collects takes them from time to time.

    A line that is too long is dropped up to its end. More connections than allowed are closed at once. When nobody
    takes what came, more of it is dropped.

    Attributes:
        address: (host, port) that it listens on, once it is open.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        max_line: int = MAX_LINE,
        max_connections: int = MAX_CONNECTIONS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._place = host, port
        self._max_line, self._max_connections, self._max_bytes = max_line, max_connections, max_bytes
        self.address = self._place
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._selector = selectors.DefaultSelector()
        self._open: set[_Connection] = set()
        self._wake, self._woken = socket.socketpair()
        self._closing = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Listen. Raises OSError where that cannot be; then it is closed."""
        try:
            self._bind(*self._place)
        except OSError:
            self.close()
            raise
        self._thread = threading.Thread(target=self._run, name="kymograph-lines", daemon=True)
        self._thread.start()

    def _bind(self, host: str, port: int) -> None:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        tcp = socket.socket(family, socket.SOCK_STREAM)
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((host, port))
            # one port for both, also where the system chose it
            self.address = (host, tcp.getsockname()[1])
            udp.bind(self.address)
            tcp.listen(128)
        except OSError as problem:
            tcp.close()
            udp.close()
            raise OSError(f"cannot listen on {host} port {port}: {problem.strerror}") from None
        for each, role in ((tcp, "tcp"), (udp, "udp"), (self._woken, "wake")):
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ, role)

    def take(self) -> tuple[list[str], int]:
        """The lines since the last time, undecodable bytes replaced, and how many were dropped meanwhile."""
        with self._lock:
            blocks, dropped = list(self._waiting), self._dropped
            self._waiting.clear()
            self._bytes = self._dropped = 0
        lines = [line for block in blocks for line in block.decode("utf-8", "replace").split("\n")]
        kept = [line.rstrip("\r") for line in lines if line.strip() and len(line) <= self._max_line]
        return kept, dropped + sum(len(line) > self._max_line for line in lines)

    def close(self) -> None:
        """Stop; what came and was not taken is gone."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        if self._thread is not None:
            self._thread.join(5)
        else:
            self._selector.close()
        self._wake.close()
        self._woken.close()

    def _run(self) -> None:
        try:
            while not self._closing:
                for key, _ in self._selector.select():
                    if key.data == "tcp":
                        self._accept(key.fileobj)
                    elif key.data == "udp":
                        self._datagrams(key.fileobj)
                    elif isinstance(key.data, _Connection):
                        self._read(key.data)
        finally:
            for key in list(self._selector.get_map().values()):
                if key.data != "wake":
                    key.fileobj.close()  # type: ignore[union-attr]
            self._selector.close()

    def _accept(self, tcp: object) -> None:
        assert isinstance(tcp, socket.socket)
        try:
            wire, _ = tcp.accept()
        except BlockingIOError:  # gone again already
            return
        except OSError:  # no descriptor is free, and asking at once would spin
            time.sleep(0.05)
            return
        if len(self._open) >= self._max_connections:
            wire.close()
            return
        wire.setblocking(False)
        connection = _Connection(wire)
        self._open.add(connection)
        self._selector.register(wire, selectors.EVENT_READ, connection)

    def _datagrams(self, udp: object) -> None:
        assert isinstance(udp, socket.socket)
        for _ in range(1000):  # then the connections get their turn
            try:
                data = udp.recv(_READ)
            except OSError:
                return
            self._keep(data)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.wire.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # a last line without a line feed is a line
            self._keep(connection.rest)
            self._selector.unregister(connection.wire)
            connection.wire.close()
            self._open.discard(connection)
            return
        whole, feed, rest = (connection.rest + data).rpartition(b"\n")
        if feed and connection.skipping:
            whole = whole.partition(b"\n")[2]
            connection.skipping = False
        connection.rest = b"" if connection.skipping else rest
        if len(connection.rest) > self._max_line:
            connection.rest, connection.skipping = b"", True
            self._drop(1)
        if whole:
            self._keep(whole)

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        with self._lock:
            if self._bytes + len(data) > self._max_bytes:
                self._dropped += data.count(b"\n") + 1
                return
            self._waiting.append(data)
            self._bytes += len(data)

    def _drop(self, lines: int) -> None:
        with self._lock:
            self._dropped += lines


class _Connection:
    """One sender; `rest` is its line that has not ended, `skipping` that a line is too long and its end awaited."""

    def __init__(self, wire: socket.socket) -> None:
        self.wire = wire
        self.rest = b""
        self.skipping = False
