"""The embedded engine: one SQLite catalog and hot log, immutable Parquet blocks, one writing process."""
