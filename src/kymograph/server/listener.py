"""The listening socket, and a server that stops without drama."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from kymograph.errors import InvalidInput, StorageError
from kymograph.server.limits import Limits
from kymograph.server.protocol import protocol


class _Denied(logging.Filter):
    """Drops complaints about what is done on purpose: refusing a WebSocket with an answer (anyone could fill the log
    with it) and cutting off an answer that broke, which the guard has logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("ASGI callable returned without completing")


class AddressInUse(StorageError):
    """The port is taken, or the address is not of this machine."""

    code = "address_unavailable"


def is_loopback(host: str) -> bool:
    """Whether every address that `host` stands for is reachable from this machine only."""
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)  # noqa: S104
    except OSError:
        return False
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    return bool(addresses) and all(ipaddress.ip_address(address).is_loopback for address in addresses)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Raises:
        InvalidInput: no such address, or a port out of range.
        AddressInUse: the port is taken or may not be taken.
    """
    if not 0 <= port <= 65_535:
        raise InvalidInput(f"the port {port} is out of range", hint="0 to 65535, 0 takes a free one")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as problem:
        raise InvalidInput(f"there is no address {host!r}: {problem}", hint="give an address of this machine") from None
    found = socket.socket(family, kind, proto)
    try:
        # a server that was just stopped must not block the next start for a minute
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(256)
    except OSError as problem:
        found.close()
        raise AddressInUse(
            f"cannot listen on {host} port {port}: {problem.strerror}", hint="choose another one with --port"
        ) from None
    found.setblocking(False)
    return found


def spare_what_is_loaded() -> None:
    """Let the garbage collector pass over all that is there by now, which a server keeps to its end.

    A full round over the modules alone stops every thread for some 0.1 s.
    """
    gc.collect()
    gc.freeze()


class Server(uvicorn.Server):
    """uvicorn's server without its signal handling: whoever runs it sets `should_exit`.

    Args:
        on_start: called once it answers.
    """

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_start is not None:
            self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again afterwards and end the process before the store is closed
        yield


def config_of(app: Any, limits: Limits, tls_cert: Path | None = None, tls_key: Path | None = None) -> uvicorn.Config:
    """uvicorn's settings for an application under these limits.

    Raises:
        InvalidInput: the certificate or the key cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=protocol(limits),
        ws="websockets-sansio",
        ws_max_size=limits.message_bytes,
        ws_per_message_deflate=False,
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",  # at "info" it would log queries, and a token may be in one
        access_log=False,
        proxy_headers=False,  # anyone may send X-Forwarded-For
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(each, _Denied) for each in logger.filters):
        logger.addFilter(_Denied())
    try:
        config.load()
    except (OSError, ssl.SSLError) as problem:
        raise InvalidInput(
            f"the certificate {tls_cert} or the key {tls_key} cannot be used: {problem}",
            hint="both are PEM files, the key without a passphrase",
        ) from None
    return config
