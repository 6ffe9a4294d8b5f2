"""Ports that nobody takes between the moment they are chosen and the moment somebody listens on them."""

from __future__ import annotations

import os
import socket

# below those that the system hands out by itself, to every connection for one
_FIRST, _LAST = 20_000, 32_000


def free_port() -> int:
    """A loopback port on which nobody listens; no other test gets it for as long as this process lives."""
    count = _LAST - _FIRST
    for place in range(count):
        port = _FIRST + (os.getpid() * 101 + place) % count
        if _taken(port):
            return port
    raise OSError("no port is free")


def _taken(port: int) -> bool:
    """Whether nobody had it, and it is ours from now on: a name without a file says so to other processes."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0kymograph tests, port {port}")
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as door:
                door.bind(("127.0.0.1", port))
    except OSError:
        mark.close()
        return False
    mark.detach()  # stays open until the process ends
    return True
