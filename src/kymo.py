"""The command `kymo` before anything of it is imported, so that Ctrl-C ends it without a word from the first moment on."""

from __future__ import annotations

import os
import signal
import sys

_INTERRUPTED = 130


def main() -> int:
    """Run `kymo` and return its exit code."""
    # while it starts and while the interpreter ends, there is nothing to put in order
    signal.signal(signal.SIGINT, _leave)
    from kymograph.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run()
    signal.signal(signal.SIGINT, _leave)
    if code == _INTERRUPTED:  # a thread may still wait for standard input, which the interpreter cannot close then
        _leave()
    return code


def _leave(*_: object) -> None:
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
