"""Influx line protocol."""
