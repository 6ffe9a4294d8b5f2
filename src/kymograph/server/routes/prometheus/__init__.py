"""Prometheus' HTTP API over a store: queries, series, metadata, status, rules and administration."""

from __future__ import annotations

from kymograph.server.routes.prometheus import admin, exemplars, metadata, queries, rules, series, status, syntax

FACES = (queries, exemplars, series, metadata, rules, status, syntax, admin)
