"""Metrics over HTTP beside VictoriaMetrics and Prometheus: ingestion, disk, and three kinds of question."""

from bench.metrics.run import arguments, run

__all__ = ["arguments", "run"]
