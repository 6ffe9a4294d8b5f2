"""Rules of a running server: checked before it listens, evaluated once the store is open, alerts told to Alertmanagers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kymograph.collect.alertmanager import AlertSender
from kymograph.errors import KymographError
from kymograph.store.rules.alerts import Notice
from kymograph.store.rules.files import read_rules
from kymograph.store.store import Store

log = logging.getLogger("kymograph.server")


class Alerting:
    """Rule files and who is told about their alerts.

    Attributes:
        url: where this server is reached, for links in alerts.
        sender: None where nobody is to be told.
        read: when the files were last read without a fault, Unix seconds.
        failure: what was wrong with them since, "" when nothing was.
    """

    def __init__(self, files: Sequence[Path | str], alertmanagers: Sequence[str]) -> None:
        """Raises InvalidInput: a rule file or a URL that is wrong."""
        read_rules(files)
        self.url = ""
        self.read, self.failure = time.time(), ""
        self._files = list(files)
        self.sender = AlertSender(alertmanagers) if alertmanagers else None

    def attach(self, store: Store) -> None:
        """Begin to evaluate over a store that was opened; it stops when the store closes."""
        with suppress(KymographError):
            self.reload(store)

    def reload(self, store: Store) -> None:
        """Read the files and go on with the rules that are in them now.

        Raises:
            InvalidInput: a file that is wrong; the rules stay as they were, and the log says so.
        """
        if self._files:
            try:
                store.load_rules(self._files, notify=self._tell, url=self.url)
            except KymographError as problem:
                self.failure = str(problem)
                log.error("the rules cannot be loaded and stay as they were: %s", problem)
                raise
        self.read, self.failure = time.time(), ""

    def _tell(self, notices: Sequence[Notice]) -> None:
        if self.sender is not None:
            self.sender.send(notices, self.url)

    def start(self) -> None:
        if self.sender is not None:
            self.sender.start()

    def stop(self) -> None:
        """End telling; the store is closed by now."""
        if self.sender is not None:
            self.sender.stop()
