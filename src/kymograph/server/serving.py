"""`kymo serve`: record, answer, and stop without losing anything."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from kymograph._version import __version__
from kymograph.collect.supervisor import Supervisor
from kymograph.errors import InvalidInput, KymographError
from kymograph.model.time import SECOND
from kymograph.options import StoreOptions, Sync
from kymograph.server.alerting import Alerting
from kymograph.server.application import create_app
from kymograph.server.auth import Gate
from kymograph.server.guard import host_of
from kymograph.server.limits import Limits
from kymograph.server.listener import Server, config_of, is_loopback, listen, spare_what_is_loaded
from kymograph.server.prefix import checked_prefix
from kymograph.server.recording import recorder
from kymograph.server.slot import StoreSlot
from kymograph.server.state import ServerState
from kymograph.store import tokens

log = logging.getLogger("kymograph.server")

_OPEN_WAIT = 10.0
_DRAIN = 20.0


@dataclass(frozen=True)
class ServeOptions:
    """How `serve` listens and what it records.

    Attributes:
        host, port: where to listen; port 0 takes a free one. Anything but loopback needs tokens in the store.
        interval: µs between two looks of every collector, 0.1 s at least.
        scrape: exposition URLs to record too.
        statsd, graphite: addresses to listen on for lines of these, `HOST:PORT`; None does not listen.
        mqtt: URL of a broker to record from, with `topics`, see `collect.topics.Template`.
        simulate: number of simulated GPUs.
        tls_cert, tls_key: PEM files; both or none.
        open_browser: show the page once it is there.
        auth: ask for tokens on loopback too.
        allowed_hosts: further names clients may know this server by (a reverse proxy's, a DNS name).
        path_prefix: path under which a reverse proxy shows this server, such as `/kymograph`.
        rules: rule files of Prometheus to evaluate.
        alertmanagers: URLs of Alertmanagers that are told about alerts.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    interval: int = SECOND
    scrape: Sequence[str] = ()
    statsd: str | None = None
    graphite: str | None = None
    mqtt: str | None = None
    topics: Sequence[str] = ()
    simulate: int = 0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    open_browser: bool = False
    auth: bool = False
    allowed_hosts: Sequence[str] = ()
    path_prefix: str = ""
    rules: Sequence[Path | str] = ()
    alertmanagers: Sequence[str] = ()

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidInput("TLS needs a certificate and its key", hint="give --tls-cert and --tls-key")

    @property
    def asks_for_tokens(self) -> bool:
        return self.auth or not is_loopback(self.host)

    @property
    def names(self) -> frozenset[str]:
        """What the Host header may say beside loopback."""
        names = {host_of(name) for name in self.allowed_hosts}
        if "" in names:
            raise InvalidInput("an allowed host is not a host name", hint="write it like gpu-box.example.org")
        if not is_loopback(self.host):
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        return frozenset(names | {host_of(f"[{self.host}]" if ":" in self.host else self.host)})

    def address(self, port: int) -> str:
        """The URL to open."""
        host = "localhost" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104
        scheme = "http" if self.tls_cert is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{checked_prefix(self.path_prefix)}"


def serve(
    dir: Path | str,
    *,
    cap: int | None = 500 * 10**6,
    age: int | None = 90 * 86_400 * SECOND,
    sync: Sync = "full",
    exemplars: int = 100_000,
    max_series: int | None = None,
    max_new_series: int | None = None,
    **listening: Any,
) -> int:
    """Record into `dir` and serve it until SIGTERM or Ctrl-C. Prints the address once it answers.

    Args:
        dir: the store's folder, made when missing.
        cap: bytes the folder may take, None is unbounded.
        age: µs after which rows go, None is unbounded.
        sync, exemplars, max_series, max_new_series: see `StoreOptions`.
        **listening: the fields of `ServeOptions`.

    Returns:
        0 after a normal end with everything stored, 1 when it could not start or rows were left over.
    """
    try:
        with _signals() as stop:
            options = ServeOptions(**listening)
            alerting = Alerting(options.rules, options.alertmanagers)
            opening = StoreOptions(
                sync=sync, cap=cap, age=age, exemplars=exemplars, max_series=max_series, max_new_series=max_new_series
            )
            slot = StoreSlot(dir, opening, alerting.attach)
            with _hangup(slot, alerting):
                return _run(slot, options, alerting, stop)
    except KymographError as error:
        _say(f"error: {error}", sys.stderr)
        return 1


class _Stop:
    """Set by a signal; ends the server it is given, also one that is given later."""

    def __init__(self) -> None:
        self._asked = False
        self._server: Server | None = None

    def __call__(self, *_: object) -> None:
        self._asked = True
        if self._server is not None:
            self._server.should_exit = True

    def ends(self, server: Server) -> None:
        self._server = server
        server.should_exit = self._asked


@contextmanager
def _signals() -> Iterator[_Stop]:
    """SIGTERM and Ctrl-C ask to stop, from before the store opens until after it is closed."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


@contextmanager
def _hangup(slot: StoreSlot, alerting: Alerting) -> Iterator[None]:
    """SIGHUP reads the rule files again."""

    def read() -> None:
        # a store that is not open yet reads them when it is; what is wrong with them is in the log
        with suppress(KymographError):
            alerting.reload(slot.get())

    def asked(*_: object) -> None:
        threading.Thread(target=read, name="kymograph-reload", daemon=True).start()

    sign = getattr(signal, "SIGHUP", None)
    if sign is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(sign, asked)
    try:
        yield
    finally:
        signal.signal(sign, former)


def _run(slot: StoreSlot, options: ServeOptions, alerting: Alerting, stop: _Stop) -> int:
    """One run: what is started is stopped in reverse order, whatever happens between."""
    limits = Limits()
    gate = Gate(options.asks_for_tokens, lambda token: tokens.verify(slot.get().engine, token), limits)
    supervisor = _recorder(slot, options)
    state = ServerState(slot, gate, supervisor, options.names, limits)
    state.alerts, state.rules, state.prefix = alerting.sender, alerting, checked_prefix(options.path_prefix)
    config = config_of(create_app(state), limits, options.tls_cert, options.tls_key)
    with listen(options.host, options.port) as door:
        address = options.address(door.getsockname()[1])
        server = Server(config, lambda: _started(slot, options, address))
        stop.ends(server)
        alerting.url = address
        alerting.start()
        slot.start(wait=_OPEN_WAIT)
        stored = True
        try:
            _check_tokens(slot, options)
            supervisor.subscribe(state.hub.take)
            supervisor.start()
            spare_what_is_loaded()
            try:
                server.run(sockets=[door])
            finally:
                stored = supervisor.stop(_DRAIN)
        finally:
            slot.close()
            alerting.stop()
            state.close()
    if not stored:
        _say("the rows collected last could not be stored", sys.stderr)
    return 0 if stored else 1


def _recorder(slot: StoreSlot, options: ServeOptions) -> Supervisor:
    return recorder(
        slot,
        options.interval,
        options.scrape,
        options.simulate,
        statsd=options.statsd,
        graphite=options.graphite,
        mqtt=options.mqtt,
        topics=options.topics,
    )


def _check_tokens(slot: StoreSlot, options: ServeOptions) -> None:
    if not options.asks_for_tokens:
        return
    if slot.reason:
        log.warning("tokens cannot be read while the store is not open: nobody gets in until it is")
    elif not tokens.list(slot.get().engine):
        raise InvalidInput(
            f"serving on {options.host} needs a token, and the store has none",
            hint=f"make one: kymo token create {slot.path} --role read",
        )


def _started(slot: StoreSlot, options: ServeOptions, address: str) -> None:
    _say(f"Kymograph {__version__} at {address}")
    if slot.reason:
        _say("live values only; recording begins when the store is open", sys.stderr)
    else:
        cap = slot.get().options.cap
        bound = "" if cap is None else f" (at most {cap / 1e6:,.0f} MB)"
        _say(f"recording to {slot.path}{bound}; Ctrl-C stops")
    if options.asks_for_tokens:
        _say("a token is needed to get in")
    if options.open_browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _say(text: str, stream: TextIO | None = None) -> None:
    out = stream or sys.stdout
    out.write(text + "\n")
    out.flush()
