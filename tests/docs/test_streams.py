"""docs/streams-http.md: its exchanges are sent to a server byte by byte, and the answers are those on the page."""

from __future__ import annotations

import ast
import re
import socket
from pathlib import Path
from typing import Any

from tests.docs.pages import page
from tests.server.running import running

PAGE = page("docs/streams-http.md")


def literal(text: str) -> bytes:
    """`"text"` or `x 00 ff`."""
    if text.startswith("x"):
        return bytes.fromhex(text[1:])
    found = ast.literal_eval(text)
    assert isinstance(found, str)
    return found.encode()


def sent(lines: list[str]) -> bytes:
    at = lines.index("")
    body = b""
    for line in lines[at + 1 :]:
        if line == "chunk end":
            body += b"0\r\n\r\n"
        elif line.startswith("chunk "):
            data = literal(line.removeprefix("chunk "))
            body += b"%x\r\n%s\r\n" % (len(data), data)
        else:
            body += literal(line)
    return "\r\n".join([*lines[:at], "", ""]).encode() + body


def answered(raw: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer, by its length or its chunks."""
    file = raw.makefile("rb")
    status = int(file.readline().split()[1])
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    if headers.get(b"transfer-encoding") == b"chunked":
        body = b""
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        file.readline()
        return status, body
    return status, file.read(int(headers[b"content-length"]))


def test_exchanges(tmp_path: Path) -> None:
    exchanges = [block for block in PAGE.blocks("text") if block.startswith("→")]
    assert len(exchanges) > 12
    with running(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port), timeout=120) as raw:
        for block in exchanges:
            lines = block.splitlines()
            request = [re.sub("^→ ?", "", line) for line in lines if line.startswith("→")]
            status, body = (re.sub("^← ", "", line) for line in lines if line.startswith("←"))
            raw.sendall(sent(request))
            assert answered(raw) == (int(status), literal(body)), block


def test_the_client_on_the_page(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(PAGE.blocks("python")[0], names)
    with running(tmp_path) as server:
        assert names["record"](server.url) == 32_000
