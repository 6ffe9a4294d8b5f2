"""Rows of streams."""
