"""A real HTTP server on a free loopback port, whose answers a test writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Passes each GET to the server's `answer`, which writes status, headers and body itself."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Pages)
        server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        try:
            server.answer(self)
        except OSError:
            # the client hung up first, as it should on an answer that is too long or too slow
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass

    def send(
        self, body: bytes, content_type: str = "text/plain; version=0.0.4", status: int = 200, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class Pages(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[Handler], None] = lambda handler: handler.send(b"a 1\n")
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def page(self, body: str, content_type: str = "text/plain; version=0.0.4") -> None:
        """Answer every request with this page from now on."""
        self.answer = lambda handler: handler.send(body.encode(), content_type)


@contextmanager
def serving() -> Iterator[Pages]:
    server = Pages()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
