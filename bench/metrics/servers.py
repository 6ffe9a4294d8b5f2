"""The three systems as servers on the loopback address, with what each needs to write, ask and be measured."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from bench.child import peak_rss
from bench.table import folder_bytes

REMOTE = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
_READY_SECONDS = 60.0


class Server:
    """One process on a free port.

    Attributes:
        name: what tables call it.
        lines: the path that takes Influx lines, "" where there is none.
        asked: whether it is asked questions, too.
    """

    name = ""
    lines = ""
    program = ""
    asked = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{door.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self._log = (folder.parent / f"{folder.name}.log").open("wb")
        self._process = subprocess.Popen(self.command(), stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + _READY_SECONDS
        while not self._ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.stop()
                raise RuntimeError(f"{self.name} did not start; see {self._log.name}")
            time.sleep(0.05)

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be measured here, or ""."""
        return (
            "" if shutil.which(cls.program) else f"{cls.program} is not installed (Debian: apt install {cls.program})"
        )

    def command(self) -> list[str]:
        raise NotImplementedError

    def settle(self) -> None:
        """Off the clock: bring everything into its final form."""

    def disk(self) -> int:
        """Bytes of the stored samples and their index, once settled and stopped."""
        return folder_bytes(self.folder)

    def ask(self, path: str, **query: Any) -> bytes:
        """An answer of Prometheus' API."""
        return self.call(f"/api/v1/{path}?{urllib.parse.urlencode(query)}")

    def call(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body), timeout=300) as answer:
            found: bytes = answer.read()
        return found

    def _ready(self) -> bool:
        try:
            self.call(self.health)
        except (OSError, urllib.error.URLError):
            return False
        return True

    health = "/health"

    def peak_rss(self) -> int:
        return peak_rss(self._process.pid)

    def cpu_seconds(self) -> float:
        """Processor time of the process so far."""
        parts = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(120)
        self._log.close()


class Kymograph(Server):
    """The server of `kymo serve` without collectors; the store with its defaults, so every answer is after an fsync."""

    name = "Kymograph"
    lines = "/write?precision=ms"
    program = sys.executable
    sync = "full"

    def command(self) -> list[str]:
        port = self.address.rpartition(":")[2]
        return [sys.executable, "-m", "bench.metrics.serve", str(self.folder), port, self.sync]

    def stop(self) -> None:
        super().stop()
        import kymograph

        with kymograph.connect(self.folder) as store:
            store.seal()
            store.compact()


class Unsynced(Kymograph):
    """The same with sync="normal": every answer is after the kernel has the samples, so that no killed process loses any."""

    name = "Kymograph, sync=normal"
    sync = "normal"
    asked = False


class VictoriaMetrics(Server):
    """Debian's package; it answers once samples are in memory, and writes them within five seconds."""

    name = "VictoriaMetrics"
    lines = "/write?precision=ms"
    program = "victoria-metrics"

    def command(self) -> list[str]:
        options = [f"-storageDataPath={self.folder}", f"-httpListenAddr={self.address}", "-retentionPeriod=100y"]
        options += ["-search.maxPointsPerTimeseries=1000000", "-loggerLevel=ERROR", "-search.disableCache"]
        return [self.program, *options, "-search.maxUniqueTimeseries=1000000"]

    def settle(self) -> None:
        self.call("/internal/force_flush")
        self.call("/internal/force_merge")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            time.sleep(0.5)
            active = re.findall(r"vm_active_(?:force_)?merges(?:{[^}]*})? ([0-9.]+)", self.call("/metrics").decode())
            if not any(float(count) for count in active):
                return


class Prometheus(Server):
    """Debian's package as a receiver of remote write; its disk is that of a snapshot, which has everything in blocks."""

    name = "Prometheus"
    program = "prometheus"
    health = "/-/ready"

    def command(self) -> list[str]:
        config = self.folder.parent / "prometheus.yml"
        config.write_text("global: {}\n")
        options = [f"--config.file={config}", f"--storage.tsdb.path={self.folder}", "--web.enable-admin-api"]
        options += ["--web.enable-remote-write-receiver", "--storage.tsdb.retention.time=100y", "--log.level=warn"]
        return [self.program, *options, f"--web.listen-address={self.address}", "--query.max-samples=500000000"]

    def settle(self) -> None:
        self.call("/api/v1/admin/tsdb/snapshot", b"")

    def disk(self) -> int:
        return folder_bytes(self.folder / "snapshots")


SYSTEMS: tuple[type[Server], ...] = (Kymograph, Unsynced, VictoriaMetrics, Prometheus)
