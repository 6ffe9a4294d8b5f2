"""Streams as users hold them: inserting, reading, following, bounding and working through them."""
