"""A headless Chromium and the little of its DevTools protocol that the tests need."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
]  # fmt: skip


def chromium() -> str | None:
    """Where Chromium is, if it is."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Refused(AssertionError):
    """The browser did not do as it was told: the page was about to make room for another, for one."""


class Page:
    """One tab.

    Attributes:
        problems: what its console, its security policy and its network complained about.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            message = json.loads(self._socket.recv(120))
            if message.get("id") == self._number:
                if "error" in message:
                    raise Refused(message)
                return message["result"]
            self._note(message)
        raise TimeoutError(method)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:500])
        elif message["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif message["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.problems.append(json.dumps(params["args"])[:500])
        elif message["method"] == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:")):
                self.problems.append(f"asked for {url}")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def size(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def media(self, **features: str) -> None:
        """Emulate media features: `prefers_color_scheme="dark"`."""
        given = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=given)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression (or promise) comes to, as JSON."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 120.0) -> Any:
        """Wait until an expression is true; its value."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            # a page that is still loading lacks what is asked about, and one that is left answers nothing
            with suppress(Refused):
                found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
                if "exceptionDetails" not in found and found["result"].get("value"):
                    return found["result"]["value"]
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}; problems: {self.problems}; {self.text()[:500]}")

    def text(self) -> str:
        return str(self.value("document.body.innerText"))

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode={"Tab": 9, "Enter": 13}[key],
            )

    def picture(self) -> bytes:
        """A PNG of what can be seen."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def browser(path: str) -> Iterator[Callable[[], Page]]:
    """A running Chromium; call it for a new tab in it."""
    with tempfile.TemporaryDirectory(prefix="kymograph-ui-", ignore_cleanup_errors=True) as folder:
        quiet = subprocess.DEVNULL
        environment = {**os.environ, "HOME": folder}
        process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={folder}", "about:blank"], stdout=quiet, stderr=quiet, env=environment
        )
        sockets: list[Any] = []
        try:
            port = _port(Path(folder) / "DevToolsActivePort", process)

            def tab() -> Page:
                made = httpx.put(f"http://127.0.0.1:{port}/json/new?about:blank", trust_env=False, timeout=30).json()
                opened = connect(made["webSocketDebuggerUrl"], proxy=None, max_size=None, max_queue=None)
                sockets.append(opened)
                return Page(opened.__enter__())

            yield tab
        finally:
            # first the browser: the sockets then find the other side gone instead of waiting for its goodbye
            process.kill()
            process.wait()
            for socket in sockets:
                socket.__exit__(None, None, None)


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the browser ended at once"
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise TimeoutError("the browser did not start")
