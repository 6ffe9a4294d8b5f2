"""`python -m bench.metrics.serve FOLDER PORT SYNC`: the server over a store, without anything that collects."""

from __future__ import annotations

import signal
import sys
from typing import cast

from kymograph.options import StoreOptions, Sync
from kymograph.server.app import create_app
from kymograph.server.auth import Gate
from kymograph.server.limits import Limits
from kymograph.server.listener import Server, config_of, listen, spare_what_is_loaded
from kymograph.server.slot import StoreSlot
from kymograph.server.state import ServerState


def main(folder: str, port: int, sync: Sync) -> None:
    limits = Limits()
    slot = StoreSlot(folder, StoreOptions(sync=sync))
    state = ServerState(slot, Gate(False, lambda _: None, limits), None, frozenset(), limits)
    server = Server(config_of(create_app(state), limits))

    def stop(*_: object) -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    slot.start(wait=30)
    with listen("127.0.0.1", port) as door:
        spare_what_is_loaded()
        try:
            server.run(sockets=[door])
        finally:
            slot.close()
            state.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), cast(Sync, sys.argv[3]))
