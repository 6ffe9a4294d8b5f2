"""Prometheus' text format and OpenMetrics."""
