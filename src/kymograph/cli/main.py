"""`kymo` itself: the verbs it has, and what every failure looks like from outside.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C, 141 nobody reads the output any more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from kymograph._version import __version__
from kymograph.cli.maintain import check, compact, info, prune
from kymograph.cli.namespace import namespace
from kymograph.cli.query import sql
from kymograph.cli.retention import retention
from kymograph.cli.rollup import downsample, rollup
from kymograph.cli.serve import serve
from kymograph.cli.stream import stream
from kymograph.cli.tail import tail
from kymograph.cli.token import token
from kymograph.cli.transfer import export_, import_
from kymograph.errors import KymographError

_INTERRUPTED = 130
_NO_READER = 141


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="kymo", message="%(prog)s %(version)s")
def kymo() -> None:
    """Record telemetry into a folder whose size stays bounded, and ask it.

    DIR is the folder of a store; verbs that can do without take the one in your user data folder.

    A SIZE is written like 500MB or 2GiB, a DURATION like 90d, 1h30m or 250ms. A TIME is ISO 8601 (in UTC unless it says
    otherwise), int µs since 1970, or a duration before now such as 24h.
    """


for _verb in (
    serve,
    sql,
    import_,
    export_,
    info,
    check,
    compact,
    prune,
    tail,
    token,
    namespace,
    rollup,
    downsample,
    retention,
    stream,
):
    kymo.add_command(_verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `kymo` and return its exit code; failures are one line on stderr, never a traceback."""
    try:
        code = kymo.main(arguments, prog_name="kymo", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as problem:
        problem.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except (BrokenPipeError, SystemExit):  # click exits by itself when a pipe breaks, and only then
        _abandon_output()
        return _NO_READER
    except click.ClickException as problem:
        return _failed(problem.format_message())
    except KymographError as problem:
        return _failed(str(problem))
    except OSError as problem:
        return _failed(str(problem))
    except MemoryError:
        return _failed("out of memory")
    except Exception as problem:
        if os.environ.get("KYMO_DEBUG"):
            raise
        return _failed(f"this is a bug: {type(problem).__name__}: {problem} (KYMO_DEBUG=1 shows where)")
    return code if isinstance(code, int) else 0


def _failed(message: str) -> int:
    click.echo(f"error: {message}", err=True)
    return 1


def _abandon_output() -> None:
    """Let the interpreter flush into nothing at its end, where it would complain about the pipe once more."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
