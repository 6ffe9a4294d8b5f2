"""Pure bytes to values and back: a file or a room per format, no I/O."""
