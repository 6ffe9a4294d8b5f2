"""Rules of a running server: checked before it listens, evaluated once the store is open, alerts told to Alertmanagers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
    """

    def __init__(self, files: Sequence[Path | str], alertmanagers: Sequence[str]) -> None:
        """Raises InvalidInput: a rule file or a URL that is wrong."""
        read_rules(files)
        self.url = ""
        self._files = list(files)
        self.sender = AlertSender(alertmanagers) if alertmanagers else None

    def attach(self, store: Store) -> None:
        """Begin to evaluate over a store that was opened; it stops when the store closes."""
        if not self._files:
            return
        try:
            store.load_rules(self._files, notify=self._tell, url=self.url)
        except KymographError as problem:
            log.error("the rules cannot be loaded: %s", problem)

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
