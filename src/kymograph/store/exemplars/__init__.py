"""Exemplars of scalar series: a bounded table of them, newest kept."""
