"""Sums before SQL: where a SELECT only groups and aggregates, its rows reach DataFusion as one row per run and bucket.

A statement goes: `blocks` finds such SELECTs and has them read stand-in tables; the planner plans that; `shape` makes sure
from the plan that the stand-ins serve aggregation and nothing else; `source` hands over the runs, made by `runs`.
Whatever is not certain raises `Unfit`, and the statement runs as it was written. docs/adr/0005-partial-sums-before-sql.md
"""
