"""Pure bytes to values and back: one file per format, no I/O."""
