"""`kymo serve`: record this machine and serve it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kymograph.cli.words import DURATION, SIZE, folder
from kymograph.errors import InvalidInput
from kymograph.options import StoreOptions

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Record this machine into DIR and serve it.")
@folder
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; others need tokens.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    metavar="N",
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--interval",
    type=DURATION,
    default="1s",
    show_default=True,
    help="Between two looks at the machine, at least 100ms.",
)
@click.option("--scrape", multiple=True, metavar="URL", help="Record this Prometheus endpoint too; may be repeated.")
@click.option("--statsd", metavar="HOST:PORT", help="Listen for StatsD on TCP and UDP; :8125 is loopback.")
@click.option("--graphite", metavar="HOST:PORT", help="Listen for Graphite lines on TCP and UDP; :2003 is loopback.")
@click.option("--mqtt", metavar="URL", help="Record from this MQTT broker what is published to --topic.")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="TOPIC",
    help="What to subscribe to there, such as home/{room}/{metric}; may be repeated.",
)
@click.option("--simulate", type=click.IntRange(0, 100_000), default=0, metavar="N", help="Record N simulated GPUs.")
@click.option("--cap", type=SIZE, default="500MB", show_default=True, help="Bytes the folder may take; 0 is no cap.")
@click.option(
    "--retention", type=DURATION, default="90d", show_default=True, help="How long rows are kept; 0s is for ever."
)
@click.option(
    "--sync",
    type=click.Choice(["full", "normal", "off"]),
    default="full",
    show_default=True,
    help="full: a stored row survives power loss; normal: it survives a crash of the process; off: the system decides.",
)
@click.option(
    "--exemplars",
    type=click.IntRange(0),
    default=100_000,
    show_default=True,
    metavar="N",
    help="Exemplars kept, the newest; 0 keeps none.",
)
@click.option(
    "--max-series", type=click.IntRange(1), metavar="N", help="Scalar series there may be in all; default: no limit."
)
@click.option(
    "--max-new-series",
    type=click.IntRange(1),
    metavar="N",
    help="Those that may be new within an hour; default: no limit.",
)
@click.option("--tls-cert", type=_FILE, help="PEM file of the certificate.")
@click.option("--tls-key", type=_FILE, help="PEM file of its key.")
@click.option("--auth", is_flag=True, help="Ask for tokens on loopback too.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Another name of this server; may be repeated.",
)
@click.option("--path-prefix", default="", metavar="PATH", help="Where a reverse proxy shows this server.")
@click.option("--rules", multiple=True, type=_FILE, help="Evaluate this Prometheus rule file; may be repeated.")
@click.option(
    "--alertmanager", "alertmanagers", multiple=True, metavar="URL", help="Tell it about alerts; may be repeated."
)
@click.option("--open", "open_browser", is_flag=True, help="Show the page in a browser.")
def serve(dir: Path, cap: int, retention: int, **given: Any) -> int:
    """Record this machine into DIR and serve it: live page, SQL and telemetry over HTTP.

    DIR is made when missing. Ctrl-C stops it; nothing accepted is lost.
    """
    if (given["tls_cert"] is None) != (given["tls_key"] is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if given["interval"] <= 0:
        raise click.BadParameter("an interval must be positive", param_hint="--interval")
    try:
        StoreOptions(cap=cap or None)
    except InvalidInput as problem:
        raise click.BadParameter(str(problem), param_hint="--cap") from None
    from kymograph.server.app import serve as run

    given |= {name: list(given[name]) for name in ("scrape", "topics", "allowed_hosts", "rules", "alertmanagers")}
    return run(dir, cap=cap or None, age=retention or None, **given)
