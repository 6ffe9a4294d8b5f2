"""Streams in a folder: the log of small insertions, blocks of encoded chunks, and their pyramids."""
