"""Benchmarks: `python -m bench NAME` prints a table, beside peers measured in the same run. None asserts a time."""
