"""Rollups: stored summaries kept fresh, downsampling in place, and what both must know of every write."""
