"""Prometheus' remote write and remote read."""
