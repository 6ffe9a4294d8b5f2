"""Clients of a running server, in Python."""

from kymograph.client.streams import StreamClient

__all__ = ["StreamClient"]
