"""Metrics in rings: definitions, samples in, questions about a window of seconds, as the ring face of HTTP has them."""
