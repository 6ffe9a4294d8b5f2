"""Retention of some scalar series that is shorter than that of all: lines of a selector and an age."""
