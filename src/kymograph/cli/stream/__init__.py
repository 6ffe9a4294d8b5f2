"""`kymo stream`: waveforms in a folder or on a server."""

from __future__ import annotations

import click

from kymograph.cli.stream.changing import create, destroy, remove, rename
from kymograph.cli.stream.cleaning import cleanup
from kymograph.cli.stream.copying import copy, decimate
from kymograph.cli.stream.extracting import extract
from kymograph.cli.stream.inserting import insert
from kymograph.cli.stream.listing import intervals, list_, metadata


@click.group()
def stream() -> None:
    """Insert, extract and look after waveforms.

    TARGET is the folder of a store, or the URL of a server (its token comes from the environment, KYMO_TOKEN). Times are
    ISO 8601, a duration before now such as 24h, int µs since 1970, or @ and int µs. Where several streams may be meant,
    PATH may have the wildcards * and ?.
    """


for _verb in (list_, create, insert, extract, remove, destroy, rename, intervals, metadata, copy, decimate, cleanup):
    stream.add_command(_verb)
